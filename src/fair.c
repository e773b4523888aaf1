/*
 * fair.c
 *		Fair queues: no tenant makes the others wait.
 *
 * In a standard queue the group_id of a message names its tenant.  A tenant
 * that has sent much more than others lately is noisy, and what it sends goes
 * to a lane of its own, which is served when nothing else is due, and first by
 * one receive in ten, so that it gets on however much the others send.  So the
 * messages of a quiet tenant mostly wait for other quiet ones only, whatever
 * the backlog of the noisy one.  Nothing is slowed down or limited: the lane
 * is served with all that receivers have left.
 *
 * Noisy is who has sent some NOISY_LOAD messages lately, and more than one
 * in NOISY_SHARE of all that were.  SQS draws the line at the same numbers,
 * but counts what is in flight; what is sent is known earlier, before there is
 * a backlog to be overtaken in.  "Lately" has a half-life of a minute, and ends
 * with five minutes of silence.
 *
 * A queue's busiest tenants are watched, in shared memory.  Messages without a
 * group_id are not counted and cost nothing; without shared memory no tenant
 * is noisy and messages are served as they come.  Counts are of what was sent,
 * committed or not: they are a hint for the order, no more.
 */
#include "postgres.h"

#include <math.h>

#include "delivery.h"
#include "fair.h"
#include "shared.h"

#define NOISY_LOAD 30
#define NOISY_SHARE 10
#define NOISY_TURN 10
#define HALF_LIFE ((double) USECS_PER_MINUTE)
#define SILENCE (5 * USECS_PER_MINUTE)

/* What a load has become by now. */
static double
decayed(const Tenant *tenant, TimestampTz now)
{
	if (now <= tenant->at)
		return tenant->load;
	return now - tenant->at > SILENCE ? 0 : tenant->load * exp2((tenant->at - now) / HALF_LIFE);
}

/* Is this the load of a noisy tenant? */
static bool
is_noisy(double load, double load_of_all)
{
	return load > NOISY_LOAD - 1 && load * NOISY_SHARE > load_of_all;
}

/* Count one more message. */
static void
add_load(Tenant *tenant, TimestampTz now)
{
	tenant->load = decayed(tenant, now) + 1;
	tenant->at = Max(tenant->at, now);
}

/* The place of a tenant among those watched; a new one takes that of the quietest. */
static Tenant *
find_tenant(Tenant *tenants, int64 group_key, TimestampTz now)
{
	Tenant	   *quietest = NULL;
	double		least = 0;

	for (int i = 0; i < PGN_TENANTS; i++)
		if (tenants[i].group_key == group_key)
			return &tenants[i];
	for (int i = 0; i < PGN_TENANTS; i++)
	{
		double		load = decayed(&tenants[i], now);

		if (quietest == NULL || load < least)
		{
			quietest = &tenants[i];
			least = load;
		}
	}
	*quietest = (Tenant)
	{
		.group_key = group_key,.at = now
	};
	return quietest;
}

/* Count a message that a tenant sends; the lane it goes to. */
int16
pgn_fair_lane(Queue *queue, int64 group_key, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	Tenant	   *tenant;
	bool		noisy;

	if (shared == NULL)
		return PGN_LANE_NORMAL;
	SpinLockAcquire(&shared->tenants_lock);
	tenant = find_tenant(shared->tenants, group_key, now);
	add_load(tenant, now);
	add_load(&shared->all_tenants, now);
	noisy = is_noisy(tenant->load, shared->all_tenants.load);
	SpinLockRelease(&shared->tenants_lock);
	return noisy ? PGN_LANE_NOISY : PGN_LANE_NORMAL;
}

/* Is it the turn of noisy tenants, if there are any?  So it is for one receive in NOISY_TURN. */
bool
pgn_fair_noisy_first(Queue *queue)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	/* Where no message has a tenant nobody is noisy. */
	return shared != NULL && shared->all_tenants.at != 0 &&
		pg_atomic_fetch_add_u32(&shared->turn, 1) % NOISY_TURN == NOISY_TURN - 1;
}

/* How many tenants are noisy; negative if nobody knows. */
int
pgn_fair_noisy_tenants(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	Tenant		tenants[PGN_TENANTS];
	double		load_of_all;
	int			n = 0;

	if (shared == NULL)
		return -1;
	SpinLockAcquire(&shared->tenants_lock);
	memcpy(tenants, shared->tenants, sizeof(tenants));
	load_of_all = decayed(&shared->all_tenants, now);
	SpinLockRelease(&shared->tenants_lock);
	for (int i = 0; i < PGN_TENANTS; i++)
		n += is_noisy(decayed(&tenants[i], now), load_of_all);
	return n;
}
