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
 * How big is big enough?  Where messages are deleted soon, segments are small,
 * so that the log is, and hardly larger at one time than at another.  A backlog
 * makes them larger, four times for each segment it keeps beyond a few, up to
 * pigeon.log_segment_size: the ring must hold much of it before messages have
 * to be copied.  The worker looks when it expects the segment to be full, from
 * how fast it has grown.  It gives the messages of the few segments that were
 * sealed last some seconds to be deleted before it copies what is left of them.
 * While segments have to wait for older snapshots (see below), the ring must hold
 * what comes in that time, so a segment is not full before it is old enough for
 * that.  Otherwise the ring would be full of small ones, and the current one
 * would grow until the first of them may go, and then wait itself as long.
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
 *	  still roll back) cannot be looked at (see references.c), nor can one that
 *	  was dropped or truncated after the snapshot was taken: deliveries that had
 *	  moved on from there are in the snapshot nowhere.  The segment is left for
 *	  later.
 *
 *	- The truncation is transactional: a crash before commit changes nothing.
 *
 * An older snapshot may still show deliveries whose messages a truncation takes
 * away.  That would hurt a pg_dump that has its snapshot, but not its locks
 * yet.  So a segment is first marked as unused, with the number of the marking
 * transaction.  A snapshot that sees that transaction as committed sees no
 * delivery that needs the segment: nobody who appended to it was open, and
 * copies of the survivors came with the mark or before.  The segment is
 * truncated when there are only such snapshots, or when the mark is older than
 * pigeon.log_snapshot_threshold: somebody who holds a snapshot for hours must
 * not make the log grow for hours.
 *
 * Only one process at a time does any of this; a second one does nothing.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "earlier.h"
#include "log.h"
#include "log_rotation.h"
#include "log_scan.h"
#include "owner.h"
#include "pigeon.h"
#include "queue.h"
#include "references.h"
#include "shared.h"
#include "transaction.h"

/*
 * A segment is compacted when at most one in SURVIVORS of its messages is
 * still referred to, so the log is at most that many times the size of what
 * is in it (and one ring of segments).  If no segment is empty one is compacted
 * in any case: otherwise the current one would grow without end.
 */
#define SURVIVORS 4

/* A segment is full at this size at the earliest, and while no more than FEW are sealed. */
#define SMALLEST_SEGMENT (3 * 1024 * 1024)
#define FEW 3

/* Messages are not copied from the FEW segments sealed last before this time, if nothing presses. */
#define PATIENCE (10 * USECS_PER_SEC)

/* How many messages of the old generation are looked at together. */
#define CLEAN_MESSAGES 100000

/* When to look again at a sealed segment that could not be freed, and at one that waits for older snapshots. */
#define SEALED_INTERVAL USECS_PER_MINUTE
#define UNUSED_INTERVAL (5 * USECS_PER_SEC)

/* The current segment is not looked at more often than this. */
#define CURRENT_INTERVAL USECS_PER_SEC

/* What this process has seen of the current segment when it looked last. */
static struct
{
	int			segment;
	int64		size;
	TimestampTz at;
	double		rate;			/* bytes in a microsecond */
}			seen = {.segment = -1};

/* When this process sealed a segment that is not free yet; 0: never. */
static TimestampTz sealed_at[PGN_LOG_SEGMENTS];

/* For how many seconds the segment that this process freed last had waited for older snapshots. */
static int64 snapshot_wait = 0;

/* The mark of an unused segment. */
typedef struct Mark
{
	FullTransactionId xid;		/* older snapshots are waited for */
	int64		age;			/* in seconds */
} Mark;

