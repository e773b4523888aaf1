/*
 * fair.c
 *		Fair queues: no tenant makes the others wait.
 *
 * In a standard queue the group_id of a message names its tenant.  A tenant
 * with much more than others is noisy, and what it sends goes to one of a few
 * lanes for such, which are served when nothing else is due, and first by one
 * receive in ten, so that they get on however much the others send.  So the
 * messages of a quiet tenant mostly wait for other quiet ones only, whatever
 * the backlog of the noisy one.  Nothing is slowed down or limited: those lanes
 * are served with all that receivers have left, and among them first that whose
 * tenants have least in flight; those who have the same take turns, and one
 * receive in LANE_TURN goes round them all.
 *
 * Noisy is who has some MUCH messages in flight, and more than one in SHARE of
 * all that are: here SQS draws the line.  But where few are processed at a time
 * that never happens; and what is sent is known earlier, before there is a
 * backlog to be overtaken in.  So who has sent that much lately is noisy, too.
 * That ends when the backlog clears: a receive finds nothing, and nothing was
 * sent in the last second that might not be committed yet.  Five minutes without
 * sends end all of it.  In between the counts have a half-life, so that what
 * happened long ago is forgotten.
 *
 * A queue's busiest tenants are watched, in shared memory.  Messages without a
 * group_id are each of a tenant of its own, who is never noisy, and cost nothing
 * before the first that has one.  Without shared memory no tenant is noisy and
 * messages are served as they come.
 *
 * Counts are a hint for the order, no more.  Sends are counted before they are
 * committed, receives and what becomes of them when they are.  In flight is
 * what was received and not deleted since, be it visible again.  The half-life
 * applies to it, too, since nobody may ever come for a message again; what is
 * subtracted in the end is what is left of what was added.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "fair.h"
#include "shared.h"

#define MUCH 30
#define SHARE 10
#define NOISY_TURN 10
#define LANE_TURN 5
#define HALF_LIFE ((double) SILENCE)
#define SILENCE (5 * USECS_PER_MINUTE)

/* By then what was sent mostly is committed. */
#define COMMITTED_AFTER USECS_PER_SEC

/* What is left of one message after that time. */
static double
weight(TimestampTz since, TimestampTz now)
{
	return since < now ? exp2((since - now) / HALF_LIFE) : 1;
}

/* Bring what was counted of a tenant up to date.  The clock may have been set back. */
static void
age(Tenant *tenant, TimestampTz now)
{
	double		factor = weight(tenant->at, now);

	tenant->sent *= factor;
	tenant->in_flight *= factor;
	tenant->at = now;
}

/* Is this much, for one tenant? */
static bool
is_much(double count, double count_of_all)
{
	return count > MUCH - 1 && count * SHARE > count_of_all;
}

/* Has a tenant not sent anything for long? */
static bool
is_silent(const Tenant *tenant, TimestampTz now)
{
	return now - tenant->sent_at > SILENCE;
}

/* Is a tenant noisy?  The counts are up to date. */
static bool
is_noisy(const Tenant *tenant, const Tenant *all)
{
	return !is_silent(tenant, tenant->at) &&
		(is_much(tenant->sent, all->sent) || is_much(tenant->in_flight, all->in_flight));
}

/* The place of a tenant among those watched, its counts up to date, NULL if it has none. */
static Tenant *
find_tenant(Tenant *tenants, int64 group_key, TimestampTz now)
{
	for (int i = 0; i < PGN_TENANTS; i++)
		if (tenants[i].group_key == group_key)
		{
			age(&tenants[i], now);
			return &tenants[i];
		}
	return NULL;
}

/*
 * The same, but a new one takes the place of that with least, or if that is not
 * so little, wears it down: who comes again and again is watched in the end.
 */
