/*
 * schedule.c
 *		When the message groups of a FIFO queue may have something to deliver.
 *
 * A FIFO queue has a second table, g_<id>, with entries that say: group G may
 * have something to deliver at time T.  A receive walks the entries that are
 * due, so what it costs depends neither on how many groups are blocked (their
 * entries lie in the future) nor on how many messages wait behind one (a group
 * has one entry, however many messages it has).
 *
 * An entry is a hint.  It may come too early, and there may be several of one
 * group; both cost a look at the group and are then put right.  What must hold
 * is this:
 *
 *		Each group with a committed message has a committed entry whose
 *		visible_at is not later than the time from which the group has
 *		something to deliver.
 *
 * Whoever changes what a group has to deliver (fifo.c) sees to that, under the
 * latch of the group, with pgn_schedule_ensure().  Nobody waits there for an
 * entry that an open transaction has changed, and how that transaction ends is
 * not known; so an entry counts only if it is sure to stay:
 *
 *	- a committed one (or one of our own) that nobody is changing, or
 *
 *	- a committed one that an open transaction has replaced, if the
 *	  replacement is found, will do as well, and was not changed again: one
 *	  of the two will be left.
 *
 * If none is sure to stay, a free one is changed, or else a new one added.
 *
 * Why this is enough.  Take a group and all transactions that did something to
 * it under its latch, and of those that committed the one that came last, L.
 * L looked at the rows of everybody before it with a dirty snapshot, and made
 * sure that an entry will do whether they commit or abort.  Those after L
 * aborted, so left nothing, and what they changed is as L saw it.  A rolled
 * back savepoint is an abort of part of a transaction, and a prepared
 * transaction is one that is still open.
 *
 * Where to start.  An entry also says where its group begins, so that a walk
 * over the group need not pass the messages that were deleted since the last
 * vacuum.  A walk that starts too late would break the order, so this must be
 * right in every entry, whatever becomes of open transactions:
 *
 *	- It is raised by a look at the group that started from an entry that was
 *	  free, or at the very beginning, and found nothing below, not even a
 *	  message that somebody else is deleting.  What the same transaction has
 *	  deleted comes back only together with the old version of the entry.
 *
 *	- A sender's messages come after all others.  Who puts a message below
 *	  (dead letters, redrive) does not do it while a sender is open, who may
 *	  have a number that is lower still and no row yet.  And he first lowers
 *	  all entries of the group, and does not do it if one that is too high is
 *	  not free; see pgn_schedule_lower().
 *
 *	- An entry is read again under the latch before a walk relies on it.
 *
 * Dead versions.  A group that is received from and deleted from leaves dead
 * entries in both indexes.  Walks over due entries start at the frontier (see
 * frontier.c), and a lookup by group looks at the latest few versions only, or
 * at one that is free: what it misses can but lead to one entry too many.
 *
 * A B-tree scan reads all that it wants of a page before it returns the first
 * entry.  A receive mostly wants just one of the hundreds of groups that are
 * due; so a walk over due entries scans a short time at first, and a longer one
 * whenever that is done.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "activity.h"
#include "compat.h"
#include "delivery.h"
#include "frontier.h"
#include "known_place.h"
#include "schedule.h"

#define ENTRY_DATA_SIZE (offsetof(ScheduleEntry, final) + sizeof(bool))

static const PgnColumn schedule_columns[Natts_schedule] = {
	{"group_key", INT8OID, true},
	{"first_message_id", INT8OID, true},
	{"visible_at", TIMESTAMPTZOID, true},
	{"final", BOOLOID, true},
};

/* How long a time a walk over due entries scans at first, and how much longer ones next. */
#define FIRST_PART INT64CONST(1000)
#define PART_GROWTH 16

static const AttrNumber due_index[] = {Anum_schedule_visible_at};
static const AttrNumber group_index[] = {Anum_schedule_group_key, Anum_schedule_visible_at};

/*
 * The statements that create the schedule of a queue.  Its pages are a quarter
 * full: an entry changes all the time, and the dead versions that leaves are
 * pruned by whoever comes by, at a cost that grows with what is on the page.
 * It has no key; for logical replication the whole row is one.
 */
char *
pgn_schedule_table_sql(int32 queue_id)
{
	return psprintf("CREATE TABLE pigeon.g_%d (group_key bigint NOT NULL, first_message_id bigint NOT NULL,"
					" visible_at timestamptz NOT NULL, final boolean NOT NULL) USING heap WITH (fillfactor = 25);"
					"CREATE INDEX g_%d_due ON pigeon.g_%d (visible_at) WITH (deduplicate_items = off);"
					"CREATE INDEX g_%d_group ON pigeon.g_%d (group_key, visible_at) WITH (deduplicate_items = off);"
					"ALTER TABLE pigeon.g_%d REPLICA IDENTITY FULL",
					queue_id, queue_id, queue_id, queue_id, queue_id, queue_id);
}

