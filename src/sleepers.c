/*
 * sleepers.c
 *		Where deliveries that were leased in place wait for the end of their leases.
 *
 * A delivery that is leased in place (see delivery.c) keeps its place in its
 * lane, among others that are dead or dying.  A receive must not walk over it
 * again and again, so the frontier passes it; see frontier.c.  But below the
 * frontier nobody looks.  So shared memory keeps, for each lane, ranges of places
 * with a time before which nothing in them is visible: the end of the first
 * lease there.  When that has come, receives walk over the range, take what is
 * visible, and leave behind what must be looked at later.  Mostly that is
 * nothing: the messages were deleted long ago.
 *
 * A range with too many places or too early a time costs a walk for nothing, but
 * a lease is long beside the work of a walk.  So sleepers whose leases end at
 * about the same time, as seen from now, share a range, and a lane has few of
 * them, however many deliveries are asleep.  A walk over a range leaves those
 * who still sleep in smaller ones, since what is about the same time has become
 * less; so each delivery is walked over a few times while it sleeps, however
 * many they are.
 *
 * No sleeper must be forgotten:
 *
 *	- The frontier passes a sleeper in the same step, under the lane's lock, in
 *	  which its range is added.
 *
 *	- That it sleeps is certain: its lease is committed, and a lease in place
 *	  can only end early by what gives the delivery a new place (a change of
 *	  its visibility, another receive), whose writer looks at the frontier.
 *	  Whether somebody is about to delete it does not matter; if that fails it
 *	  sleeps on.
 *
 *	- Who has walked over a range replaces it by what he met: the parts in which
 *	  something sleeps, and those in which he met something else that is not
 *	  dead, be it only because he or somebody holds it.  The latter are due at
 *	  once, since it may be free at any moment; so they are looked at by each
 *	  receive until it is dead, as the frontier's stragglers are.  The same
 *	  counts for all that he has not come to.
 *
 *	- What was dead in a walk is dead for ever, and nothing begins to sleep below
 *	  the frontier but what is a straggler, or in such a range of what is not
 *	  dead; both are looked at until then, and added again.  So the result of
 *	  a walk is good however long it took, provided that the range is still
 *	  the one that was walked over: if others have changed it, it stays.
 *
 *	- Who has changed deliveries of the queue in his transaction does not see what
 *	  others may see again when it fails, and replaces nothing.
 *
 * A lost list is as good as a lost frontier: receives begin at minus infinity,
 * pass everybody who sleeps, and add them again.
 *
 * All this is cheap as long as leases end in the order in which they were taken,
 * hence in the order of places: then ranges hardly overlap.  If each was as long
 * as it liked, every range would reach over everybody.  So only leases of the
 * usual length are taken in place: that of the queue's visibility timeout, or
 * another that most receives have asked for lately.
 */
#include "postgres.h"

#include "frontier.h"
#include "shared.h"
#include "sleepers.h"

/* Leases that end within this part of what is left of them share a range. */
#define SAME_TIME 4

/* So many receives, more or less, with the usual visibility timeout are enough for leases in place. */
#define ENOUGH_VOTES 3

/* There are no sleepers. */
void
pgn_sleepers_init(SleeperList *list)
{
	list->n = 0;
	list->changes = 0;
}

/* Add a place to a range. */
static void
add_place(Sleepers *sleepers, TimestampTz place, TimestampTz until)
{
	sleepers->from = Min(sleepers->from, place);
	sleepers->to = Max(sleepers->to, place);
	sleepers->until = Min(sleepers->until, until);
}

/* How far the ends of two ranges are from each other. */
static int64
distance(const Sleepers *a, const Sleepers *b)
{
	return Max(a->until, b->until) - Min(a->until, b->until);
}

/* How much longer a range becomes by another. */
static int64
growth(const Sleepers *range, const Sleepers *other)
{
	return Max(range->from - other->from, 0) + Max(other->to - range->to, 0);
}

/* The range of a list that a due one is to be added to if there is no room: the nearest that is due as well, or else another. */
static Sleepers *
nearest_due(SleeperList *list, const Sleepers *sleepers, TimestampTz now, Sleepers *other)
{
	Sleepers   *nearest = other;

	for (int i = 0; i < list->n; i++)
		if (list->ranges[i].until <= now &&
			(nearest->until > now || growth(&list->ranges[i], sleepers) < growth(nearest, sleepers)))
			nearest = &list->ranges[i];
	return nearest;
}

/* Add a range to a list. */
void
pgn_sleepers_add(SleeperList *list, const Sleepers *sleepers, TimestampTz now)
{
	Sleepers   *nearest = NULL;

	for (int i = 0; i < list->n; i++)
	{
		Sleepers   *range = &list->ranges[i];

		if (range->from <= sleepers->from && sleepers->to <= range->to && range->until <= sleepers->until)
		{
			/* Who is walking over it may not have met them. */
			range->number = ++list->changes;
			return;
		}
		if (nearest == NULL || distance(range, sleepers) < distance(nearest, sleepers))
			nearest = range;
	}
	if (nearest == NULL ||
		(list->n < PGN_SLEEPERS && distance(nearest, sleepers) > (sleepers->until - now) / SAME_TIME))
	{
		nearest = &list->ranges[list->n++];
		*nearest = *sleepers;
	}
	else if (sleepers->until <= now)
		nearest = nearest_due(list, sleepers, now, nearest);
	add_place(nearest, sleepers->from, sleepers->until);
	add_place(nearest, sleepers->to, sleepers->until);
	nearest->number = ++list->changes;
}

