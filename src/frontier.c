/*
 * frontier.c
 *		Where to start looking for due deliveries.
 *
 * A received or deleted delivery leaves a dead entry in the index of due
 * deliveries.  While a long transaction holds back the xmin horizon nothing
 * can remove those, and a receive that starts at the low end of the index
 * has to pass them all: every queue on SKIP LOCKED collapses this way.
 *
 * So shared memory keeps, for each queue and lane, a place below which every
 * entry is dead to everybody, now and for ever: the frontier.  A receive
 * starts there.  It is a hint that must never hide a message:
 *
 *	- A receive that wants to advance it knows the first entry that its dirty
 *	  scan returned.  A dirty scan returns what is live, and what somebody still
 *	  open is inserting or deleting, prepared transactions included; what it
 *	  passed over is committed as deleted, or aborted as inserted.  It also
 *	  passes over what its own transaction deleted, so only a transaction
 *	  that has not changed deliveries of the queue may advance the frontier,
 *	  nor may a receive do so that has taken something other than in the scan
 *	  itself.
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
 *	- A receiver may be interrupted before it has finished R3.  Then it lowers
 *	  the frontier to where it was.
 *
 *	- Deliveries that are leased in place are not dead, but need not be looked
 *	  at before their leases end.  The frontier passes them, too, and in the
 *	  same step they are noted as sleepers; see sleepers.c.
 *
 *	- It may lie ahead of the clock, where nothing falls due for a while; then
 *	  a receive need not look at all.  To W1 to W3 the clock does not matter.
 *
 *	- The frontier is advanced only from the very value the scan started at,
 *	  so that one that was lowered meanwhile stays low.  If it was lowered and
 *	  advanced again to the same value, that advance has checked the range
 *	  below.
 *
 * A delivery that somebody holds for long (a worker that does its work inside
 * the transaction of the receive, a sender that has not committed) would hold
 * the frontier up, and everything behind it would be passed again and again.
 * So a frontier that has not moved for a while leaves such deliveries behind:
 * their places are remembered as those of stragglers, and a receive looks at
 * those first.  Below the frontier everything is dead but stragglers and
 * sleepers.  A straggler is forgotten when nothing is found at its place but
 * who sleeps, by the same steps R1 to R3; a writer at its place lowers the
 * frontier in any case.
 *
 *	- Empty shared memory means minus infinity.  Committed but lost (a crash
 *	  after an asynchronous commit) is not possible, as a crash empties it.
 *
 *	- Rows written by something else than this library (a restore of data, a
 *	  logical replication subscription, an owner's own SQL) do not go through
 *	  W3.  For their sake a receive that finds nothing, or who waits for
 *	  messages, looks below the frontier once a minute.
 */
#include "postgres.h"

#include "frontier.h"
#include "shared.h"

#define DOUBT_INTERVAL USECS_PER_MINUTE

/* A frontier that has not moved for so long is held up by somebody. */
#define STUCK_AFTER (100 * INT64CONST(1000))

/* The shared state of a lane, NULL if there is none. */
static SharedLane *
shared_lane(Queue *queue, int lane)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	return shared ? &shared->lanes[lane] : NULL;
}

/* Where a scan of the lane has to look. */
void
pgn_frontier_read(Queue *queue, int lane, TimestampTz now, Frontier *frontier)
{
	SharedLane *shared = shared_lane(queue, lane);

	frontier->at = PG_INT64_MIN;
	frontier->stuck = false;
	frontier->nstragglers = 0;
	if (shared == NULL)
		return;
	SpinLockAcquire(&shared->lock);
	frontier->at = (TimestampTz) pg_atomic_read_u64(&shared->frontier);
	frontier->stuck = shared->moved_at + STUCK_AFTER < now;
	frontier->nstragglers = shared->nstragglers;
	memcpy(frontier->stragglers, shared->stragglers, shared->nstragglers * sizeof(TimestampTz));
	SpinLockRelease(&shared->lock);
}

/* Nothing was met yet. */
void
pgn_frontier_met_nothing(FrontierMet *met)
{
	met->first = met->first_free = DT_NOEND;
	met->nheld = 0;
}

/* A scan has met the next place where something is that is neither dead nor asleep. */
void
pgn_frontier_meet(FrontierMet *met, TimestampTz place, bool held)
{
	if (met->first == DT_NOEND)
		met->first = place;
	if (met->first_free != DT_NOEND)
		return;
	if (!held)
		met->first_free = place;
	else if (met->nheld > 0 && met->held[met->nheld - 1] == place)
		return;
	else if (met->nheld < PGN_STRAGGLERS)
		met->held[met->nheld++] = place;
	else
		met->first_free = place;
}

/* How far a frontier can advance, at most up to now: one that is stuck leaves behind what is held. */
TimestampTz
pgn_frontier_reach(const Frontier *frontier, const FrontierMet *met, TimestampTz now)
{
	TimestampTz reach = frontier->stuck ? met->first_free : met->first;

	return Min(now, reach);
}