/* The table of a queue's schedule, InvalidOid if it is missing. */
static Oid
schedule_relid(const Queue *queue)
{
	char		name[NAMEDATALEN];

	snprintf(name, sizeof(name), "g_%d", queue->id);
	return pgn_relation(name);
}

/* Make the slot of a schedule. */
static void
make_slot(Schedule *schedule)
{
	schedule->slot = MakeSingleTupleTableSlot(RelationGetDescr(schedule->table.rel), &TTSOpsBufferHeapTuple);
}

/* Open the schedule of a FIFO queue that is already locked. */
void
pgn_schedule_open(Schedule *schedule, Queue *queue, LOCKMODE lockmode)
{
	Oid			relid = schedule_relid(queue);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"g_%d\" of FIFO queue \"%s\" is missing", queue->id, queue->name),
				 errhint("Drop the queue and create it again.")));
	schedule->queue = queue;
	pgn_table_open(&schedule->table, relid, lockmode);
	pgn_table_check_columns(schedule->table.rel, schedule_columns, Natts_schedule);
	make_slot(schedule);
}

/* The same, but false, and nothing open, if it cannot be had at once or is not usable. */
bool
pgn_schedule_try_open(Schedule *schedule, Queue *queue, LOCKMODE lockmode)
{
	Oid			relid = schedule_relid(queue);
	bool		usable;

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, lockmode))
		return false;
	schedule->queue = queue;
	usable = pgn_table_try_open(&schedule->table, relid, lockmode);
	UnlockRelationOid(relid, lockmode);
	if (usable && !(pgn_table_has_columns(schedule->table.rel, schedule_columns, Natts_schedule) &&
					pgn_table_find_index(&schedule->table, due_index, lengthof(due_index))))
	{
		pgn_table_close(&schedule->table, lockmode);
		return false;
	}
	if (usable)
		make_slot(schedule);
	return usable;
}

/* Lock the schedule of a queue to the end of the transaction, or return false; true if there is none. */
bool
pgn_schedule_lock_now(const Queue *queue, LOCKMODE lockmode)
{
	Oid			relid = schedule_relid(queue);

	return !OidIsValid(relid) || ConditionalLockRelationOid(relid, lockmode);
}

/* Undo that. */
void
pgn_schedule_unlock(const Queue *queue, LOCKMODE lockmode)
{
	Oid			relid = schedule_relid(queue);

	if (OidIsValid(relid))
		UnlockRelationOid(relid, lockmode);
}

/* Would an insert into the schedule succeed?  It is locked as for one; if "unlock" is NoLock, to the end of the transaction. */
bool
pgn_schedule_usable(const Queue *queue, LOCKMODE unlock)
{
	Oid			relid = schedule_relid(queue);
	PgnTable	table;
	bool		usable;

	if (!OidIsValid(relid) || !pgn_table_try_open(&table, relid, RowExclusiveLock))
		return false;
	usable = pgn_table_has_columns(table.rel, schedule_columns, Natts_schedule) &&
		pgn_table_unique_by(&table, NULL, 0) &&
		pgn_table_find_index(&table, due_index, lengthof(due_index)) &&
		pgn_table_find_index(&table, group_index, lengthof(group_index));
	pgn_table_close(&table, unlock);
	return usable;
}

/* Close it; NoLock keeps the lock to the end of the transaction. */
void
pgn_schedule_close(Schedule *schedule, LOCKMODE lockmode)
{
	ExecDropSingleTupleTableSlot(schedule->slot);
	pgn_table_close(&schedule->table, lockmode);
}

/* The row of an entry. */
static HeapTuple
form_row(Schedule *schedule, const ScheduleEntry *entry)
{
	Datum		values[Natts_schedule] = {
		Int64GetDatum(entry->group_key),
		Int64GetDatum(entry->first_message_id),
		TimestampTzGetDatum(entry->visible_at),
		BoolGetDatum(entry->final)
	};
	bool		isnull[Natts_schedule] = {0};

	return heap_form_tuple(RelationGetDescr(schedule->table.rel), values, isnull);
}

