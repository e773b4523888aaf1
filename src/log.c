/*
 * log.c
 *		The message log: every body is written here once and never changed.
 *
 * The log is a generational heap.  A ring of segment tables takes appends,
 * one of them at a time; log_rotation.c truncates a sealed segment when no
 * delivery refers to it any more, and moves the few messages that keep it
 * alive to the old generation (pigeon.log_old) first.  So nothing in a segment
 * ever needs vacuum, and space is bounded even while a long transaction holds
 * back the xmin horizon.
 *
 * A delivery says in which segment its message was written.  That may be out
 * of date in one way only: the message has moved to the old generation.  So a
 * reader looks in the segment first and in the old generation next.
 *
 * It also says at which place the message's row is, but that is only a hint:
 * VACUUM FULL, a dump, or logical replication moves rows.  So a reader looks
 * there, and if it finds another row or none, in the index.
 *
 * Which segment is current is kept in pigeon.log_state and cached here.  A
 * sender that has not yet heard of a rotation appends to a sealed segment;
 * that is harmless, since a segment is judged by what is in it when it is
 * truncated, not by what was in it when it was sealed.
 *
 * Link and secret.  A log row and the deliveries of its message carry the
 * same random log_key.  Queue tables belong to the users who create queues,
 * so anybody may write a row there that names some message_id; without the
 * key of that message it reads nothing.
 *
 * Rows are read with SnapshotAny: the delivery that led here is visible, and
 * a log row is written in the same transaction as its first delivery and
 * removed only when no delivery is left, so there is nothing to decide.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "log.h"
#include "message_id.h"
#include "queue.h"
#include "table.h"

/* A message not further away than this from the one before is walked to. */
#define MAX_STEP 4

/* How far a walk over messages goes before a new one is begun. */
#define WALK_LENGTH 100

/* The current segment as this backend knows it. */
static int	current_segment = -1;
static Oid	log_state_relid = InvalidOid;

/* Relations that were looked up by their names. */
static Oid	segment_relids[PGN_LOG_OLD + 1];

/*
 * Relcache callback.  A rotation sends an invalidation for pigeon.log_state; a
 * relation that is dropped or renamed, one for itself.
 */
static void
invalidate_log(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == log_state_relid)
		current_segment = -1;
	for (int i = 0; i <= PGN_LOG_OLD; i++)
		if (!OidIsValid(relid) || relid == segment_relids[i])
			segment_relids[i] = InvalidOid;
}

/* Register for invalidations; called once per backend. */
void
pgn_log_init(void)
{
	CacheRegisterRelcacheCallback(invalidate_log, (Datum) 0);
}

/* The table of a segment, or of the old generation. */
Oid
pgn_log_segment(int segment)
{
	char		name[NAMEDATALEN] = "log_old";
	Oid			relid;

	if (segment >= 0 && segment <= PGN_LOG_OLD && OidIsValid(segment_relids[segment]))
		return segment_relids[segment];
	if (segment != PGN_LOG_OLD)
		snprintf(name, sizeof(name), "log_%d", segment);
	relid = segment >= 0 && segment <= PGN_LOG_OLD ? pgn_relation(name) : InvalidOid;
	if (!OidIsValid(relid))
		elog(ERROR, "message log table \"%s\" is missing", name);
	return segment_relids[segment] = relid;
}

/* The segment to append to, as of the last rotation that we have heard of. */
int
pgn_log_current_segment(void)
{
	if (current_segment < 0)
	{
		Relation	state;
		Snapshot	snapshot;
		SysScanDesc scan;
		HeapTuple	tuple;
		int			segment = 0;

		log_state_relid = pgn_relation("log_state");
		state = table_open(log_state_relid, AccessShareLock);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = systable_beginscan(state, InvalidOid, false, snapshot, 0, NULL);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			bool		isnull;

			segment = DatumGetInt16(heap_getattr(tuple, 2, RelationGetDescr(state), &isnull));
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
		table_close(state, AccessShareLock);
		current_segment = segment;
	}
	return current_segment;
}

/* A key nobody can guess.  Random bytes are bought by the page. */
static int64
random_key(void)
{
	static int64 keys[64];
	static int	left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(keys, sizeof(keys)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random number")));
		left = lengthof(keys);
	}
	return keys[--left];
}

