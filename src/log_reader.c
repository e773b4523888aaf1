/*
 * log_reader.c
 *		Reading messages from the log.
 *
 * A delivery says in which segment its message was written, and at which
 * place.  The segment may be out of date in one way only: the message has moved
 * to the old generation.  The place is only a hint: VACUUM FULL, a dump, or
 * logical replication moves rows.  So a reader looks there first; if it finds
 * another row or none, in the old generation, which has an index; and then all
 * over the segment, see log_scan.c.
 *
 * It has opened the segment before it looks in the old generation.  So if the
 * segment is truncated meanwhile the message had been copied before, and is
 * found there; or the truncation has to wait for the reader, and it is found in
 * the segment.
 *
 * Rows are read with SnapshotAny: the delivery that led here is visible, and
 * a log row is written in the same transaction as its first delivery and
 * removed only when no delivery is left, so there is nothing to decide.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "log_reader.h"
#include "table.h"

/* Start reading; costs nothing until the first message is read. */
void
pgn_log_reader_open(LogReader *reader)
{
	memset(reader, 0, sizeof(*reader));
	reader->context = CurrentMemoryContext;
	reader->snapshot = SnapshotAny;
}

/* Open a segment for reading, if it is not open; in the reader's context. */
static void
open_segment(LogReader *reader, int i)
{
	Oid			relid;

	if (reader->segments[i].rel != NULL)
		return;
	relid = pgn_log_segment(i);
	reader->segments[i].rel = table_open(relid, AccessShareLock);
	reader->segments[i].slot = MakeSingleTupleTableSlot(RelationGetDescr(reader->segments[i].rel),
														&TTSOpsBufferHeapTuple);
	pgn_log_search_begin(&reader->segments[i].search, reader->segments[i].rel, reader->snapshot);
}

/* Open the old generation, and a scan of its index, if that is not done; in the reader's context. */
static void
open_old(LogReader *reader)
{
	Relation	rel;

	open_segment(reader, PGN_LOG_OLD);
	if (reader->old_index != NULL)
		return;
	rel = reader->segments[PGN_LOG_OLD].rel;
	(void) RelationGetIndexList(rel);
	reader->old_index = index_open(rel->rd_pkindex, AccessShareLock);
	reader->old_scan = pgn_index_beginscan(rel, reader->old_index, reader->snapshot, 1);
}

/* Is the row in the slot of a segment the message with this id and key? */
static bool
is_message(LogReader *reader, int i, int64 message_id, int64 log_key)
{
	TupleTableSlot *slot = reader->segments[i].slot;

	slot_getallattrs(slot);
	return DatumGetInt64(slot->tts_values[Anum_log_message_id - 1]) == message_id &&
		DatumGetInt64(slot->tts_values[Anum_log_log_key - 1]) == log_key;
}

/* Go to a place in a segment, and have the row in the slot; false if there is none, or the snapshot does not show it. */
static bool
row_at(LogReader *reader, int i, const LogPlace *place)
{
	HeapTuple	row = &reader->segments[i].row;
	Page		page;
	Buffer		buffer;
	bool		found;

	if (!pgn_table_has_page(reader->segments[i].rel, place->block) || place->offset == InvalidOffsetNumber)
		return false;
	buffer = ReleaseAndReadBuffer(reader->segments[i].buffer, reader->segments[i].rel, place->block);
	reader->segments[i].buffer = buffer;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	found = place->offset <= PageGetMaxOffsetNumber(page) && ItemIdIsNormal(PageGetItemId(page, place->offset));
	if (found)
	{
		ItemId		item = PageGetItemId(page, place->offset);

		row->t_data = (HeapTupleHeader) PageGetItem(page, item);
		row->t_len = ItemIdGetLength(item);
		row->t_tableOid = RelationGetRelid(reader->segments[i].rel);
		ItemPointerSet(&row->t_self, place->block, place->offset);
		found = HeapTupleSatisfiesVisibility(row, reader->snapshot, buffer);
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (found)
		ExecStoreBufferHeapTuple(row, reader->segments[i].slot, buffer);
	return found;
}

/* Look for a message in the old generation, and have its row in the slot. */
static bool
find_old(LogReader *reader, int64 message_id, int64 log_key)
{
	ScanKeyData key;

	open_old(reader);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(message_id));
	index_rescan(reader->old_scan, &key, 1, NULL, 0);
	while (index_getnext_slot(reader->old_scan, ForwardScanDirection, reader->segments[PGN_LOG_OLD].slot))
		if (is_message(reader, PGN_LOG_OLD, message_id, log_key))
			return true;
	return false;
}

/* Search all of a segment for a message, and have its row in the slot. */
static bool
search_segment(LogReader *reader, int i, int64 message_id, int64 log_key)
{
	LogPlace	place;

	return pgn_log_search(&reader->segments[i].search, message_id, log_key, &place) &&
		row_at(reader, i, &place) && is_message(reader, i, message_id, log_key);
}

/* Find a message, and have its row in the slot of the segment that is returned; -1: there is none. */
static int
find_message(LogReader *reader, int64 message_id, int64 log_key, LogPlace place)
{
	int			segment = place.segment;

	if (segment < 0 || segment >= PGN_LOG_SEGMENTS)
		return find_old(reader, message_id, log_key) ? PGN_LOG_OLD : -1;
	open_segment(reader, segment);
	if (row_at(reader, segment, &place) && is_message(reader, segment, message_id, log_key))
		return segment;
	if (find_old(reader, message_id, log_key))
		return PGN_LOG_OLD;
	return search_segment(reader, segment, message_id, log_key) ? segment : -1;
}

/* The columns of the row in a slot, which stays the owner of those that it has whole. */
static void
read_columns(TupleTableSlot *slot, LogEntry *entry)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;

	for (int a = 0; a < Natts_log; a++)
	{
		entry->isnull[a] = slot->tts_isnull[a];
		entry->values[a] = slot->tts_values[a];
		/* What is kept elsewhere is fetched now: the lock is given back soon. */
		if (!entry->isnull[a] && TupleDescAttr(desc, a)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(entry->values[a])))
			entry->values[a] = PointerGetDatum(PG_DETOAST_DATUM(entry->values[a]));
	}
}

/*
 * Read one message: true, and its columns in *entry, good until the next is
 * read and as long as the current memory context; false if there is none
 * with this id and key.
 */
bool
pgn_log_read(LogReader *reader, int64 message_id, int64 log_key, LogPlace place, LogEntry *entry)
{
	/* What the scan keeps is the reader's. */
	MemoryContext caller = MemoryContextSwitchTo(reader->context);
	int			segment = find_message(reader, message_id, log_key, place);

	MemoryContextSwitchTo(caller);
	if (segment < 0)
		return false;
	read_columns(reader->segments[segment].slot, entry);
	return true;
}

/*
 * Close what was opened and give the locks back at once, so that a reader's
 * long transaction does not keep a segment from being truncated.
 */
void
pgn_log_reader_close(LogReader *reader)
{
	if (reader->old_index != NULL)
	{
		index_endscan(reader->old_scan);
		index_close(reader->old_index, AccessShareLock);
	}
	for (int i = 0; i <= PGN_LOG_OLD; i++)
	{
		if (reader->segments[i].rel == NULL)
			continue;
		ExecDropSingleTupleTableSlot(reader->segments[i].slot);
		if (BufferIsValid(reader->segments[i].buffer))
			ReleaseBuffer(reader->segments[i].buffer);
		table_close(reader->segments[i].rel, AccessShareLock);
	}
}
