/*
 * activity.c
 *		What a transaction does to queues, told to the others when it ends.
 *
 * Nobody is to hear of a message before it is committed, and all have to
 * hear of it then.  So each backend keeps a note for each queue that its
 * transaction has touched: what became visible and when, what was claimed,
 * what is to be counted.  At commit the notes are acted upon: waiters are
 * woken, the worker is told, counters are raised.  At abort, only what was
 * claimed matters: it is there to be received again.
 *
 * A subtransaction has notes of its own, which become its parent's when it
 * commits.  Notes are kept in a stack, those of the innermost subtransaction
 * on top, and a queue points to its topmost note, so that to find it costs
 * nothing, however many queues one transaction sends to.
 *
 * The callbacks run after the transaction has ended for everybody else, and
 * before its locks are released; so the shared entry of a queue is still
 * there.  They allocate nothing and cannot fail.
 *
 * PREPARE TRANSACTION ends the backend's knowledge of the transaction.  What
 * it did is counted then and there (so a ROLLBACK PREPARED leaves it counted),
 * and utility.c sees to it that everybody looks again after COMMIT PREPARED
 * and ROLLBACK PREPARED.
 *
 * Without shared memory there is nobody to tell, and no note is kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "jobs.h"
#include "vacuum.h"
#include "wakeup.h"

/* How long after some activity the log is looked at. */
#define LOG_INTERVAL (10 * USECS_PER_SEC)

/*
 * Others hear of a queue that has come or gone a moment after the commit; and
 * where they do so all the time, the worker need not look each time.
 */
#define REGISTRY_DELAY USECS_PER_SEC

/* Messages that were received or are gone, for fair.c; in pieces, so that to join two lists cannot fail. */
#define PIECE 64
typedef struct TenantMessages
{
	struct TenantMessages *next;
	int			n;
	TenantMessage messages[PIECE];
} TenantMessages;

typedef struct Activity
{
	struct Activity *below;		/* in the stack */
	struct Activity *outer;		/* of the same queue, in an enclosing
								 * transaction */
	Queue	   *queue;
	SharedQueue *shared;
	int			level;			/* nesting level of the transaction */
	int64		written;		/* versions, and when they are visible */
	TimestampTz earliest;
	TimestampTz latest;
	TimestampTz place;			/* the first of their places */
	int64		claimed;
	TimestampTz maintain_at;
	bool		notify;			/* listeners may not know of what is there */
	bool		dropped;		/* the queue itself */
	int64		counts[PGN_QUEUE_COUNTERS];
	TenantMessages *first;
	TenantMessages *last;
} Activity;

static Activity *top = NULL;
static bool jobs[PGN_DATABASE_JOBS];
static bool any_job = false;

/* Take the topmost note from the stack. */
static Activity *
pop(void)
{
	Activity   *activity = top;

	top = activity->below;
	activity->queue->activity = activity->outer;
	return activity;
}

/* Raise the counters of a queue. */
static void
add_counts(Activity *activity, TimestampTz now)
{
	for (TenantMessages *piece = activity->first; piece; piece = piece->next)
		pgn_fair_in_flight(activity->shared, piece->messages, piece->n, now);
	for (int i = 0; i < PGN_QUEUE_COUNTERS; i++)
		if (activity->counts[i] != 0)
			pg_atomic_fetch_add_u64(&activity->shared->counters[i], activity->counts[i]);
}

/* Wake those who can receive what was written. */
static void
tell_waiters(Activity *activity, TimestampTz now)
{
	SharedQueue *shared = activity->shared;
	bool		notify = activity->queue->attributes.notify;

	if (activity->earliest <= now)
	{
		pgn_candidates_discard(&shared->candidates, activity->place);
		pgn_wake_waiters(shared, activity->written);
		if (notify)
			pgn_notify_request(shared, now);
	}
	if (activity->latest > now)
	{
		TimestampTz due_at = Max(activity->earliest, now);

		pgn_lower_due(shared, due_at);
		pgn_candidates_limit(&shared->candidates, now, due_at);
		if (notify)
			pgn_notify_request(shared, due_at);
	}
}

/*
 * Messages of a FIFO queue are gone.  Others that were sent to their groups
 * meanwhile could not be received before, and we may not know of them; those
 * we know of were written in the schedule.
 */