/* Messages on their way into the log. */
typedef struct LogAppend
{
	Message    *messages;
	TimestampTz sent_at;
	text	   *sender;			/* of those that do not say it */
	int			segment;
} LogAppend;

/* Give a message its key, and make its row. */
static HeapTuple
form_row(TupleDesc desc, int i, void *state)
{
	LogAppend  *append = state;
	Message    *message = &append->messages[i];
	Datum		values[Natts_log];
	bool		isnull[Natts_log] = {0};

	message->log_key = random_key();
	message->place.segment = append->segment;

#define SET(column, value) values[Anum_log_##column - 1] = (value)
#define SET_POINTER(column, pointer) \
	(values[Anum_log_##column - 1] = PointerGetDatum(pointer), \
	 isnull[Anum_log_##column - 1] = (pointer) == NULL)
	SET(message_id, Int64GetDatum(message->message_id));
	SET(log_key, Int64GetDatum(message->log_key));
	SET(sent_at, TimestampTzGetDatum(append->sent_at));
	SET(sender, PointerGetDatum(message->sender ? cstring_to_text(NameStr(*message->sender)) : append->sender));
	SET_POINTER(body, message->body);
	SET_POINTER(attributes, message->attributes);
	SET_POINTER(group_id, message->group_id);
	SET_POINTER(deduplication_id, message->deduplication_id);
	SET_POINTER(topic, message->topic);
	SET_POINTER(subject, message->subject);
	SET(replayed_message_id, Int64GetDatum(message->replayed_message_id));
	isnull[Anum_log_replayed_message_id - 1] = message->replayed_message_id == 0;
#undef SET
#undef SET_POINTER
	return heap_form_tuple(desc, values, isnull);
}

/*
 * Write messages to the log.  Gives each its message_id, in order (unless it
 * has one), its log_key and its place.  The segment's lock is kept to the
 * end of the transaction: who holds AccessExclusiveLock on a segment knows that
 * nobody who appended to it is still open.
 */
void
pgn_log_append(Message *messages, int n, TimestampTz sent_at)
{
	PgnTable	table;
	ItemPointerData *places = palloc(n * sizeof(ItemPointerData));
	PgnInserted wanted = {.places = places};
	LogAppend	append = {
		.messages = messages,
		.sent_at = sent_at,
		.segment = pgn_log_current_segment()
	};

	pgn_number_messages(messages, n);
	append.sender = cstring_to_text(GetUserNameFromId(GetUserId(), false));
	pgn_table_open(&table, pgn_log_segment(append.segment), RowExclusiveLock);
	pgn_table_insert_many(&table, n, form_row, &append, &wanted);
	pgn_table_close(&table, NoLock);
	for (int i = 0; i < n; i++)
	{
		messages[i].place.block = ItemPointerGetBlockNumber(&places[i]);
		messages[i].place.offset = ItemPointerGetOffsetNumber(&places[i]);
	}
	pfree(places);
}

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
	reader->segments[i].nblocks = RelationGetNumberOfBlocks(reader->segments[i].rel);
	reader->segments[i].slot = MakeSingleTupleTableSlot(RelationGetDescr(reader->segments[i].rel),
														&TTSOpsBufferHeapTuple);
}

/* Go to a place in a segment, and have the row in the slot; false if there is none, or the snapshot does not show it. */
static bool
row_at(LogReader *reader, int i, const LogPlace *place)
{
	HeapTuple	row = &reader->segments[i].row;
	Page		page;
	Buffer		buffer;
	bool		found;

	if (place->block >= reader->segments[i].nblocks || place->offset == InvalidOffsetNumber)
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

/* Get ready to look for rows of a segment in its index. */
static void
open_index(LogReader *reader, int i)
{
	if (reader->segments[i].index != NULL)
		return;
	(void) RelationGetIndexList(reader->segments[i].rel);
	reader->segments[i].index = index_open(reader->segments[i].rel->rd_pkindex, AccessShareLock);
	reader->segments[i].scan = pgn_index_beginscan(reader->segments[i].rel, reader->segments[i].index,
												   reader->snapshot, 2);
}

/* Go to the next row that the scan of a segment finds; false if there is none. */
static bool
next_row(LogReader *reader, int i, int64 *message_id)
{
	TupleTableSlot *slot = reader->segments[i].slot;
	bool		isnull;

	if (!index_getnext_slot(reader->segments[i].scan, ForwardScanDirection, slot))
		return false;
	*message_id = DatumGetInt64(slot_getattr(slot, Anum_log_message_id, &isnull));
	return true;
}

/* Go to the first row of a range of messages in a segment; false if there is none. */
static bool
start_walk(LogReader *reader, int i, int64 from, int64 until, int64 *message_id)
{
	ScanKeyData keys[2];

	reader->segments[i].walk_until = until;
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(until));
	index_rescan(reader->segments[i].scan, keys, 2, NULL, 0);
	return next_row(reader, i, message_id);
}

/*
 * Go to the row of a message in a segment, and have it in the slot; false if
 * there is none.
 *
 * Messages that are received together mostly were sent one after another, so
 * from the second of a row on we walk in the index instead of looking for
 * each.  A walk reads ahead, and does not meet what was added meanwhile; so
 * what it does not find is looked for.
 */
static bool
find_row(LogReader *reader, int i, int64 message_id)
{
	int64		last = reader->segments[i].last;
	bool		follows = message_id > last && message_id - last <= MAX_STEP;
	bool		any = false;
	int64		found;

	reader->segments[i].last = message_id;
	if (follows && message_id <= reader->segments[i].walk_until)
	{
		do
			any = next_row(reader, i, &found);
		while (any && found < message_id);
	}
	if (!any || found != message_id)
	{
		int64		length = follows ? Min(WALK_LENGTH, PG_INT64_MAX - message_id) : 0;

		any = start_walk(reader, i, message_id, message_id + length, &found);
	}
	return any && found == message_id;
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

/* Is the row in the slot of a segment the message with this id and key? */
static bool
is_message(LogReader *reader, int i, int64 message_id, int64 log_key)
{
	TupleTableSlot *slot = reader->segments[i].slot;

	slot_getallattrs(slot);
	return DatumGetInt64(slot->tts_values[Anum_log_message_id - 1]) == message_id &&
		DatumGetInt64(slot->tts_values[Anum_log_log_key - 1]) == log_key;
}

/* Look for a message in the index of a segment, and have its row in the slot. */
static bool
look_for(LogReader *reader, int i, int64 message_id, int64 log_key)
{
	int64		next;
	bool		found;

	open_index(reader, i);
	found = find_row(reader, i, message_id);
	while (found && !is_message(reader, i, message_id, log_key))
	{
		found = next_row(reader, i, &next) && next == message_id;
		reader->segments[i].walk_until = PG_INT64_MIN;
	}
	return found;
}

/*
 * Read one message: true, and its columns in *entry, good until the next is
 * read and as long as the current memory context; false if there is none
 * with this id and key.
 */
bool
pgn_log_read(LogReader *reader, int64 message_id, int64 log_key, LogPlace place, LogEntry *entry)
{
	int			segments[2] = {place.segment, PGN_LOG_OLD};

	for (int i = 0; i < 2; i++)
	{
		int			segment = segments[i];
		MemoryContext old;
		bool		found;

		if (segment < 0 || segment > PGN_LOG_OLD)
			continue;
		/* What the scan keeps is the reader's. */
		old = MemoryContextSwitchTo(reader->context);
		open_segment(reader, segment);
		found = (i == 0 && row_at(reader, segment, &place) && is_message(reader, segment, message_id, log_key)) ||
			look_for(reader, segment, message_id, log_key);
		MemoryContextSwitchTo(old);
		if (found)
		{
			read_columns(reader->segments[segment].slot, entry);
			return true;
		}
	}
	return false;
}

/*
 * Close what was opened and give the locks back at once, so that a reader's
 * long transaction does not keep a segment from being truncated.
 */
void
pgn_log_reader_close(LogReader *reader)
{
	for (int i = 0; i <= PGN_LOG_OLD; i++)
	{
		if (reader->segments[i].rel == NULL)
			continue;
		if (reader->segments[i].index)
		{
			index_endscan(reader->segments[i].scan);
			index_close(reader->segments[i].index, AccessShareLock);
		}
		ExecDropSingleTupleTableSlot(reader->segments[i].slot);
		if (BufferIsValid(reader->segments[i].buffer))
			ReleaseBuffer(reader->segments[i].buffer);
		table_close(reader->segments[i].rel, AccessShareLock);
	}
}