static Tenant *
watch_tenant(Tenant *tenants, int64 group_key, TimestampTz now)
{
	Tenant	   *least = find_tenant(tenants, group_key, now);

	if (least)
		return least;
	least = tenants;
	for (int i = 0; i < PGN_TENANTS; i++)
	{
		age(&tenants[i], now);
		if (is_silent(&tenants[i], now))
			tenants[i].sent = 0;
		if (tenants[i].sent + tenants[i].in_flight < least->sent + least->in_flight)
			least = &tenants[i];
	}
	if (least->sent + least->in_flight > 1)
	{
		if (least->sent > 0)
			least->sent = Max(0, least->sent - 1);
		else
			least->in_flight = Max(0, least->in_flight - 1);
		return NULL;
	}
	*least = (Tenant)
	{
		.group_key = group_key,.lane = PGN_LANE_NORMAL,.at = now
	};
	return least;
}

/* The lane that is shared with fewest other noisy tenants. */
static int16
find_lane(Tenant *tenants, const Tenant *all, TimestampTz now)
{
	int			used[PGN_NOISY_LANES] = {0};
	int			least = 0;

	for (int i = 0; i < PGN_TENANTS; i++)
	{
		age(&tenants[i], now);
		if (tenants[i].lane != PGN_LANE_NORMAL && is_noisy(&tenants[i], all))
			used[tenants[i].lane - PGN_LANE_NOISY]++;
	}
	for (int i = 1; i < PGN_NOISY_LANES; i++)
		if (used[i] < used[least])
			least = i;
	return PGN_LANE_NOISY + least;
}

/* Are any tenants known? */
static bool
has_tenants(const SharedQueue *shared)
{
	return shared != NULL && shared->all_tenants.at != 0;
}

/* Is anything to be counted of a queue? */
bool
pgn_fair_has_tenants(Queue *queue)
{
	return has_tenants(pgn_shared_queue(queue));
}

/* Count a message that a tenant (0: none) sends; the lane it goes to. */
int16
pgn_fair_lane(Queue *queue, int64 group_key, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	Tenant	   *all,
			   *tenant = NULL;
	int16		lane = PGN_LANE_NORMAL;

	if (shared == NULL || (group_key == 0 && !has_tenants(shared)))
		return lane;
	all = &shared->all_tenants;
	SpinLockAcquire(&shared->tenants_lock);
	age(all, now);
	all->sent++;
	all->sent_at = now;
	if (group_key != 0)
		tenant = watch_tenant(shared->tenants, group_key, now);
	if (tenant)
	{
		tenant->sent = is_silent(tenant, now) ? 1 : tenant->sent + 1;
		tenant->sent_at = now;
		if (!is_noisy(tenant, all))
			tenant->lane = PGN_LANE_NORMAL;
		else if (tenant->lane == PGN_LANE_NORMAL)
			tenant->lane = find_lane(shared->tenants, all, now);
		lane = tenant->lane;
	}
	SpinLockRelease(&shared->tenants_lock);
	return lane;
}

/* Count messages that were received for the first time, or are gone after they were. */
void
pgn_fair_in_flight(SharedQueue *shared, const TenantMessage *messages, int n, TimestampTz now)
{
	Tenant	   *all = &shared->all_tenants;

	SpinLockAcquire(&shared->tenants_lock);
	age(all, now);
	for (int i = 0; i < n; i++)
	{
		double		change = messages[i].change * weight(messages[i].since, now);
		Tenant	   *tenant = messages[i].group_key == 0 ? NULL :
		find_tenant(shared->tenants, messages[i].group_key, now);

		all->in_flight = Max(0, all->in_flight + change);
		if (tenant)
			tenant->in_flight = Max(0, tenant->in_flight + change);
	}
	SpinLockRelease(&shared->tenants_lock);
}

/* A receive has found nothing: there is no backlog. */
void
pgn_fair_backlog_cleared(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	if (!has_tenants(shared))
		return;
	SpinLockAcquire(&shared->tenants_lock);
	if (now - shared->all_tenants.sent_at >= COMMITTED_AFTER)
	{
		shared->all_tenants.sent = 0;
		for (int i = 0; i < PGN_TENANTS; i++)
			shared->tenants[i].sent = 0;
	}
	SpinLockRelease(&shared->tenants_lock);
}