static void
tell_of_gone(Activity *activity, TimestampTz now)
{
	int64		gone = activity->counts[COUNT_DELETED] + activity->counts[COUNT_EXPIRED] +
	activity->counts[COUNT_PURGED] + activity->counts[COUNT_DEAD_LETTERED] + activity->counts[COUNT_REDRIVEN];

	if (gone <= activity->written)
		return;
	pgn_wake_waiters(activity->shared, gone - activity->written);
	if (activity->queue->attributes.notify)
		pgn_notify_request(activity->shared, now);
}

/* What a note says has been committed. */
static void
tell_commit(Activity *activity, TimestampTz now)
{
	int64		changes = activity->counts[COUNT_RECEIVED] + activity->counts[COUNT_DELETED] +
	activity->counts[COUNT_EXPIRED] + activity->counts[COUNT_DEAD_LETTERED];

	add_counts(activity, now);
	if (changes > 0)
		pgn_vacuum_count(activity->shared, changes, now);
	if (activity->written > 0)
		tell_waiters(activity, now);
	if (activity->queue->attributes.fifo)
		tell_of_gone(activity, now);
	if (activity->notify)
		pgn_notify_request(activity->shared, now);
	/* They wait for the end of the transaction, and then find no queue. */
	if (activity->dropped)
		pgn_wake_waiters(activity->shared, PG_INT64_MAX);
	if (activity->maintain_at != PG_INT64_MAX)
		pgn_queue_job_request(&activity->shared->maintain_at, activity->maintain_at);
}

/* What a note says has been rolled back. */
static void
tell_abort(Activity *activity, TimestampTz now)
{
	if (activity->claimed == 0)
		return;
	pgn_candidates_discard(&activity->shared->candidates, PG_INT64_MIN);
	pgn_wake_waiters(activity->shared, activity->claimed);
	if (activity->queue->attributes.notify)
		pgn_notify_request(activity->shared, now);
}

/* Tell the worker what the transaction asked it to do. */
static void
request_jobs(TimestampTz now)
{
	for (int job = 0; any_job && job < PGN_DATABASE_JOBS; job++)
		if (jobs[job])
			pgn_database_job_request(job, job == JOB_REGISTRY ? now + REGISTRY_DELAY : now);
}

/* The transaction has ended. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	TimestampTz now;

	if ((event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) ||
		(top == NULL && !any_job))
		return;
	now = GetCurrentTimestamp();
	if (event == XACT_EVENT_COMMIT)
	{
		request_jobs(now);
		if (top)
			pgn_database_job_request(JOB_LOG, now + LOG_INTERVAL);
	}
	while (top)
	{
		Activity   *activity = pop();

		if (event == XACT_EVENT_COMMIT)
			tell_commit(activity, now);
		else if (event == XACT_EVENT_ABORT)
			tell_abort(activity, now);
		else
			add_counts(activity, now);
	}
	memset(jobs, false, sizeof(jobs));
	any_job = false;
}

/* Make a note that of the enclosing transaction, which has one already. */
static void
merge(Activity *from, Activity *to)
{
	to->written += from->written;
	to->earliest = Min(to->earliest, from->earliest);
	to->latest = Max(to->latest, from->latest);
	to->place = Min(to->place, from->place);
	to->claimed += from->claimed;
	to->maintain_at = Min(to->maintain_at, from->maintain_at);
	to->notify |= from->notify;
	to->dropped |= from->dropped;
	for (int i = 0; i < PGN_QUEUE_COUNTERS; i++)
		to->counts[i] += from->counts[i];
	if (to->last)
		to->last->next = from->first;
	else
		to->first = from->first;
	if (from->last)
		to->last = from->last;
}

/* The subtransaction has ended. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	Activity  **link = &top;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (top && top->level >= level)
			tell_abort(pop(), GetCurrentTimestamp());
		return;
	}
	if (event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (*link && (*link)->level >= level)
	{
		Activity   *activity = *link;

		if (activity->outer && activity->outer->level == level - 1)
		{
			merge(activity, activity->outer);
			activity->queue->activity = activity->outer;
			*link = activity->below;
		}
		else
		{
			activity->level = level - 1;
			link = &activity->below;
		}
	}
}

/* Register the callbacks, once per backend. */
static void
register_callbacks(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	registered = true;
}

