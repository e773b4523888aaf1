/*
 * log_rotation.c
 *		Keeping the message log small.
 *
 * When the current segment is big or old enough, the next empty one becomes
 * current; if none is empty, the current one simply grows.  A sealed segment
 * is truncated when no delivery refers to it.  If few do, their messages are
 * first copied to the old generation.  Messages of the old generation are
 * deleted row by row.
 *
 * Truncating is the one step that could lose a message.  What makes it safe:
 *
 *	- Deliveries are looked at without a lock on the segment first.  Only if
 *	  they seem few or none is the AccessExclusiveLock taken, conditionally, so
 *	  that maintenance never waits in a queue that senders then wait behind.
 *
 *	- Having that lock proves that nobody who appended to the segment is still
 *	  open, prepared transactions included: they keep their lock on it.
 *
 *	- One snapshot, taken after that, is used for the deliveries of all
 *	  queues.  A delivery that moves between queues meanwhile (dead letter,
 *	  redrive) is in exactly one of them in any single snapshot.
 *
 *	- Only the sending transaction and moves ever refer to a log row, so what
 *	  no delivery in the snapshot refers to, none ever will.
 *
 *	- A queue whose table somebody has locked exclusively (a purge that may
 *	  still roll back) cannot be looked at, nor can one that was dropped or
 *	  truncated after the snapshot was taken: deliveries that had moved on from
 *	  there are in the snapshot nowhere.  The segment is left for later.
 *
 *	- The truncation is transactional: a crash before commit changes nothing.
 *
 * Only one process at a time does any of this; a second one does nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "delivery.h"
#include "log.h"
#include "log_rotation.h"
#include "owner.h"
#include "pigeon.h"
#include "queue.h"

/*
 * A segment is compacted when at most one in SURVIVORS of its messages is
 * still referred to, so the log is at most that many times the size of what
 * is in it (and one ring of segments).  If no segment is empty one is compacted
 * in any case: otherwise the current one would grow without end.
 */
#define SURVIVORS 4

/* When to look again at a sealed segment that could not be freed. */
#define SEALED_INTERVAL USECS_PER_MINUTE

/* The ids of messages that deliveries refer to. */
typedef struct MessageIds
{
	int64	   *ids;
	int64		n;
	int64		size;
} MessageIds;

/* Add a message id. */
static void
add_id(MessageIds *set, int64 id)
{
	if (set->n == set->size)
	{
		set->size = Max(1024, set->size * 2);
		set->ids = set->ids ? repalloc_huge(set->ids, set->size * sizeof(int64)) :
			MemoryContextAllocHuge(CurrentMemoryContext, set->size * sizeof(int64));
	}
	set->ids[set->n++] = id;
}