/* Remember where the new version of an entry was put, and tell others of it. */
static void
entry_written(Schedule *schedule, const ScheduleEntry *entry, HeapTuple row)
{
	pgn_place_remember(RelationGetRelid(schedule->table.rel), entry->group_key, row->t_self);
	schedule->queue->changed_in = pgn_local_transaction();
	pgn_frontier_lower(schedule->queue, PGN_LANE_NORMAL, entry->visible_at);
	pgn_activity_written(schedule->queue, entry->visible_at, entry->visible_at);
}

/* Add an entry. */
static void
add_entry(Schedule *schedule, const ScheduleEntry *entry)
{
	HeapTuple	row = form_row(schedule, entry);

	pgn_table_insert(&schedule->table, row);
	entry_written(schedule, entry, row);
	heap_freetuple(row);
}

/* Change an entry to another time.  False if somebody else was first. */
bool
pgn_schedule_move(Schedule *schedule, const ScheduleVersion *version, const ScheduleEntry *entry)
{
	HeapTuple	row = form_row(schedule, entry);
	ItemPointerData tid = version->tid;
	TM_Result	result;

	result = pgn_table_update(&schedule->table, &tid, row,
							  PGN_COLUMN(Anum_schedule_first_message_id) |
							  PGN_COLUMN(Anum_schedule_visible_at) | PGN_COLUMN(Anum_schedule_final), false);
	if (result == TM_Ok)
		entry_written(schedule, entry, row);
	heap_freetuple(row);
	return result == TM_Ok;
}

/* Remove an entry.  False if somebody else was first. */
bool
pgn_schedule_remove(Schedule *schedule, const ScheduleVersion *version)
{
	ItemPointerData tid = version->tid;

	schedule->queue->changed_in = pgn_local_transaction();
	return pgn_table_delete(&schedule->table, &tid, false) == TM_Ok;
}

/* The version in a slot that a scan with the given dirty snapshot returned. */
static void
read_version(Relation rel, TupleTableSlot *slot, const SnapshotData *dirty, ScheduleVersion *version)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
	uint16		infomask = tuple->t_data->t_infomask;

	if (HeapTupleHasNulls(tuple) || HeapTupleHeaderGetNatts(tuple->t_data) != Natts_schedule ||
		tuple->t_len < tuple->t_data->t_hoff + ENTRY_DATA_SIZE)
		pgn_bad_row(rel);
	memcpy(&version->row, GETSTRUCT(tuple), ENTRY_DATA_SIZE);
	version->tid = slot->tts_tid;
	version->inserter = dirty->xmin;
	version->changer = dirty->xmax;
	version->superseded = TransactionIdIsValid(dirty->xmax) ||
		!((infomask & HEAP_XMAX_INVALID) || HEAP_XMAX_IS_LOCKED_ONLY(infomask));
}

/* Is a version committed, or our own, and left alone by everybody? */
static bool
is_free(const ScheduleVersion *version)
{
	return !TransactionIdIsValid(version->inserter) && !TransactionIdIsValid(version->changer);
}

/* Start a walk over one of the indexes. */
static void
begin_scan(ScheduleScan *scan, Schedule *schedule, Relation index, ScanKey keys, int nkeys)
{
	Relation	rel = schedule->table.rel;

	scan->schedule = schedule;
	InitDirtySnapshot(scan->dirty);
	scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsBufferHeapTuple);
	scan->scan = pgn_index_beginscan(rel, index, &scan->dirty, nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/* The keys of a part of a walk over due entries; all that is left if there is no telling where they begin. */
static void
begin_part(ScheduleScan *scan, TimestampTz from, ScanKeyData *keys)
{
	if (from == PG_INT64_MIN || from > scan->until || scan->until - from < scan->part)
		scan->part_until = scan->until;
	else
		scan->part_until = from + scan->part;
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE,
				TimestampTzGetDatum(scan->part_until));
}

/* Walk over the entries that are due between "from" and "until", the earliest first. */
void
pgn_schedule_scan_begin(ScheduleScan *scan, Schedule *schedule, TimestampTz from, TimestampTz until)
{
	ScanKeyData keys[2];

	scan->until = until;
	scan->part = FIRST_PART;
	begin_part(scan, from, keys);
	begin_scan(scan, schedule, pgn_table_index(&schedule->table, due_index, 1), keys, 2);
}

/* Walk over all entries of a group. */
static void
begin_group_scan(ScheduleScan *scan, Schedule *schedule, int64 group_key)
{
	ScanKeyData key;

	scan->until = scan->part_until = 0;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group_key));
	begin_scan(scan, schedule, pgn_table_index(&schedule->table, group_index, 2), &key, 1);
}

