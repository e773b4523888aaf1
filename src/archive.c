/*
 * archive.c
 *		The archive of a topic: what was published, for a time.
 *
 * The archive is a ring of segments, ordinary tables of the topic's owner.
 * Published messages are appended to the current one.  When it covers its
 * share of the retention, the next one becomes current; a segment is emptied
 * by truncation, when the newest message in it has outlived the retention.  So
 * expiry costs the same for a thousand messages or a billion, nothing in the
 * archive needs vacuum, and no table is made or dropped after the archive was
 * turned on.  The price is that a message is kept for up to a sixth longer
 * than it need be.
 *
 * The topic's view shows all segments.  Partitions would do the same, but need
 * a job that makes them in time, and a row trigger on a partitioned table
 * cannot give the column by which it is partitioned.
 *
 * The key of a segment is (published_at, message_id): the order in which a
 * replay reads it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "archive.h"
#include "compat.h"
#include "delivery.h"
#include "owner.h"

/* What somebody has locked is looked at again after that time. */
#define BUSY_INTERVAL (10 * USECS_PER_SEC)

static const PgnColumn archive_columns[Natts_archive] = {
	{"body", TEXTOID, true},
	{"subject", TEXTOID, false},
	{"attributes", JSONBOID, false},
	{"group_id", TEXTOID, false},
	{"deduplication_id", TEXTOID, false},
	{"message_id", INT8OID, true},
	{"published_at", TIMESTAMPTZOID, true},
	{"publisher", NAMEOID, true},
};

static const AttrNumber archive_key[] = {Anum_archive_published_at, Anum_archive_message_id};

/* The name of a column's type. */
static const char *
type_name(const PgnColumn *column)
{
	return column->type == TEXTOID ? "text" :
		column->type == JSONBOID ? "jsonb" :
		column->type == INT8OID ? "bigint" :
		column->type == NAMEOID ? "name" : "timestamptz";
}

/* The statement that makes a topic's view, or changes what it shows. */
char *
pgn_topic_view_sql(int32 topic_id, bool archived)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE OR REPLACE VIEW pigeon.t_%d AS ", topic_id);
	for (int segment = 0; archived && segment < PGN_ARCHIVE_SEGMENTS; segment++)
	{
		appendStringInfoString(&sql, segment > 0 ? " UNION ALL SELECT " : "SELECT ");
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", archive_columns[i].name);
		appendStringInfo(&sql, " FROM pigeon.t_%d_%d", topic_id, segment);
	}
	if (!archived)
	{
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s NULL::%s AS %s", i > 0 ? "," : "SELECT",
							 type_name(&archive_columns[i]), archive_columns[i].name);
		appendStringInfoString(&sql, " WHERE false");
	}
	return sql.data;
}

/* The statements that make the segments of an archive. */
char *
pgn_archive_create_sql(int32 topic_id)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
	{
		appendStringInfo(&sql, "CREATE TABLE pigeon.t_%d_%d (", topic_id, segment);
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s %s%s, ", archive_columns[i].name, type_name(&archive_columns[i]),
							 archive_columns[i].not_null ? " NOT NULL" : "");
		appendStringInfoString(&sql, "PRIMARY KEY (published_at, message_id)) USING heap;");
	}
	return sql.data;
}

/* The statements that give the segments of an archive to another owner. */
char *
pgn_archive_owner_sql(int32 topic_id, const char *owner)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
		appendStringInfo(&sql, "ALTER TABLE pigeon.t_%d_%d OWNER TO %s;", topic_id, segment, quote_identifier(owner));
	return sql.data;
}

/* The statement that drops the segments of an archive. */
char *
pgn_archive_drop_sql(int32 topic_id)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "DROP TABLE ");
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
		appendStringInfo(&sql, "%spigeon.t_%d_%d", segment > 0 ? ", " : "", topic_id, segment);
	return sql.data;
}

/* Fail unless the view has the columns of a topic. */
void
pgn_archive_check_view(Relation view)
{
	TupleDesc	desc = RelationGetDescr(view);
	bool		same = desc->natts == Natts_archive;

	for (int i = 0; same && i < Natts_archive; i++)
		same = TupleDescAttr(desc, i)->atttypid == archive_columns[i].type;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("columns of view \"%s\" are not those of this version of pigeon",
						RelationGetRelationName(view)),
				 errhint("Undo the change that was made to the view, or run ALTER EXTENSION pigeon UPDATE.")));
}

