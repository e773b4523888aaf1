/*
 * notify.c
 *		NOTIFY for workers outside of the database.
 *
 * A queue with the attribute notify has a channel "pigeon.<queue>"; the payload
 * is the queue's name.  A NOTIFY there means: there is something to receive.
 *
 * A sender never notifies, since the commit of a notification takes a lock
 * that all notifying commits of the whole cluster share.  It leaves a time in
 * shared memory (notify_at of the queue): now, or when what it sent falls due.
 * The worker looks at the queue then, and notifies if there is something, at
 * most once per pigeon.notify_interval and queue.  alter_queue does the same,
 * for what was there before.
 *
 * maintain() does it instead when there is no worker: for queues that have a
 * time in shared memory that has come, or without shared memory for all that
 * have something to receive.
 */
#include "postgres.h"

#include "commands/async.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "maintenance.h"
#include "notify.h"
#include "wakeup.h"

#define BUSY_INTERVAL USECS_PER_SEC

/* Notify if there is something to receive; when something falls due next. */
TimestampTz
pgn_job_notify(int64 queue_id)
{
	Queue	   *queue = pgn_queue_find_by_id(queue_id);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	DeliveryTable deliveries;

	/* alter_queue asks for it before we hear of the alteration. */
	if (queue && !queue->attributes.notify)
		queue = pgn_queue_find_anew(queue_id);
	if (queue == NULL || !queue->attributes.notify)
		return PGN_IDLE;
	if (!pgn_queue_lock_now(queue, AccessShareLock))
		return now + BUSY_INTERVAL;
	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	if (pgn_any_due(&deliveries, now))
	{
		SharedQueue *shared = pgn_shared_queue(queue);

		Async_Notify(psprintf("pigeon.%s", queue->name), queue->name);
		if (shared)
			pg_atomic_write_u64(&shared->notified_at, (uint64) now);
	}
	next = pgn_next_due(&deliveries, now);
	pgn_deliveries_close(&deliveries, NoLock);
	return next;
}

/* For maintain(): notify unless the worker has done so. */
TimestampTz
pgn_job_notify_pending(int64 queue_id)
{
	Queue	   *queue = pgn_queue_find_by_id(queue_id);
	SharedQueue *shared;

	if (queue == NULL || !queue->attributes.notify || !pgn_queue_lock_now(queue, AccessShareLock))
		return PGN_IDLE;
	shared = pgn_shared_queue(queue);
	if (shared == NULL)
		(void) pgn_job_notify(queue_id);
	else if ((TimestampTz) pg_atomic_read_u64(&shared->notify_at) <= GetCurrentTimestamp())
	{
		pg_atomic_write_u64(&shared->notify_at, (uint64) PG_INT64_MAX);
		/* So that it is asked for again if this comes to nothing. */
		pgn_activity_claimed(queue, 1);
		(void) pgn_lower(&shared->notify_at, pgn_job_notify(queue_id));
	}
	return PGN_IDLE;
}