/* Go to the next index entry; false at the end. */
static bool
next_index_entry(ScheduleScan *scan)
{
	while (!index_getnext_tid(scan->scan, ForwardScanDirection))
	{
		ScanKeyData keys[2];

		if (scan->part_until == scan->until)
			return false;
		scan->part = scan->part > PG_INT64_MAX / PART_GROWTH ? PG_INT64_MAX : scan->part * PART_GROWTH;
		begin_part(scan, scan->part_until + 1, keys);
		index_rescan(scan->scan, keys, 2, NULL, 0);
	}
	return true;
}

/*
 * The next version of an entry, if it is among the next *limit index entries,
 * dead ones included.  False at the end, and if the limit is reached, with
 * *limit negative then.
 */
bool
pgn_schedule_scan_next_within(ScheduleScan *scan, ScheduleVersion *version, int64 *limit)
{
	for (;;)
	{
		if (!scan->scan->xs_heap_continue && (--*limit < 0 || !next_index_entry(scan)))
			return false;
		if (index_fetch_heap(scan->scan, scan->slot))
		{
			read_version(scan->schedule->table.rel, scan->slot, &scan->dirty, version);
			return true;
		}
	}
}

/* The next version of an entry, or false at the end. */
bool
pgn_schedule_scan_next(ScheduleScan *scan, ScheduleVersion *version)
{
	int64		limit = PG_INT64_MAX;

	return pgn_schedule_scan_next_within(scan, version, &limit);
}

/*
 * How many index entries, but no more than "limit", are left of a walk that has
 * not come to its end, dead ones included; without looking at their rows.
 */
int64
pgn_schedule_scan_count(ScheduleScan *scan, int64 limit)
{
	int64		n = 0;

	while (n < limit && next_index_entry(scan))
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	return n;
}

/* End a walk. */
void
pgn_schedule_scan_end(ScheduleScan *scan)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
}

/* Is an entry that a scan has returned still there, and left alone by everybody? */
bool
pgn_schedule_is_free(Schedule *schedule, const ScheduleVersion *version)
{
	ItemPointerData tid = version->tid;
	SnapshotData dirty;
	bool		is_free;

	InitDirtySnapshot(dirty);
	is_free = table_tuple_fetch_row_version(schedule->table.rel, &tid, &dirty, schedule->slot) &&
		!TransactionIdIsValid(dirty.xmin) && !TransactionIdIsValid(dirty.xmax);
	ExecClearTuple(schedule->slot);
	return is_free;
}

/* The entry of a group that this backend has written last, if that is still there and free. */
static bool
find_known(Schedule *schedule, int64 group_key, ScheduleVersion *version)
{
	Relation	rel = schedule->table.rel;
	ItemPointerData place;
	SnapshotData dirty;

	if (!pgn_place_recall(RelationGetRelid(rel), group_key, &place))
		return false;
	InitDirtySnapshot(dirty);
	if (!pgn_table_has_page(rel, ItemPointerGetBlockNumber(&place)) ||
		!table_tuple_fetch_row_version(rel, &place, &dirty, schedule->slot))
		return false;
	read_version(rel, schedule->slot, &dirty, version);
	return version->row.group_key == group_key && is_free(version);
}

/*
 * Find the latest entries of a group; "any": none beyond the first that is
 * free, and any will do.  The caller has the group's latch.
 */
void
pgn_schedule_lookup(Schedule *schedule, int64 group_key, bool any, ScheduleLookup *lookup)
{
	Relation	rel = schedule->table.rel;
	TupleTableSlot *slot = schedule->slot;
	IndexScanDesc scan;
	SnapshotData dirty;
	ScanKeyData key;

	lookup->n = any && find_known(schedule, group_key, &lookup->versions[0]);
	ExecClearTuple(slot);
	if (lookup->n > 0)
		return;
	scan = pgn_index_beginscan(rel, pgn_table_index(&schedule->table, group_index, 2), SnapshotAny, 1);
	InitDirtySnapshot(dirty);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group_key));
	index_rescan(scan, &key, 1, NULL, 0);

	/*
	 * Dead versions count too, so that a look costs the same however many
	 * there are.
	 */
	for (int i = 0; i < PGN_LOOKUP_VERSIONS; i++)
	{
		if (!index_getnext_slot(scan, BackwardScanDirection, slot))
			break;
		if (!table_tuple_satisfies_snapshot(rel, slot, &dirty))
			continue;
		read_version(rel, slot, &dirty, &lookup->versions[lookup->n]);
		if (is_free(&lookup->versions[lookup->n++]) && any)
			break;
	}
	index_endscan(scan);
	ExecClearTuple(slot);
}