/* The note of the current (sub)transaction for a queue; NULL if there is nobody to tell. */
static Activity *
get_activity(Queue *queue)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	Activity   *activity = queue->activity;

	if (shared == NULL)
		return NULL;
	if (activity && activity->level == GetCurrentTransactionNestLevel())
		return activity;

	register_callbacks();
	activity = MemoryContextAllocZero(TopTransactionContext, sizeof(Activity));
	activity->queue = queue;
	activity->shared = shared;
	activity->level = GetCurrentTransactionNestLevel();
	activity->earliest = PG_INT64_MAX;
	activity->latest = PG_INT64_MIN;
	activity->place = PG_INT64_MAX;
	activity->maintain_at = PG_INT64_MAX;
	activity->outer = queue->activity;
	activity->below = top;
	queue->activity = top = activity;
	return activity;
}

/* A version of a delivery was written that has this place and is visible from that time on. */
void
pgn_activity_written(Queue *queue, TimestampTz place, TimestampTz visible_at)
{
	Activity   *activity = get_activity(queue);

	if (activity == NULL)
		return;
	activity->written++;
	activity->earliest = Min(activity->earliest, visible_at);
	activity->latest = Max(activity->latest, visible_at);
	activity->place = Min(activity->place, place);
}

/* So many messages were taken, deleted or hidden, and are there again, as they were, after an abort. */
void
pgn_activity_claimed(Queue *queue, int n)
{
	Activity   *activity = n > 0 ? get_activity(queue) : NULL;

	if (activity)
		activity->claimed += n;
}

/* Maintenance will have something to do at the queue at that time. */
void
pgn_activity_maintain(Queue *queue, TimestampTz at)
{
	Activity   *activity = get_activity(queue);

	if (activity)
		activity->maintain_at = Min(activity->maintain_at, at);
}

/* The queue is there no more. */
void
pgn_activity_dropped(Queue *queue)
{
	Activity   *activity = get_activity(queue);

	if (activity)
		activity->dropped = true;
}

/* Who listens to the queue may not know of what is there already. */
void
pgn_activity_notify(Queue *queue)
{
	Activity   *activity = get_activity(queue);

	if (activity)
		activity->notify = true;
}

/* Count something. */
void
pgn_activity_count(Queue *queue, QueueCounter counter, int64 n)
{
	Activity   *activity = n != 0 ? get_activity(queue) : NULL;

	if (activity)
		activity->counts[counter] += n;
}

/* Count one that stays counted if the transaction rolls back: nothing was changed, and no lock may be kept. */
void
pgn_activity_count_now(Queue *queue, QueueCounter counter)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	if (shared)
		pg_atomic_fetch_add_u64(&shared->counters[counter], 1);
}

/* Note a message for fairness. */
static void
note_in_flight(Queue *queue, const TenantMessage *message)
{
	Activity   *activity = get_activity(queue);
	TenantMessages *piece = activity->last;

	if (piece == NULL || piece->n == PIECE)
	{
		piece = MemoryContextAllocZero(TopTransactionContext, sizeof(TenantMessages));
		if (activity->last)
			activity->last->next = piece;
		else
			activity->first = piece;
		activity->last = piece;
	}
	piece->messages[piece->n++] = *message;
}

/* A message was received, as the row says now. */
void
pgn_activity_received(Queue *queue, const Delivery *row)
{
	TenantMessage message = {row->group_key, row->received_at, 1};

	if (row->queue_receive_count == 1 && pgn_fair_has_tenants(queue))
		note_in_flight(queue, &message);
}

/* A message is gone; the row as it was before. */
void
pgn_activity_gone(Queue *queue, const Delivery *row)
{
	TenantMessage message = {row->group_key, row->received_at, -1};

	/* In a dead-letter queue its first receive was elsewhere. */
	if (row->queue_receive_count > 1 && row->source == 0)
		message.since = row->first_received_at;
	if (row->queue_receive_count > 0 && pgn_fair_has_tenants(queue))
		note_in_flight(queue, &message);
}

/* The worker will have a job to do; also if only a subtransaction says so that fails. */
void
pgn_activity_job(DatabaseJob job)
{
	if (pgn_shared_queues == NULL)
		return;
	register_callbacks();
	jobs[job] = any_job = true;
}