/* A set of messages. */
typedef struct MessageIds
{
	int64	   *ids;
	int64		n;
	int64		size;
	int64		limit;			/* do not collect more */
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

/* Callback: collect the messages that are referred to; false if there are too many. */
static bool
collect(int64 message_id, void *arg)
{
	add_id(arg, message_id);
	return ((MessageIds *) arg)->n <= ((MessageIds *) arg)->limit;
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

/* Run a statement as the owner; the number it returns, or "otherwise" if none. */
static int64
query_number(const char *sql, int64 otherwise)
{
	return pgn_owner_number(sql, 0, NULL, NULL, otherwise);
}

/*
 * Become the one process that maintains the log, until the end of the
 * transaction.  Not in a transaction that has one snapshot for all its
 * statements: what came to the log after that snapshot would not be seen.
 */
static bool
become_maintainer(void)
{
	return !IsolationUsesXactSnapshot() && pgn_references_complete() &&
		ConditionalLockRelationOid(pgn_relation("log_state"), ShareUpdateExclusiveLock);
}

/* Does every snapshot that shows this table see what the transaction did? */
static bool
no_older_snapshot(Oid relid, FullTransactionId transaction)
{
	Relation	rel = table_open(relid, AccessShareLock);
	uint64		oldest = pgn_widen_xid(GetOldestNonRemovableTransactionId(rel));

	table_close(rel, AccessShareLock);
	return oldest > U64FromFullTransactionId(transaction);
}

/* Is a segment without any page? */
static bool
segment_is_empty(int segment)
{
	return DatumGetInt64(DirectFunctionCall2(pg_relation_size, ObjectIdGetDatum(pgn_log_segment(segment)),
											 CStringGetTextDatum("main"))) == 0;
}

/* Is a segment marked as unused?  "mark" may be NULL. */
static bool
is_unused(int segment, Mark *mark)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(segment)};
	Datum		row[2];
	bool		isnull[2];

	if (!pgn_owner_row("SELECT xid, floor(extract(epoch FROM clock_timestamp() - since))::bigint"
					   " FROM pigeon.log_unused WHERE segment = $1", 1, types, values, 2, row, isnull))
		return false;
	if (mark)
	{
		mark->xid = DatumGetFullTransactionId(row[0]);
		mark->age = DatumGetInt64(row[1]);
	}
	return true;
}

/* Has an unused segment waited for older snapshots long enough? */
static bool
is_ripe(int segment, const Mark *mark)
{
	return mark->age >= pgn_log_snapshot_threshold ||
		no_older_snapshot(pgn_log_segment(segment), mark->xid);
}

/* Is no segment left to become current, nor about to be? */
static bool
ring_is_full(void)
{
	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
		if (segment != pgn_log_current_segment() &&
			(segment_is_empty(segment) || is_unused(segment, NULL)))
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

/* At which size the current segment is full. */
static int64
full_size(void)
{
	int64		limit = (int64) pgn_log_segment_size * 1024;
	int64		size = SMALLEST_SEGMENT;
	int			sealed = 0;

	for (int segment = 0; segment < PGN_LOG_SEGMENTS && size < limit; segment++)
		if (segment != pgn_log_current_segment() && !segment_is_empty(segment) &&
			!is_unused(segment, NULL) && ++sealed > FEW)
			size *= 4;
	return Min(size, limit);
}

/*
 * How old, in seconds, the current segment must be to be full: while others
 * wait for older snapshots, a share of the time they wait.  One of the ring is
 * current, and one may not be marked yet.
 */
static int64
full_age(void)
{
	Mark		mark;

	for (int segment = 0; segment < PGN_LOG_SEGMENTS && snapshot_wait > 0; segment++)
		if (is_unused(segment, &mark) && !is_ripe(segment, &mark))
			return snapshot_wait / (PGN_LOG_SEGMENTS - 2);
	return 0;
}

/* Take note of the size of the current segment; what it grew in a moment says nothing. */
static void
note_size(int segment, int64 size)
{
	TimestampTz now = GetCurrentTimestamp();

	if (segment == seen.segment && now >= seen.at && now < seen.at + CURRENT_INTERVAL)
		return;
	seen.rate = segment == seen.segment && now > seen.at ? (size - seen.size) / (double) (now - seen.at) : 0;
	seen.segment = segment;
	seen.size = size;
	seen.at = now;
}

/*
 * Make the next empty segment current if it is time, and one is empty.  This
 * is the first step of a run of maintenance of the log.
 */
void
pgn_log_rotate(void)
{
	int			current;
	int64		size,
				age;

	pgn_references_begin_run();
	if (!become_maintainer())
		return;
	current = pgn_log_current_segment();
	size = query_number(psprintf("SELECT pg_table_size('pigeon.log_%d')", current), 0);
	age = current_age();
	note_size(current, size);
	if (segment_is_empty(current) ||
		(age < pgn_log_segment_age && (size < full_size() || age < full_age())))
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
		sealed_at[current] = seen.at = GetCurrentTimestamp();
		seen.segment = next;
		seen.size = 0;
		return;
	}
}