/* Forget all tenants: the queue was purged. */
void
pgn_fair_forget(Queue *queue)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	if (!has_tenants(shared))
		return;
	SpinLockAcquire(&shared->tenants_lock);
	memset(shared->tenants, 0, sizeof(shared->tenants));
	shared->all_tenants.sent = shared->all_tenants.in_flight = 0;
	SpinLockRelease(&shared->tenants_lock);
}

/* Is it the turn of noisy tenants, if there are any?  So it is for one receive in NOISY_TURN. */
bool
pgn_fair_noisy_first(Queue *queue)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	/* Where no message has a tenant nobody is noisy. */
	return has_tenants(shared) &&
		pg_atomic_fetch_add_u32(&shared->turn, 1) % NOISY_TURN == NOISY_TURN - 1;
}

/* The tenants of a queue at this time, and what is counted of all; false if nothing is known of any. */
static bool
copy_tenants(Queue *queue, TimestampTz now, Tenant tenants[PGN_TENANTS], Tenant *all)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	if (!has_tenants(shared))
		return false;
	SpinLockAcquire(&shared->tenants_lock);
	memcpy(tenants, shared->tenants, sizeof(shared->tenants));
	*all = shared->all_tenants;
	SpinLockRelease(&shared->tenants_lock);
	age(all, now);
	for (int i = 0; i < PGN_TENANTS; i++)
		age(&tenants[i], now);
	return true;
}

/*
 * In which order to look at the lanes of noisy tenants: those whose tenants
 * have least in flight come first, and in turns if that is the same.
 */
void
pgn_fair_noisy_lanes(Queue *queue, TimestampTz now, int16 lanes[PGN_NOISY_LANES])
{
	double		in_flight[PGN_NOISY_LANES] = {0};
	bool		is_used[PGN_NOISY_LANES] = {false};
	int			used[PGN_NOISY_LANES];
	Tenant		tenants[PGN_TENANTS];
	Tenant		all;
	bool		known = copy_tenants(queue, now, tenants, &all);
	uint32		turn = known ? pg_atomic_fetch_add_u32(&queue->shared->lane_turn, 1) : 0;
	int			nused = 0,
				n = 0;

	for (int i = 0; i < PGN_TENANTS && known; i++)
		if (tenants[i].lane >= PGN_LANE_NOISY)
		{
			is_used[tenants[i].lane - PGN_LANE_NOISY] = true;
			in_flight[tenants[i].lane - PGN_LANE_NOISY] += tenants[i].in_flight;
		}
	for (int i = 0; i < PGN_NOISY_LANES && turn % LANE_TURN != LANE_TURN - 1; i++)
		if (is_used[i])
			used[nused++] = i;
	for (; n < nused; n++)
	{
		int			lane = used[(turn + n) % nused];
		int			place = n;

		for (; place > 0 && rint(in_flight[lanes[place - 1] - PGN_LANE_NOISY]) > rint(in_flight[lane]); place--)
			lanes[place] = lanes[place - 1];
		lanes[place] = PGN_LANE_NOISY + lane;
	}

	/*
	 * What is left in lanes that nobody uses any more; or all of them, in
	 * turns.
	 */
	for (int i = 0; i < PGN_NOISY_LANES; i++)
	{
		int			lane = (turn / LANE_TURN + i) % PGN_NOISY_LANES;

		if (nused == 0 || !is_used[lane])
			lanes[n++] = PGN_LANE_NOISY + lane;
	}
}

/* How many tenants are noisy; negative if nobody knows. */
int
pgn_fair_noisy_tenants(Queue *queue, TimestampTz now)
{
	Tenant		tenants[PGN_TENANTS];
	Tenant		all;
	int			n = 0;

	if (pgn_shared_queue(queue) == NULL)
		return -1;
	if (copy_tenants(queue, now, tenants, &all))
		for (int i = 0; i < PGN_TENANTS; i++)
			n += is_noisy(&tenants[i], &all);
	return n;
}