/* The set as an SQL array. */
static Datum
ids_to_array(const MessageIds *set)
{
	Datum	   *elements = MemoryContextAllocHuge(CurrentMemoryContext, (set->n + 1) * sizeof(Datum));

	for (int64 i = 0; i < set->n; i++)
		elements[i] = Int64GetDatum(set->ids[i]);
	return PointerGetDatum(construct_array(elements, set->n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

/* Run a statement as the owner; the number of its first column, or "otherwise" if none. */
static int64
query_number(const char *sql, int64 otherwise)
{
	int64		number = otherwise;

	pgn_owner_begin();
	pgn_owner_execute(sql, 0, NULL, NULL, NULL);
	if (SPI_processed > 0 && SPI_tuptable)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			number = DatumGetInt64(value);
	}
	pgn_owner_end();
	return number;
}

/*
 * Is the database half restored?  Then there are tables of deliveries that are
 * not in the registry yet, or have no index yet, and deliveries to come.
 */
static bool
half_restored(void)
{
	return query_number("SELECT count(*) FROM pg_class c"
						" WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'r' AND relname ~ '^q_[0-9]+$'"
						" AND (NOT relhasindex OR NOT EXISTS"
						" (SELECT FROM pigeon.queue q WHERE 'q_' || q.id = c.relname))", 0) > 0;
}

/*
 * Become the one process that maintains the log, until the end of the
 * transaction.  Not in a transaction that has one snapshot for all its
 * statements: what came to the log after that snapshot would not be seen.
 */
static bool
become_maintainer(void)
{
	return !IsolationUsesXactSnapshot() &&
		ConditionalLockRelationOid(pgn_relation("log_state"), ShareUpdateExclusiveLock) &&
		!half_restored();
}

/*
 * Was the table created or truncated after the snapshot was taken?  What a
 * truncation removes, no snapshot shows.
 */
static bool
rewritten_since(Oid relid, Snapshot snapshot)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	TransactionId xmin;

	if (!HeapTupleIsValid(tuple))
		return true;
	xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	ReleaseSysCache(tuple);
	return !TransactionIdIsCurrentTransactionId(xmin) && XidInMVCCSnapshot(xmin, snapshot);
}

/*
 * Collect the messages in a range of ids that deliveries in the snapshot
 * refer to, only those written to "segment" if that is not negative.  False
 * if a queue could not be looked at, or there are more than "limit".
 */
static bool
referenced_messages(Snapshot snapshot, int64 from_id, int64 to_id, int segment,
					int64 limit, MessageIds *set)
{
	int			n;
	int32	   *queues = pgn_queue_ids(snapshot, &n);

	for (int i = 0; i < n; i++)
	{
		Queue	   *queue = pgn_queue_find_by_id(queues[i]);
		DeliveryTable deliveries;
		DeliveryScan scan;
		DeliveryVersion version;

		if (queue == NULL || !pgn_queue_lock_now(queue, AccessShareLock))
			return false;
		if (rewritten_since(queue->relid, snapshot))
		{
			pgn_queue_unlock(queue, AccessShareLock);
			return false;
		}
		pgn_deliveries_open(&deliveries, queue, AccessShareLock);
		pgn_message_scan_begin(&scan, &deliveries, from_id, to_id, snapshot);
		while (set->n <= limit && pgn_scan_next(&scan, &version))
		{
			CHECK_FOR_INTERRUPTS();
			if (segment < 0 || version.row.segment == segment)
				add_id(set, version.row.message_id);
		}
		pgn_scan_end(&scan);
		/* Both locks, ours and that of the open table. */
		pgn_deliveries_close(&deliveries, AccessShareLock);
		pgn_queue_unlock(queue, AccessShareLock);
		if (set->n > limit)
			return false;
	}
	return true;
}

/* Is a segment without any page? */
static bool
segment_is_empty(int segment)
{
	return query_number(psprintf("SELECT pg_relation_size('pigeon.log_%d')", segment), 0) == 0;
}

/* Is no segment left to become current? */
static bool
ring_is_full(void)
{
	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
		if (segment != pgn_log_current_segment() && segment_is_empty(segment))
			return false;
	return true;
}

/* For how many seconds the current segment has been that. */
static int64
current_age(void)
{
	return query_number("SELECT extract(epoch FROM clock_timestamp() - current_since)::bigint"
						" FROM pigeon.log_state", PG_INT32_MAX);
}

/* Make the next empty segment current if it is time, and one is empty. */
void
pgn_log_rotate(void)
{
	int			current;
	int64		size,
				age;

	if (!become_maintainer())
		return;
	current = pgn_log_current_segment();
	size = query_number(psprintf("SELECT pg_table_size('pigeon.log_%d')", current), 0);
	age = current_age();
	if (segment_is_empty(current) ||
		(size < (int64) pgn_log_segment_size * 1024 && age < pgn_log_segment_age))
		return;

	for (int i = 1; i < PGN_LOG_SEGMENTS; i++)
	{
		int			next = (current + i) % PGN_LOG_SEGMENTS;

		if (!segment_is_empty(next))
			continue;
		(void) query_number(psprintf("INSERT INTO pigeon.log_state VALUES (true, %d, clock_timestamp())"
									 " ON CONFLICT (only_row) DO UPDATE SET"
									 " current_segment = excluded.current_segment,"
									 " current_since = excluded.current_since", next), 0);
		CacheInvalidateRelcacheByRelid(pgn_relation("log_state"));
		return;
	}
}

/* Copy messages to the old generation, those that are not there yet. */
static void
copy_survivors(int segment, const MessageIds *survivors)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {ids_to_array(survivors)};

	pgn_owner_begin();
	pgn_owner_execute(psprintf("INSERT INTO pigeon.log_old SELECT * FROM pigeon.log_%d"
							   " WHERE message_id = ANY ($1) ON CONFLICT DO NOTHING", segment),
					  1, types, values, NULL);
	pgn_owner_end();
}