/* Messages on their way into an archive. */
typedef struct ArchiveAppend
{
	const Message *messages;
	TimestampTz now;
	NameData	publisher;
} ArchiveAppend;

/* The row of a message. */
static HeapTuple
form_row(TupleDesc desc, int i, void *state)
{
	ArchiveAppend *append = state;
	const Message *message = &append->messages[i];
	Datum		values[Natts_archive];
	bool		isnull[Natts_archive] = {0};

#define SET(column, value) values[Anum_archive_##column - 1] = (value)
#define SET_POINTER(column, pointer) \
	(values[Anum_archive_##column - 1] = PointerGetDatum(pointer), \
	 isnull[Anum_archive_##column - 1] = (pointer) == NULL)
	SET_POINTER(body, message->body);
	SET_POINTER(subject, message->subject);
	SET_POINTER(attributes, message->attributes);
	SET_POINTER(group_id, message->group_id);
	SET_POINTER(deduplication_id, message->deduplication_id);
	SET(message_id, Int64GetDatum(message->message_id));
	SET(published_at, TimestampTzGetDatum(append->now));
	SET(publisher, NameGetDatum(message->sender ? message->sender : &append->publisher));
#undef SET
#undef SET_POINTER
	return heap_form_tuple(desc, values, isnull);
}

/* The table of a segment; an error if somebody dropped it. */
static Oid
segment_table(const Topic *topic, int segment)
{
	Oid			relid = pgn_relation(psprintf("t_%d_%d", topic->id, segment));

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the archive of topic \"%s\" is incomplete", topic->name),
				 errhint("Turn it off and on again with pigeon.alter_topic().")));
	return relid;
}

/* Open a segment. */
static void
open_segment(PgnTable *table, const Topic *topic, int segment, LOCKMODE lockmode)
{
	pgn_table_open(table, segment_table(topic, segment), lockmode);
	pgn_table_check_columns(table->rel, archive_columns, Natts_archive);
}

/* Append messages, already numbered, to the archive of a topic that has one. */
void
pgn_archive_append(const Topic *topic, const Message *messages, int n, TimestampTz now)
{
	PgnTable	table;
	ArchiveAppend append = {.messages = messages,.now = now};

	namestrcpy(&append.publisher, GetUserNameFromId(GetUserId(), false));
	open_segment(&table, topic, topic->attributes.archive_segment, RowExclusiveLock);
	pgn_table_insert_many(&table, n, form_row, &append, NULL);
	pgn_table_close(&table, NoLock);
}

/* When the newest message of a segment was published; PGN_NEVER if it has none. */
static TimestampTz
newest_message(PgnTable *table)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	IndexScanDesc scan = pgn_index_beginscan(table->rel, pgn_table_index(table, archive_key, 2), snapshot, 0);
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	TimestampTz newest = PGN_NEVER;
	bool		isnull;

	index_rescan(scan, NULL, 0, NULL, 0);
	if (index_getnext_slot(scan, BackwardScanDirection, slot))
		newest = DatumGetTimestampTz(slot_getattr(slot, Anum_archive_published_at, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	UnregisterSnapshot(snapshot);
	return newest;
}

/*
 * Has a segment expired, its newest message having been published before that
 * time?  False also if it is *empty.  Keeps the lock if that is to be kept.
 */
static bool
has_expired(const Topic *topic, int segment, TimestampTz before, LOCKMODE lockmode, bool keep, bool *empty)
{
	PgnTable	table;
	bool		expired;

	open_segment(&table, topic, segment, lockmode);
	*empty = RelationGetNumberOfBlocks(table.rel) == 0;
	expired = !*empty && newest_message(&table) < before;
	pgn_table_close(&table, keep ? NoLock : lockmode);
	return expired;
}

/*
 * Empty a segment if its newest message was published before that time.  True
 * if it is empty.  Waits for nobody.
 *
 * The table is the topic's owner's, and it is emptied as the extension's.  So it
 * is opened again under the lock that keeps triggers away, which fails if
 * there is one by now, and keeps it from being renamed.  Nobody is open then who
 * has appended to it, either.
 */
static bool
empty_segment(const Topic *topic, int segment, TimestampTz before)
{
	PgnOwner	as_owner;
	bool		empty;

	if (!has_expired(topic, segment, before, AccessShareLock, false, &empty) ||
		!ConditionalLockRelationOid(segment_table(topic, segment), AccessExclusiveLock) ||
		!has_expired(topic, segment, before, AccessExclusiveLock, true, &empty))
		return empty;
	pgn_owner_begin(&as_owner);
	pgn_owner_execute(psprintf("TRUNCATE ONLY pigeon.t_%d_%d", topic->id, segment), 0, NULL, NULL, NULL);
	pgn_owner_end(&as_owner);
	return true;
}

/* Make another segment the one to append to. */
static void
rotate(Topic *topic, int segment)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, INT4OID};
	Datum		values[] = {Int32GetDatum(topic->id), Int32GetDatum(segment)};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("UPDATE pigeon.topic SET archive_segment = $2, archive_since = clock_timestamp()"
					  " WHERE id = $1", 2, types, values, NULL);
	pgn_owner_end(&as_owner);
	CacheInvalidateRelcacheByRelid(topic->relid);
}