/*
 * For statements that join a segment with what is needed of it: until
 * AtEOXact_GUC() is called with the result, joins are not made row by row.
 * Statistics of a table that was filled just now may say that it is empty, and
 * a segment has no index; the joins would take hours.
 */
static int
begin_joins(void)
{
	int			level = NewGUCNestLevel();

	(void) set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* Copy messages to the old generation, those that are not there yet. */
static void
copy_survivors(int segment, const MessageIds *survivors)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {ids_to_array(survivors)};
	int			level = begin_joins();

	pgn_owner_begin(&as_owner);
	pgn_owner_execute(psprintf("INSERT INTO pigeon.log_old SELECT * FROM pigeon.log_%d"
							   " WHERE message_id IN (SELECT unnest($1)) ON CONFLICT DO NOTHING", segment),
					  1, types, values, NULL);
	pgn_owner_end(&as_owner);
	AtEOXact_GUC(true, level);
}

/*
 * How many of the messages are in the segment but not in the old generation?
 * One that has the number of another one there (the sequence was set back) can
 * never go there, and the segment stays.
 */
static int64
count_missing(int segment, const MessageIds *survivors)
{
	Oid			types[] = {INT8ARRAYOID};
	Datum		values[] = {ids_to_array(survivors)};
	int			level = begin_joins();
	int64		missing = pgn_owner_number(psprintf("SELECT count(*) FROM pigeon.log_%d s"
													" WHERE message_id IN (SELECT unnest($1)) AND NOT EXISTS"
													" (SELECT FROM pigeon.log_old o WHERE o.message_id = s.message_id"
													" AND o.log_key = s.log_key)",
													segment), 1, types, values, 0);

	AtEOXact_GUC(true, level);
	return missing;
}

/*
 * Find the messages of a segment that deliveries refer to.  False if that
 * cannot be known, or they are more than one in "share" (0: all).
 */
static bool
find_survivors(int segment, MessageIds *survivors, int64 share)
{
	Relation	rel = table_open(pgn_log_segment(segment), AccessShareLock);
	int64		first,
				last;
	Snapshot	snapshot;
	bool		known;

	pgn_log_range(rel, &first, &last);
	table_close(rel, AccessShareLock);
	survivors->limit = share == 0 ? PG_INT64_MAX - 1 : (last - first + 1) / share;
	survivors->n = 0;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	known = pgn_references_find(snapshot, first, last, segment, collect, survivors);
	UnregisterSnapshot(snapshot);
	return known;
}

/*
 * Is nothing of a segment needed that is not in the old generation?  Certain
 * if the caller has a lock on it that keeps everybody from appending.
 */
static bool
nothing_missing(int segment)
{
	MessageIds	survivors = {0};

	return find_survivors(segment, &survivors, 0) &&
		(survivors.n == 0 || count_missing(segment, &survivors) == 0);
}

/* Is it one of the few that this process has sealed just now? */
static bool
is_young(int segment)
{
	int			younger = 0;

	for (int i = 0; i < PGN_LOG_SEGMENTS; i++)
		younger += sealed_at[i] > sealed_at[segment];
	return younger < FEW && GetCurrentTimestamp() < sealed_at[segment] + PATIENCE;
}