/*
 * From which message on to look at a group whose entries were looked up.  Any
 * free entry knows; the others depend on how a transaction ends.
 */
int64
pgn_schedule_first_message(const ScheduleLookup *lookup)
{
	int64		first = lookup->n > 0 ? lookup->versions[0].row.first_message_id : 0;

	for (int i = 0; i < lookup->n; i++)
		first = is_free(&lookup->versions[i]) ?
			Min(first, lookup->versions[i].row.first_message_id) : 0;
	return first;
}

/*
 * Prepare all entries of a group for a message that comes in between or before
 * others.  False if that cannot be done now, as somebody is changing one of
 * them that begins too late.  The caller has the group's latch, and puts the
 * message there before he gives it back.  *changed becomes true if an entry was
 * changed.
 */
bool
pgn_schedule_lower(Schedule *schedule, int64 group_key, int64 message_id, bool *changed)
{
	ScheduleScan scan;
	ScheduleVersion version;
	bool		lowered = true;

	CommandCounterIncrement();
	begin_group_scan(&scan, schedule, group_key);
	while (lowered && pgn_schedule_scan_next(&scan, &version))
	{
		if (version.row.first_message_id <= message_id)
			continue;
		version.row.first_message_id = message_id;
		lowered = is_free(&version) && pgn_schedule_move(schedule, &version, &version.row);
		*changed |= lowered;
	}
	pgn_schedule_scan_end(&scan);
	return lowered;
}

/* Will an entry do as well as the one that is wanted?  A sweep for dead letters visits those that are final only. */
static bool
suffices(const ScheduleEntry *entry, const ScheduleEntry *wanted)
{
	return entry->visible_at <= wanted->visible_at && (entry->final || !wanted->final);
}

/* Will the replacement of a version that an open transaction changes do as well? */
static bool
replacement_suffices(const ScheduleLookup *lookup, TransactionId changer, const ScheduleEntry *wanted)
{
	for (int i = 0; i < lookup->n; i++)
	{
		const ScheduleVersion *version = &lookup->versions[i];

		if (TransactionIdEquals(version->inserter, changer) && !version->superseded &&
			suffices(&version->row, wanted))
			return true;
	}
	return false;
}

/* Is one of the entries found, but the one at "except", sure to stay and as good as "wanted"? */
bool
pgn_schedule_covers(const ScheduleLookup *lookup, const ScheduleEntry *wanted,
					const ItemPointerData *except)
{
	for (int i = 0; i < lookup->n; i++)
	{
		const ScheduleVersion *version = &lookup->versions[i];

		if (TransactionIdIsValid(version->inserter) || !suffices(&version->row, wanted) ||
			(except && ItemPointerEquals(unconstify(ItemPointerData *, except),
										 unconstify(ItemPointerData *, &version->tid))))
			continue;
		if (!TransactionIdIsValid(version->changer) ||
			replacement_suffices(lookup, version->changer, wanted))
			return true;
	}
	return false;
}

/*
 * Make sure that an entry as early as this one will be there if this
 * transaction commits, however others end.  The caller has the group's latch.
 * An earlier one does as well, and is the group's place among others that have
 * something to deliver.  But if there is nothing before some time to come, it
 * is put right, or else each receive would look at the group until then.
 */
void
pgn_schedule_ensure(Schedule *schedule, const ScheduleLookup *lookup, const ScheduleEntry *entry, TimestampTz now)
{
	bool		available = entry->visible_at <= now;

	for (int i = 0; i < lookup->n; i++)
	{
		const ScheduleVersion *version = &lookup->versions[i];
		ScheduleEntry moved = *entry;

		if (!is_free(version))
			continue;
		if (suffices(&version->row, entry) && (available || version->row.visible_at == entry->visible_at))
		{
			/* Who waits may have looked before that was so. */
			if (available)
				pgn_activity_written(schedule->queue, version->row.visible_at, entry->visible_at);
			return;
		}
		if (available)
			moved.visible_at = Min(moved.visible_at, version->row.visible_at);
		if (pgn_schedule_move(schedule, version, &moved))
			return;
	}
	if (!pgn_schedule_covers(lookup, entry, NULL))
		add_entry(schedule, entry);
}

/* Remove the entries found; the group has nothing to deliver. */
void
pgn_schedule_clear(Schedule *schedule, const ScheduleLookup *lookup)
{
	for (int i = 0; i < lookup->n; i++)
		if (is_free(&lookup->versions[i]))
			(void) pgn_schedule_remove(schedule, &lookup->versions[i]);
}