/* Add a place behind all others of a list, to the last range if it follows closely or there is no room. */
void
pgn_sleepers_extend(SleeperList *list, TimestampTz place, TimestampTz until, bool follows)
{
	if (list->n == 0 || (!follows && list->n < PGN_SLEEPERS / 4))
		list->ranges[list->n++] = PGN_NO_SLEEPERS;
	add_place(&list->ranges[list->n - 1], place, until);
}

/* Add all ranges of a list to another. */
void
pgn_sleepers_add_all(SleeperList *list, const SleeperList *others, TimestampTz now)
{
	for (int i = 0; i < others->n; i++)
		pgn_sleepers_add(list, &others->ranges[i], now);
}

/* When the first range is to be looked at, of those that are not due now; PG_INT64_MAX if there is none. */
TimestampTz
pgn_sleepers_first(const SleeperList *list, TimestampTz now)
{
	TimestampTz first = PG_INT64_MAX;

	for (int i = 0; i < list->n; i++)
		if (list->ranges[i].until > now)
			first = Min(first, list->ranges[i].until);
	return first;
}

/* Will somebody look at this place before that time, or then? */
bool
pgn_sleepers_cover(const SleeperList *list, TimestampTz place, TimestampTz visible_at)
{
	for (int i = 0; i < list->n; i++)
	{
		const Sleepers *range = &list->ranges[i];

		if (range->from <= place && place <= range->to && range->until <= visible_at)
			return true;
	}
	return false;
}

/* The ranges of a lane in which something may be visible now, and their number. */
int
pgn_sleepers_due(Queue *queue, int lane, TimestampTz now, Sleepers due[PGN_SLEEPERS])
{
	SharedQueue *shared = pgn_shared_queue(queue);
	SharedLane *shared_lane;
	int			n = 0;

	/* One that is just being added is met by who looks at the frontier first. */
	if (shared == NULL || shared->lanes[lane].sleepers.n == 0)
		return 0;
	shared_lane = &shared->lanes[lane];
	SpinLockAcquire(&shared_lane->lock);
	for (int i = 0; i < shared_lane->sleepers.n; i++)
		if (shared_lane->sleepers.ranges[i].until <= now)
			due[n++] = shared_lane->sleepers.ranges[i];
	SpinLockRelease(&shared_lane->lock);
	return n;
}

/*
 * Replace a range that was walked over, if it is still the same, by the parts
 * that are left of it: who is asleep, and what is not.
 */
void
pgn_sleepers_replace(Queue *queue, int lane, TimestampTz now, const Sleepers *looked_at,
					 const SleeperList *asleep, const SleeperList *awake)
{
	SharedLane *shared = &pgn_shared_queue(queue)->lanes[lane];
	SleeperList *list = &shared->sleepers;

	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < list->n; i++)
	{
		SleeperList left;

		if (list->ranges[i].number != looked_at->number)
			continue;
		/* At once: who looks without the lock must not find an empty list. */
		left = *list;
		left.ranges[i] = left.ranges[--left.n];
		pgn_sleepers_add_all(&left, asleep, now);
		pgn_sleepers_add_all(&left, awake, now);
		*list = left;
		break;
	}
	SpinLockRelease(&shared->lock);
}

/*
 * Are leases of this length the usual ones, so that they are to be taken in
 * place?  Each receive asks, and by that votes for its own.  Votes that are
 * lost when two vote at once do not matter.
 */
bool
pgn_sleepers_expected(Queue *queue, int64 visibility_timeout)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	int64		usual;
	uint32		votes;

	if (shared == NULL)
		return false;
	usual = (int64) pg_atomic_read_u64(&shared->usual_timeout);
	votes = pg_atomic_read_u32(&shared->usual_votes);
	if (visibility_timeout == (usual == PGN_QUEUE_TIMEOUT ? queue->attributes.visibility_timeout : usual))
	{
		if (votes < PGN_MOST_VOTES)
			pg_atomic_write_u32(&shared->usual_votes, votes + 1);
		return votes >= ENOUGH_VOTES;
	}
	if (votes > 0)
		pg_atomic_write_u32(&shared->usual_votes, votes - 1);
	else
		pg_atomic_write_u64(&shared->usual_timeout, (uint64) visibility_timeout);
	return false;
}

/* When the next range of a lane is to be looked at; see pgn_sleepers_first. */
TimestampTz
pgn_sleepers_next(Queue *queue, int lane, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	SharedLane *shared_lane;
	TimestampTz next;

	if (shared == NULL)
		return PG_INT64_MAX;
	shared_lane = &shared->lanes[lane];
	SpinLockAcquire(&shared_lane->lock);
	next = pgn_sleepers_first(&shared_lane->sleepers, now);
	SpinLockRelease(&shared_lane->lock);
	return next;
}

/* The range that has all ranges of a lane. */
Sleepers
pgn_sleepers_all(Queue *queue, int lane)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	SharedLane *shared_lane;
	Sleepers	all = PGN_NO_SLEEPERS;

	if (shared == NULL)
		return all;
	shared_lane = &shared->lanes[lane];
	SpinLockAcquire(&shared_lane->lock);
	for (int i = 0; i < shared_lane->sleepers.n; i++)
	{
		const Sleepers *range = &shared_lane->sleepers.ranges[i];

		add_place(&all, range->from, range->until);
		add_place(&all, range->to, range->until);
	}
	SpinLockRelease(&shared_lane->lock);
	return all;
}