/* Of how many messages of a segment one may still be needed; 0: any number, PG_INT64_MAX: none. */
static int64
share_of_survivors(int segment, bool patient)
{
	if (ring_is_full())
		return 0;
	return patient && is_young(segment) ? PG_INT64_MAX : SURVIVORS;
}

/* Mark a segment as unused if nothing, or little, of it is still needed.  True if it is marked. */
static bool
mark_unused(int segment, bool patient)
{
	MessageIds	survivors = {0};

	/* First look, without a lock on the segment. */
	if (!find_survivors(segment, &survivors, share_of_survivors(segment, patient)))
		return false;
	if (survivors.n > 0)
		copy_survivors(segment, &survivors);

	/* Now for certain; what was appended since the first look is seen here. */
	if (!ConditionalLockRelationOid(pgn_log_segment(segment), ShareLock) || !nothing_missing(segment))
		return false;
	(void) query_number(psprintf("INSERT INTO pigeon.log_unused VALUES (%d, clock_timestamp(), pg_current_xact_id())",
								 segment), 0);
	return true;
}

/*
 * Take the next step towards freeing a sealed segment: mark it as unused, or
 * truncate it.  True if the step that follows may be taken at once, in a new
 * transaction.  "patient": the caller will come back soon.
 */
bool
pgn_log_free_segment(int segment, bool patient)
{
	Mark		mark;

	if (!become_maintainer() || segment == pgn_log_current_segment() || segment_is_empty(segment))
		return false;
	if (!is_unused(segment, &mark))
		return mark_unused(segment, patient);
	if (!is_ripe(segment, &mark) || !ConditionalLockRelationOid(pgn_log_segment(segment), AccessExclusiveLock))
		return false;
	if (nothing_missing(segment))
		(void) query_number(psprintf("TRUNCATE pigeon.log_%d", segment), 0);
	(void) query_number(psprintf("DELETE FROM pigeon.log_unused WHERE segment = %d", segment), 0);
	sealed_at[segment] = 0;
	snapshot_wait = mark.age;
	return false;
}

/* Messages of the old generation, in order, and which of them are needed. */
typedef struct OldMessages
{
	int64		n;
	Datum	   *ids;
	bool	   *nulls;
	bool	   *needed;
} OldMessages;

/* Read the next messages of the old generation after one; false if there are none. */
static bool
read_old(int64 after, OldMessages *old)
{
	Oid			types[] = {INT8OID, INT4OID};
	Datum		values[] = {Int64GetDatum(after), Int32GetDatum(CLEAN_MESSAGES)};
	Datum		array;
	bool		isnull;
	int			n;

	if (!pgn_owner_row("SELECT array_agg(message_id ORDER BY message_id) FROM (SELECT message_id FROM pigeon.log_old"
					   " WHERE message_id > $1 ORDER BY message_id LIMIT $2) AS next",
					   2, types, values, 1, &array, &isnull) || isnull)
		return false;
	deconstruct_array(DatumGetArrayTypeP(array), INT8OID, 8, true, TYPALIGN_DOUBLE,
					  &old->ids, &old->nulls, &n);
	old->n = n;
	old->needed = palloc0(n * sizeof(bool));
	return true;
}

/* Callback: note that a message is needed, if it is one of ours. */
static bool
note_needed(int64 message_id, void *arg)
{
	OldMessages *old = arg;
	int64		low = 0,
				high = old->n;

	while (low < high)
	{
		int64		middle = (low + high) / 2;

		if (DatumGetInt64(old->ids[middle]) < message_id)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < old->n && DatumGetInt64(old->ids[low]) == message_id)
		old->needed[low] = true;
	return true;
}