/* How many of the messages are in the segment but not in the old generation? */
static int64
count_missing(int segment, const MessageIds *survivors)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {ids_to_array(survivors)};
	bool		isnull;
	int64		n;

	pgn_owner_begin();
	pgn_owner_execute(psprintf("SELECT count(*) FROM pigeon.log_%d s WHERE message_id = ANY ($1)"
							   " AND NOT EXISTS (SELECT FROM pigeon.log_old o"
							   " WHERE o.message_id = s.message_id)", segment),
					  1, types, values, NULL);
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	pgn_owner_end();
	return n;
}

/*
 * Truncate a sealed segment if nothing, or little, of it is still needed.
 * True if it was truncated.
 */
bool
pgn_log_free_segment(int segment)
{
	int64		first,
				last,
				limit;
	MessageIds	survivors = {0};
	Snapshot	snapshot;
	bool		free_now;

	if (!become_maintainer() || segment == pgn_log_current_segment() || segment_is_empty(segment))
		return false;
	first = query_number(psprintf("SELECT min(message_id) FROM pigeon.log_%d", segment), 0);
	last = query_number(psprintf("SELECT max(message_id) FROM pigeon.log_%d", segment), -1);
	limit = ring_is_full() ? PG_INT64_MAX - 1 : (last - first + 1) / SURVIVORS;

	/* First look, without a lock on the segment. */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	free_now = referenced_messages(snapshot, first, last, segment, limit, &survivors);
	UnregisterSnapshot(snapshot);
	if (!free_now)
		return false;
	if (survivors.n > 0)
		copy_survivors(segment, &survivors);

	/* Now for certain; what was appended since the first look is seen here. */
	if (!ConditionalLockRelationOid(pgn_log_segment(segment), AccessExclusiveLock))
		return false;
	first = query_number(psprintf("SELECT min(message_id) FROM pigeon.log_%d", segment), 0);
	last = query_number(psprintf("SELECT max(message_id) FROM pigeon.log_%d", segment), -1);
	survivors.n = 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	free_now = referenced_messages(snapshot, first, last, segment, limit, &survivors);
	UnregisterSnapshot(snapshot);
	if (!free_now || count_missing(segment, &survivors) > 0)
		return false;
	(void) query_number(psprintf("TRUNCATE pigeon.log_%d", segment), 0);
	return true;
}

/* Delete the messages of the old generation that no delivery refers to. */
void
pgn_log_clean_old(void)
{
	int64		first,
				last;
	MessageIds	needed = {0};
	Snapshot	snapshot;
	bool		complete;

	if (!become_maintainer())
		return;
	first = query_number("SELECT min(message_id) FROM pigeon.log_old", 0);
	last = query_number("SELECT max(message_id) FROM pigeon.log_old", -1);
	if (last < first)
		return;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	complete = referenced_messages(snapshot, first, last, -1, PG_INT64_MAX - 1, &needed);
	UnregisterSnapshot(snapshot);
	if (complete)
	{
		Oid			types[] = {INT8ARRAYOID, INT8OID, INT8OID};
		Datum		values[] = {ids_to_array(&needed), Int64GetDatum(first), Int64GetDatum(last)};

		pgn_owner_begin();
		pgn_owner_execute("DELETE FROM pigeon.log_old o WHERE message_id BETWEEN $2 AND $3"
						  " AND NOT EXISTS (SELECT FROM unnest($1) AS needed (id) WHERE id = o.message_id)",
						  3, types, values, NULL);
		pgn_owner_end();
	}
}

/* Is there nothing in the old generation? */
bool
pgn_log_old_is_empty(void)
{
	return query_number("SELECT pg_relation_size('pigeon.log_old')", 0) == 0;
}

/*
 * When to look at the segments again if nothing happens until then: when the
 * current one is old enough, or somewhat later if one could not be freed.
 */
TimestampTz
pgn_log_next_look(TimestampTz now)
{
	int			current = pgn_log_current_segment();
	TimestampTz next = PG_INT64_MAX;

	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
	{
		if (segment_is_empty(segment))
			continue;
		if (segment != current)
			next = Min(next, now + SEALED_INTERVAL);
		else
			next = Min(next, now + Max(SEALED_INTERVAL,
									   (pgn_log_segment_age - current_age()) * USECS_PER_SEC));
	}
	return next;
}
