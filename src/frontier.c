/*
 * frontier.c
 *		Where to start looking for due deliveries.
 *
 * A received or deleted delivery leaves a dead entry in the index of due
 * deliveries.  While a long transaction holds back the xmin horizon nothing
 * can remove those, and a receive that starts at the low end of the index
 * has to pass them all: every queue on SKIP LOCKED collapses this way.
 *
 * So shared memory keeps, for each queue and lane, a visible_at below which
 * every entry is dead to everybody, now and for ever: the frontier.  A receive
 * starts there.  It is a hint that must never hide a message:
 *
 *	- A receive that wants to advance it knows the first entry that its dirty
 *	  scan returned.  A dirty scan returns what is live, and what somebody still
 *	  open is inserting or deleting, prepared transactions included; what it
 *	  passed over is committed as deleted, or aborted as inserted.  It also
 *	  passes over what its own transaction deleted, so only a transaction
 *	  that has written nothing yet may advance the frontier.
 *
 *	- An entry may come to life below the new frontier after the scan has
 *	  passed its place.  Therefore:
 *
 *			writer						receiver
 *			W1 insert index entry		R1 advance the frontier
 *			W2 memory barrier			R2 memory barrier
 *			W3 read the frontier,		R3 scan the skipped range again,
 *			   lower it to the entry	   lower it to what was found
 *
 *	  If W3 does not see R1, then R1 comes after W3, hence R3 after W1, and R3
 *	  finds the entry (uncommitted ones too).  If it does see R1, the writer
 *	  lowers the frontier itself.  Either way it ends at or below the entry.
 *	  Nothing is ever inserted into an existing place: each new row version
 *	  has a new index entry, whose writer goes through W1 to W3; and the end of
 *	  a transaction can only turn an entry that stopped the frontier into a
 *	  dead one, or leave it live.
 *
 *	- Who lowers uses compare-and-swap and never raises; who advances does so
 *	  from the very value the scan started at, so that a frontier that was
 *	  lowered meanwhile stays low.  If it was lowered and advanced again to
 *	  the same value, that advance has checked the range below.
 *
 *	- Empty shared memory means minus infinity.  Committed but lost (a crash
 *	  after an asynchronous commit) is not possible, as a crash empties it.
 *
 *	- Rows written by something else than this library (a restore of data, a
 *	  logical replication subscription) do not go through W3.  For their sake
 *	  a receive that finds nothing looks below the frontier once a minute.
 */
#include "postgres.h"

#include "frontier.h"
#include "shared.h"

#define DOUBT_INTERVAL USECS_PER_MINUTE

/* Where a scan of the lane may start. */
TimestampTz
pgn_frontier(Queue *queue, int lane)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	return shared ? (TimestampTz) pg_atomic_read_u64(&shared->frontier[lane]) : PG_INT64_MIN;
}

/*
 * Advance the frontier; false if it is not at "from" any more.  The caller
 * must look at the range from "from" to "to" again afterwards.
 */
bool
pgn_frontier_advance(Queue *queue, int lane, TimestampTz from, TimestampTz to)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	uint64		expected = (uint64) from;
	bool		advanced;

	if (shared == NULL)
		return false;
	advanced = pg_atomic_compare_exchange_u64(&shared->frontier[lane], &expected, (uint64) to);
	pg_memory_barrier();
	return advanced;
}

/* Make sure that the frontier is not above an entry that is in the index now. */
void
pgn_frontier_lower(Queue *queue, int lane, TimestampTz visible_at)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	uint64		frontier;

	if (shared == NULL)
		return;
	pg_memory_barrier();
	frontier = pg_atomic_read_u64(&shared->frontier[lane]);
	while ((TimestampTz) frontier > visible_at &&
		   !pg_atomic_compare_exchange_u64(&shared->frontier[lane], &frontier, (uint64) visible_at))
		;
}

/*
 * Is it time to look below the frontiers of a queue?  Then they are at minus
 * infinity afterwards, and the caller looks again.
 */
bool
pgn_frontier_doubt(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	uint64		last;

	if (shared == NULL)
		return false;
	last = pg_atomic_read_u64(&shared->doubted_at);
	if ((TimestampTz) last + DOUBT_INTERVAL > now ||
		!pg_atomic_compare_exchange_u64(&shared->doubted_at, &last, (uint64) now))
		return false;
	for (int lane = 0; lane < PGN_LANES; lane++)
		pgn_frontier_lower(queue, lane, PG_INT64_MIN);
	return true;
}