/* Delete those of the messages that no delivery refers to; false if that cannot be known. */
static bool
delete_unneeded(OldMessages *old)
{
	PgnOwner	as_owner;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		known = pgn_references_find(snapshot, DatumGetInt64(old->ids[0]),
											DatumGetInt64(old->ids[old->n - 1]), -1, note_needed, old);
	MessageIds	unneeded = {0};

	UnregisterSnapshot(snapshot);
	if (!known)
		return false;
	for (int64 i = 0; i < old->n; i++)
		if (!old->needed[i])
			add_id(&unneeded, DatumGetInt64(old->ids[i]));
	if (unneeded.n > 0)
	{
		Oid			types[] = {INT8ARRAYOID};
		Datum		values[] = {ids_to_array(&unneeded)};

		pgn_owner_begin(&as_owner);
		pgn_owner_execute("DELETE FROM pigeon.log_old WHERE message_id = ANY ($1)", 1, types, values, NULL);
		pgn_owner_end(&as_owner);
	}
	return true;
}

/*
 * Up to which message the old generation has been cleaned; in shared memory if
 * there is some, since a worker may leave before it has come to the end.
 */
static pg_atomic_uint64 *
cleaned_until(void)
{
	static pg_atomic_uint64 own = {(uint64) PG_INT64_MIN};
	SharedDatabase *database = pgn_shared_database(MyDatabaseId, false);

	return database ? &database->log_cleaned_until : &own;
}

/* Clean the old generation from its beginning. */
void
pgn_log_clean_anew(void)
{
	pg_atomic_write_u64(cleaned_until(), (uint64) PG_INT64_MIN);
}

/*
 * Delete of the old generation the messages that no delivery refers to: of the
 * next CLEAN_MESSAGES, going on from where the last call was.  True if there may
 * be more; the next call begins anew if not.
 */
bool
pgn_log_clean_old(void)
{
	int64		after = (int64) pg_atomic_read_u64(cleaned_until());
	OldMessages old;

	if (!become_maintainer())
		return false;
	if (!read_old(after, &old) || !delete_unneeded(&old) || old.n < CLEAN_MESSAGES)
	{
		pgn_log_clean_anew();
		return false;
	}
	pg_atomic_write_u64(cleaned_until(), (uint64) DatumGetInt64(old.ids[old.n - 1]));
	return true;
}

/* Is there nothing in the old generation? */
bool
pgn_log_old_is_empty(void)
{
	return query_number("SELECT message_id FROM pigeon.log_old LIMIT 1", 0) == 0;
}

/* When the current segment, which is that many seconds old, will be full if it grows as it did; PG_INT64_MAX if it does not. */
static TimestampTz
full_at(int current, int64 age, TimestampTz now)
{
	double		left = seen.rate > 0 ? (full_size() - seen.size) / seen.rate : 0;
	TimestampTz old_enough = now + (full_age() - age) * USECS_PER_SEC;

	if (seen.rate <= 0 || seen.segment != current || left > SEALED_INTERVAL)
		return PG_INT64_MAX;
	return pgn_later(seen.at + (TimestampTz) left,
					 Max(now + CURRENT_INTERVAL, old_enough));
}

/* When to look at an unused segment again: soon, and when it has waited for snapshots long enough. */
static int64
ripening(const Mark *mark)
{
	int64		left = (pgn_log_snapshot_threshold - mark->age) * USECS_PER_SEC;

	return Max(CURRENT_INTERVAL, Min(left, UNUSED_INTERVAL));
}

/*
 * When to look at the segments again if nothing happens until then: when the
 * current one is full or old enough, or somewhat later if one could not be
 * freed, or if nothing can be done to any of them for the time being.
 */
TimestampTz
pgn_log_next_look(TimestampTz now)
{
	int			current = pgn_log_current_segment();
	TimestampTz next = PG_INT64_MAX;
	Mark		mark;

	if (!pgn_references_complete())
		return now + SEALED_INTERVAL;
	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
	{
		if (segment_is_empty(segment))
			continue;
		if (segment != current)
			next = pgn_earlier(next, now + (is_unused(segment, &mark) ? ripening(&mark) : SEALED_INTERVAL));
		else
		{
			int64		age = current_age();

			next = pgn_earlier(next, full_at(current, age, now));
			next = pgn_earlier(next, now + Max(SEALED_INTERVAL, (pgn_log_segment_age - age) * USECS_PER_SEC));
		}
	}
	return next;
}
