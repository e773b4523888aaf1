/*
 * candidates.c
 *		The deliveries that are due next, for receivers to share.
 *
 * A receive that looks for one message reads a page of the index, some
 * hundreds of entries, and takes the first that is free.  Others that look at
 * the same time see the same entries and are after the same deliveries.  So
 * who has looked leaves the places (tids) of the entries behind his own in
 * shared memory, the longest due first, and receives of few messages take
 * places from there, each a different one, until none is left and somebody
 * looks again.  Only the normal lane has candidates; the others mostly are
 * empty.
 *
 * A place is a hint, no more.  Who takes it looks at the row version there as a
 * scan does and claims it in the same way, so it does not matter what has
 * become of it.  What is dead, held or not due is passed over; any other row
 * that is due may be received as well.  Places in a file that the table has
 * no more (after TRUNCATE or VACUUM FULL) are not looked at, nor those behind
 * its end; the caller's lock keeps both from happening meanwhile.
 *
 * Nothing is hidden: the index and its frontier know nothing of candidates,
 * and a receive that does not find enough among them looks in the index.  But
 * a delivery that was held when the candidates were collected, and is free now
 * (its sender has committed, its receiver has rolled back), or that came later
 * although it is due earlier, would have to wait until they are used up.  So
 * the end of a transaction that sets such a delivery free throws the
 * candidates away (see activity.c), and after a second they are no good in
 * any case.  Nor are they when a lease ends that was taken in place before them
 * (see delivery.c), as far as it was met when they were collected, or was
 * committed since.
 */
#include "postgres.h"

#include "candidates.h"
#include "shared.h"

/* For how long candidates are good. */
#define GOOD_FOR USECS_PER_SEC

/* No candidates. */
static void
empty(Candidates *candidates)
{
	pg_atomic_write_u64(&candidates->until, (uint64) PG_INT64_MIN);
	candidates->next = candidates->end = 0;
}

/* Start without candidates. */
void
pgn_candidates_init(Candidates *candidates)
{
	SpinLockInit(&candidates->lock);
	pg_atomic_init_u64(&candidates->until, (uint64) PG_INT64_MIN);
	empty(candidates);
}

/* The candidates of a queue, if there is shared memory. */
static Candidates *
shared_candidates(Queue *queue)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	return shared ? &shared->candidates : NULL;
}

/* Are there none? */
static bool
is_empty(Candidates *candidates)
{
	return (TimestampTz) pg_atomic_read_u64(&candidates->until) == PG_INT64_MIN;
}

/* Take the next candidate.  False if there is none in this file. */
bool
pgn_candidates_take(Queue *queue, Oid file, TimestampTz now, ItemPointer place)
{
	Candidates *candidates = shared_candidates(queue);
	bool		found;

	if (candidates == NULL || is_empty(candidates))
		return false;
	SpinLockAcquire(&candidates->lock);
	found = candidates->next < candidates->end && candidates->file == file &&
		now - candidates->collected_at < GOOD_FOR && now < candidates->good_until;
	if (found)
		*place = candidates->places[candidates->next++];
	if (!found || candidates->next == candidates->end)
		empty(candidates);
	SpinLockRelease(&candidates->lock);
	return found;
}

/* Should somebody who is looking collect candidates? */
bool
pgn_candidates_wanted(Queue *queue)
{
	Candidates *candidates = shared_candidates(queue);

	return candidates && is_empty(candidates);
}

/*
 * Leave candidates to all, the last of them due at "until", before "good_until";
 * somebody else may have been faster.
 */
void
pgn_candidates_offer(Queue *queue, Oid file, TimestampTz now, TimestampTz good_until,
					 TimestampTz until, const ItemPointerData *places, int n)
{
	Candidates *candidates = shared_candidates(queue);

	if (candidates == NULL || n == 0)
		return;
	SpinLockAcquire(&candidates->lock);
	if (candidates->next == candidates->end)
	{
		memcpy(candidates->places, places, n * sizeof(ItemPointerData));
		candidates->next = 0;
		candidates->end = n;
		candidates->file = file;
		candidates->collected_at = now;
		candidates->good_until = good_until;
		pg_atomic_write_u64(&candidates->until, (uint64) until);
	}
	SpinLockRelease(&candidates->lock);
}

/* From that time on something may have to be received before the candidates, if there are any left by then. */
void
pgn_candidates_limit(Candidates *candidates, TimestampTz now, TimestampTz good_until)
{
	if (good_until - now >= GOOD_FOR || is_empty(candidates))
		return;
	SpinLockAcquire(&candidates->lock);
	candidates->good_until = Min(candidates->good_until, good_until);
	SpinLockRelease(&candidates->lock);
}

/* A delivery that is due at "from" has become free: those that come after it may have to wait. */
void
pgn_candidates_discard(Candidates *candidates, TimestampTz from)
{
	if ((TimestampTz) pg_atomic_read_u64(&candidates->until) < from || is_empty(candidates))
		return;
	SpinLockAcquire(&candidates->lock);
	empty(candidates);
	SpinLockRelease(&candidates->lock);
}