/* Was something at this place left behind before?  The lane is locked. */
static bool
is_straggler(const SharedLane *shared, TimestampTz place)
{
	for (int i = 0; i < shared->nstragglers; i++)
		if (shared->stragglers[i] == place)
			return true;
	return false;
}

/*
 * Advance a frontier that was read before, leaving stragglers and sleepers
 * behind.  False if it is somewhere else by now, or there is no room for the
 * stragglers.  The caller must look at the skipped range again afterwards.
 */
bool
pgn_frontier_advance(Queue *queue, int lane, TimestampTz now, const Frontier *from,
					 TimestampTz to, const FrontierMet *met, const SleeperList *asleep)
{
	SharedLane *shared = shared_lane(queue, lane);
	TimestampTz left_behind[PGN_STRAGGLERS];
	int			nleft_behind = 0;
	bool		advance;

	if (shared == NULL)
		return false;
	SpinLockAcquire(&shared->lock);
	for (int i = 0; from->stuck && i < met->nheld; i++)
		if (met->held[i] < to && !is_straggler(shared, met->held[i]))
			left_behind[nleft_behind++] = met->held[i];
	advance = (TimestampTz) pg_atomic_read_u64(&shared->frontier) == from->at &&
		shared->nstragglers + nleft_behind <= PGN_STRAGGLERS;
	if (advance)
	{
		memcpy(&shared->stragglers[shared->nstragglers], left_behind, nleft_behind * sizeof(TimestampTz));
		shared->nstragglers += nleft_behind;
		if (asleep)
			pgn_sleepers_add_all(&shared->sleepers, asleep, now);
		/* Ahead of the clock it stays where it is until then. */
		shared->moved_at = Max(now, to);
		pg_atomic_write_u64(&shared->frontier, (uint64) to);
	}
	SpinLockRelease(&shared->lock);
	pg_memory_barrier();
	return advance;
}

/*
 * Forget a straggler at whose place nothing was found but who is asleep (NULL:
 * nobody).  The caller must look there again if the answer is true.
 */
bool
pgn_frontier_forget(Queue *queue, int lane, TimestampTz now, TimestampTz straggler, const SleeperList *asleep)
{
	SharedLane *shared = shared_lane(queue, lane);
	bool		found = false;

	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < shared->nstragglers && !found; i++)
	{
		found = shared->stragglers[i] == straggler;
		if (found)
			shared->stragglers[i] = shared->stragglers[--shared->nstragglers];
	}
	if (found && asleep)
		pgn_sleepers_add_all(&shared->sleepers, asleep, now);
	SpinLockRelease(&shared->lock);
	pg_memory_barrier();
	return found;
}

/*
 * Would a receive at that time look at this place, since it is not below the
 * frontier, or is a straggler's or a sleeper's?
 */
bool
pgn_frontier_covers(Queue *queue, int lane, TimestampTz place, TimestampTz visible_at)
{
	SharedLane *shared = shared_lane(queue, lane);
	bool		covers;

	if (shared == NULL)
		return true;
	SpinLockAcquire(&shared->lock);
	covers = place >= (TimestampTz) pg_atomic_read_u64(&shared->frontier) ||
		pgn_sleepers_cover(&shared->sleepers, place, visible_at) || is_straggler(shared, place);
	SpinLockRelease(&shared->lock);
	return covers;
}

/* Make sure that the frontier is not above an entry that is in the index now. */
void
pgn_frontier_lower(Queue *queue, int lane, TimestampTz place)
{
	SharedLane *shared = shared_lane(queue, lane);

	if (shared == NULL)
		return;
	pg_memory_barrier();
	if ((TimestampTz) pg_atomic_read_u64(&shared->frontier) <= place)
		return;
	SpinLockAcquire(&shared->lock);
	if ((TimestampTz) pg_atomic_read_u64(&shared->frontier) > place)
		pg_atomic_write_u64(&shared->frontier, (uint64) place);
	SpinLockRelease(&shared->lock);
}

/* For PG_ENSURE_ERROR_CLEANUP: the same of a FrontierPlace. */
void
pgn_frontier_lower_in_cleanup(int code, Datum arg)
{
	const FrontierPlace *to = (const FrontierPlace *) DatumGetPointer(arg);

	pgn_frontier_lower(to->queue, to->lane, to->place);
}

/* Is it time to look below the frontiers of a queue?  Then the caller must do so. */
bool
pgn_frontier_doubt(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	uint64		last;

	if (shared == NULL)
		return false;
	last = pg_atomic_read_u64(&shared->doubted_at);
	/* The clock may have been set back. */
	if ((TimestampTz) last <= now && (TimestampTz) last + DOUBT_INTERVAL > now)
		return false;
	return pg_atomic_compare_exchange_u64(&shared->doubted_at, &last, (uint64) now);
}