/*
 * Empty what has expired and go on to the next segment if it is time; return
 * when to look again.  Only one process does this for a topic at a time.
 */
TimestampTz
pgn_archive_maintain(Topic *topic, TimestampTz now)
{
	TopicAttributes a = topic->attributes;
	int64		share = a.archive_retention / (PGN_ARCHIVE_SEGMENTS - 2);
	int			next = (a.archive_segment + 1) % PGN_ARCHIVE_SEGMENTS;
	TimestampTz look_again = now + Max(share / 4, USECS_PER_SEC);
	bool		next_is_empty = false;

	/* In this order, as who alters a topic does. */
	if (!ConditionalLockRelationOid(pgn_relation("topic"), RowExclusiveLock) ||
		!ConditionalLockRelationOid(topic->relid, ShareUpdateExclusiveLock))
		return Min(look_again, now + BUSY_INTERVAL);
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
	{
		if (segment == a.archive_segment)
			continue;
		if (empty_segment(topic, segment, now - a.archive_retention) && segment == next)
			next_is_empty = true;
	}
	if (next_is_empty && now >= a.archive_since + share)
		rotate(topic, next);
	return look_again;
}

/* Find the segment whose row comes next. */
static void
find_next(ArchiveScan *scan)
{
	TimestampTz best_time = 0;
	int64		best_id = 0;

	scan->next = -1;
	for (int i = 0; i < PGN_ARCHIVE_SEGMENTS; i++)
	{
		TupleTableSlot *slot = scan->segments[i].slot;
		TimestampTz time;
		int64		id;
		bool		isnull;

		if (TTS_EMPTY(slot))
			continue;
		time = DatumGetTimestampTz(slot_getattr(slot, Anum_archive_published_at, &isnull));
		id = DatumGetInt64(slot_getattr(slot, Anum_archive_message_id, &isnull));
		if (scan->next >= 0 && (time > best_time || (time == best_time && id > best_id)))
			continue;
		scan->next = i;
		best_time = time;
		best_id = id;
	}
}

/* Fetch the next row of a segment; its slot is empty at the end. */
static void
fetch(ArchiveScan *scan, int segment)
{
	if (!index_getnext_slot(scan->segments[segment].scan, ForwardScanDirection, scan->segments[segment].slot))
		ExecClearTuple(scan->segments[segment].slot);
}

/* Walk over what was published from that time on. */
void
pgn_archive_scan_begin(ArchiveScan *scan, const Topic *topic, TimestampTz from, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	for (int i = 0; i < PGN_ARCHIVE_SEGMENTS; i++)
	{
		PgnTable   *table = &scan->segments[i].table;

		open_segment(table, topic, i, AccessShareLock);
		scan->segments[i].slot = table_slot_create(table->rel, NULL);
		scan->segments[i].scan = pgn_index_beginscan(table->rel, pgn_table_index(table, archive_key, 2),
													 snapshot, 1);
		index_rescan(scan->segments[i].scan, &key, 1, NULL, 0);
		fetch(scan, i);
	}
	scan->next = -1;
}

/* The next row, good until the next call; NULL at the end. */
TupleTableSlot *
pgn_archive_scan_next(ArchiveScan *scan)
{
	if (scan->next >= 0)
		fetch(scan, scan->next);
	find_next(scan);
	return scan->next < 0 ? NULL : scan->segments[scan->next].slot;
}

/* End a walk. */
void
pgn_archive_scan_end(ArchiveScan *scan)
{
	for (int i = 0; i < PGN_ARCHIVE_SEGMENTS; i++)
	{
		index_endscan(scan->segments[i].scan);
		ExecDropSingleTupleTableSlot(scan->segments[i].slot);
		pgn_table_close(&scan->segments[i].table, AccessShareLock);
	}
}
