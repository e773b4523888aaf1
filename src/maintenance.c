/*
 * maintenance.c
 *		The jobs that keep queues in order, and maintain(), which runs them once.
 *
 * Every job is safe to run at any time, by several processes at once, and
 * never waits for senders or receivers.  It takes one step of bounded length,
 * so that nobody who wants to lock a queue waits for long, and says when it
 * wants to be called again.  The worker calls jobs when they are due;
 * maintain() calls them all, and again as long as there is more to do.
 *
 * maintain() commits after each step where it may (a top-level CALL).  Inside
 * a transaction block all steps are part of that transaction, and the message
 * log is left alone: senders and receivers would have to wait for the
 * transaction's lock on a segment.  A job that fails, be it at its commit, is
 * rolled back and reported, and does not stop the others.
 *
 * Where a subscription (of logical replication) brings the queues from another
 * database, only that database maintains them.  What is done there comes along;
 * done here, it would be in the way of that, and while tables are copied for
 * the first time, one after the other, messages would look as if nobody needed
 * them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/catcache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "archive.h"
#include "dead_letter.h"
#include "deduplication.h"
#include "delivery_scan.h"
#include "earlier.h"
#include "fifo.h"
#include "fifo_receive.h"
#include "log.h"
#include "log_rotation.h"
#include "maintenance.h"
#include "notify.h"
#include "receive_attempt.h"
#include "redrive.h"
#include "replay.h"
#include "shared.h"
#include "task.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_maintain);

/*
 * Unexpired messages in a row after which a look for expired ones ends.
 * Messages are met in the order of sending, so that normally the first
 * unexpired one is the last that matters; but redriven ones are younger than
 * their place.  What is left is removed when those are gone, and is not
 * delivered before that.
 */
#define UNEXPIRED_IN_A_ROW 1000

/* Messages that one step deletes or moves at the most. */
#define STEP_MESSAGES 10000

/* When to come back to what somebody holds, or what no dead-letter queue takes. */
#define BUSY_INTERVAL (10 * USECS_PER_SEC)
#define MISSING_INTERVAL USECS_PER_MINUTE

/* How often to look at the groups and receive attempts of a FIFO queue. */
#define FIFO_INTERVAL USECS_PER_MINUTE

/*
 * The worker reads all deduplication keys of a queue no more often than the
 * above, nor than so many times while a key is valid; and so many pages of them
 * in a step.
 */
#define KEY_LOOKS 10
#define KEY_PAGES 1024

/* When to come back at the latest, for what was written by other means. */
#define LONGEST_INTERVAL USECS_PER_HOUR

/* How often a redrive or replay task with a rate takes a step. */
#define REDRIVE_INTERVAL (USECS_PER_SEC / 4)

/* Delete what has outlived the queue's retention; *deleted tells how many. */
static TimestampTz
expire_messages(DeliveryTable *deliveries, TimestampTz now, int *deleted)
{
	TimestampTz next = now + deliveries->queue->attributes.retention;
	DeliveryScan scan;
	DeliveryVersion version;
	int			unexpired = 0;
	GroupSet	changed = {0};

	*deleted = 0;
	pgn_message_scan_begin(&scan, deliveries, 0, PG_INT64_MAX, NULL);
	while (unexpired < UNEXPIRED_IN_A_ROW && *deleted < STEP_MESSAGES && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (!pgn_delivery_expired(deliveries->queue, &version.row, now))
		{
			unexpired++;
			next = pgn_earlier(next, pgn_delivery_kept_until(deliveries->queue, &version.row));
		}
		else if (!version.uncommitted && !version.held &&
				 pgn_delivery_delete(deliveries, &version.tid, false) == TM_Ok)
		{
			if (deliveries->queue->attributes.fifo)
				pgn_group_set_add(&changed, &version.row);
			pgn_activity_gone(deliveries->queue, &version.row);
			(*deleted)++;
			unexpired = 0;
		}
		else
			next = Min(next, now + BUSY_INTERVAL);
	}
	pgn_scan_end(&scan);
	pgn_fifo_reschedule_groups(deliveries, &changed, now);
	pgn_activity_count(deliveries->queue, COUNT_EXPIRED, *deleted);
	return *deleted == STEP_MESSAGES ? PGN_AGAIN : next;
}

/*
 * The same for the worker, which comes to a FIFO queue more often than
 * anything can expire there.  A look passes over all that was deleted while a
 * snapshot that is still held was taken.  What the shared memory has is no
 * later than the time from which on the retention of any message counts that
 * the last look came to.  Who has deleted some looks again next time: his
 * transaction may roll back.
 */
static TimestampTz
expire_messages_in_time(DeliveryTable *deliveries, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(deliveries->queue);
	int64		retention = deliveries->queue->attributes.retention;
	TimestampTz next;
	int			deleted;

	if (shared)
	{
		next = (TimestampTz) pg_atomic_read_u64(&shared->oldest) + retention;
		/* The clock may have been set back. */
		if (next > now && next <= now + LONGEST_INTERVAL)
			return next;
	}
	next = pgn_earlier(expire_messages(deliveries, now, &deleted), now + LONGEST_INTERVAL);
	if (shared)
		pg_atomic_write_u64(&shared->oldest, (uint64) ((deleted > 0 ? now : next) - retention));
	return next;
}

/* When the next message comes back from its last allowed receive. */
static TimestampTz
next_dead_letter(DeliveryTable *deliveries, TimestampTz now)
{
	TimestampTz next = PGN_IDLE;
	DeliveryScan scan;
	DeliveryVersion version;

	pgn_due_scan_begin(&scan, deliveries, PGN_LANE_FINAL, now + 1, PG_INT64_MAX);
	if (pgn_scan_next(&scan, &version))
		next = version.row.visible_at;
	pgn_scan_end(&scan);
	return next;
}

/* Move to the dead-letter queue what came back from its last allowed receive. */
static TimestampTz
sweep_dead_letters(DeliveryTable *deliveries, TimestampTz now)
{
	TimestampTz next = PGN_IDLE;
	DeadLetters letters;
	DeliveryScan scan;
	DeliveryVersion version;
	int			moved = 0;

	pgn_dead_letters_begin(&letters, deliveries);
	pgn_due_scan_begin(&scan, deliveries, PGN_LANE_FINAL, PG_INT64_MIN, now);
	while (moved < STEP_MESSAGES && pgn_scan_next(&scan, &version))
	{
		DeadLetterResult result = DEAD_LETTER_BUSY;

		CHECK_FOR_INTERRUPTS();
		if (!pgn_received_too_often(deliveries->queue, &version.row))
			continue;
		if (!version.uncommitted && !version.held)
			result = pgn_dead_letter(&letters, &version, now);
		if (result == DEAD_LETTER_MOVED)
			moved++;
		else
			next = Min(next, now + (result == DEAD_LETTER_BUSY ? BUSY_INTERVAL : MISSING_INTERVAL));
		if (result == DEAD_LETTER_MISSING)
			break;
	}
	pgn_scan_end(&scan);
	pgn_dead_letters_end(&letters);
	return moved == STEP_MESSAGES ? PGN_AGAIN : pgn_earlier(next, next_dead_letter(deliveries, now));
}

/* Is the worker in the midst of the deduplication keys, and were other things done a moment ago? */
static bool
is_among_keys(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);
	TimestampTz maintained_at;

	if (shared == NULL || pg_atomic_read_u32(&shared->key_page) == 0)
		return false;
	maintained_at = (TimestampTz) pg_atomic_read_u64(&shared->maintained_at);
	return maintained_at <= now && now < maintained_at + USECS_PER_SEC;
}

/* The other things are done. */
static void
note_maintained(Queue *queue, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(queue);

	if (shared)
		pg_atomic_write_u64(&shared->maintained_at, (uint64) now);
}

/* Forget deduplication keys that have expired: all if "thorough", or else a step in what is to be read by now. */
static TimestampTz
expire_keys(Queue *queue, TimestampTz now, bool thorough)
{
	SharedQueue *shared = thorough ? NULL : pgn_shared_queue(queue);
	int64		interval = Max(FIFO_INTERVAL, queue->attributes.deduplication_window / KEY_LOOKS);
	TimestampTz due_at;
	BlockNumber page;

	if (shared == NULL)
	{
		(void) pgn_deduplication_expire(queue, now, 0, MaxBlockNumber);
		return now + interval;
	}
	due_at = (TimestampTz) pg_atomic_read_u64(&shared->keys_at);
	/* The clock may have been set back. */
	if (due_at > now && due_at <= now + interval)
		return due_at;
	page = pgn_deduplication_expire(queue, now, pg_atomic_read_u32(&shared->key_page), KEY_PAGES);
	pg_atomic_write_u32(&shared->key_page, page);
	if (page != 0)
		return PGN_AGAIN;
	pg_atomic_write_u64(&shared->keys_at, (uint64) (now + interval));
	return now + interval;
}

/* The archive and the deduplication keys of one topic. */
static TimestampTz
maintain_topic(int64 topic_id, bool thorough)
{
	Topic	   *topic = pgn_topic_find_by_id(topic_id);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = PGN_IDLE;

	if (topic == NULL)
		return PGN_IDLE;
	if (topic->attributes.fifo)
		next = expire_keys(&topic->queue, now, thorough);
	if (topic->attributes.archive_retention > 0)
		next = pgn_earlier(next, pgn_archive_maintain(topic, now));
	return next;
}

/*
 * Retention and dead letters of one queue; nothing if somebody has locked it.
 * The number may also be that of a topic, which has jobs of the same kind.
 */
static TimestampTz
maintain_queue(int64 queue_id, bool thorough)
{
	/* Who has shortened the retention asks for this before we hear of it. */
	Queue	   *queue = pgn_queue_find_anew(queue_id);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = now + LONGEST_INTERVAL;
	DeliveryTable deliveries;
	int			deleted;

	if (queue == NULL)
		return maintain_topic(queue_id, thorough);
	if (!pgn_queue_lock_now(queue, RowExclusiveLock))
		return now + BUSY_INTERVAL;
	if (queue->attributes.fifo && !thorough && is_among_keys(queue, now) && expire_keys(queue, now, false) == PGN_AGAIN)
		return PGN_AGAIN;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	next = pgn_earlier(next, queue->attributes.fifo && !thorough ? expire_messages_in_time(&deliveries, now) :
					   expire_messages(&deliveries, now, &deleted));
	if (queue->attributes.fifo)
	{
		CommandCounterIncrement();
		if (queue->attributes.max_receive_count > 0 && pgn_fifo_sweep(&deliveries, now, STEP_MESSAGES))
			next = PGN_AGAIN;
		pgn_attempts_expire(queue);
		note_maintained(queue, now);
		next = pgn_earlier(next, now + FIFO_INTERVAL);
		next = pgn_earlier(next, expire_keys(queue, now, thorough));
	}
	else
		next = pgn_earlier(next, sweep_dead_letters(&deliveries, now));
	pgn_deliveries_close(&deliveries, NoLock);
	return next;
}

/* Everything that there is to do in a queue or topic. */
TimestampTz
pgn_job_queue(int64 queue_id)
{
	return maintain_queue(queue_id, true);
}

/* The same for the worker, which does not read again all the time what need not be forgotten at once. */
TimestampTz
pgn_job_queue_in_time(int64 queue_id)
{
	return maintain_queue(queue_id, false);
}

/* A step of a redrive task. */
TimestampTz
pgn_job_redrive(int64 task_id)
{
	return pgn_redrive_step(task_id) ? PGN_AGAIN : GetCurrentTimestamp() + REDRIVE_INTERVAL;
}

/* A step of a replay task. */
TimestampTz
pgn_job_replay(int64 task_id)
{
	return pgn_replay_step(task_id) ? PGN_AGAIN : GetCurrentTimestamp() + REDRIVE_INTERVAL;
}

/* Do the queues of this database come from another, by logical replication? */
bool
pgn_is_replicated(void)
{
	CatCList   *subscriptions = SearchSysCacheList1(SUBSCRIPTIONRELMAP, ObjectIdGetDatum(pgn_relation("queue")));
	bool		found = subscriptions->n_members > 0;

	ReleaseSysCacheList(subscriptions);
	return found;
}

/* Rotate the log if it is time. */
TimestampTz
pgn_job_rotate_log(int64 unused)
{
	pgn_log_rotate();
	return PGN_IDLE;
}

/* Free a segment of the log if it can be freed. */
TimestampTz
pgn_job_free_segment(int64 segment)
{
	return pgn_log_free_segment(segment, false) ? PGN_AGAIN : PGN_IDLE;
}

/* The same for the worker, which comes back soon if there is little reason to do it now. */
TimestampTz
pgn_job_free_segment_in_time(int64 segment)
{
	return pgn_log_free_segment(segment, true) ? PGN_AGAIN : PGN_IDLE;
}

/* Delete what is not needed in a part of the old generation of the log. */
TimestampTz
pgn_job_clean_log(int64 unused)
{
	return pgn_log_clean_old() ? PGN_AGAIN : PGN_IDLE;
}

/* Take the error that was caught, in a context that outlives what is undone next. */
ErrorData *
pgn_take_error(MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	FlushErrorState();
	return error;
}

/*
 * Report why a job failed, to the log by the worker, as a warning to who called
 * maintain().  Throws the error again if somebody wants all of it to end, not just
 * this job.
 */
void
pgn_report_failure(const char *what, ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	ereport(MyBackendType == B_BG_WORKER ? LOG : WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("%s failed: %s", what, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) : 0));
	FreeErrorData(error);
}

/*
 * Run a step of a job in a subtransaction, and free what it allocates.  If it
 * fails, the error is reported, and the answer is false.
 */
bool
pgn_run_job(PgnJob job, int64 argument, const char *what, TimestampTz *next)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext job_context = AllocSetContextCreate(context, "pigeon job", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(job_context);
	PG_TRY();
	{
		*next = job(argument);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error = pgn_take_error(context);

		RollbackAndReleaseCurrentSubTransaction();
		pgn_report_failure(what, error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(job_context);
	CurrentResourceOwner = owner;
	return done;
}

/*
 * Commit what the last step of a job did, if maintain() may.  If that fails, the
 * error is reported, and the answer is false.  The next step sees what is
 * committed while it runs, whatever the default isolation level is: see
 * log_rotation.c, and nobody should fail to serialize because of maintenance.
 */
static bool
end_step(const char *what, bool may_commit)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	if (!may_commit)
	{
		CommandCounterIncrement();
		return true;
	}
	PG_TRY();
	{
		SPI_commit();
		done = true;
	}
	PG_CATCH();
	{
		/* SPI has undone the transaction and begun another. */
		pgn_report_failure(what, pgn_take_error(context));
	}
	PG_END_TRY();
	XactIsoLevel = XACT_READ_COMMITTED;
	return done;
}

/* All steps of a job for maintain(), which may commit after each. */
static void
run_all_steps(PgnJob job, int64 argument, const char *what, bool may_commit)
{
	TimestampTz next = PGN_AGAIN;

	while (next == PGN_AGAIN)
	{
		if (!pgn_run_job(job, argument, what, &next))
			next = PGN_IDLE;
		if (!end_step(what, may_commit))
			next = PGN_IDLE;
	}
}

/* maintain() */
Datum
pgn_maintain(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context && IsA(fcinfo->context, CallContext) &&
	!castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction();
	int			n,
				ntopics;
	int32	   *queues,
			   *topics;
	int64	   *tasks;
	Snapshot	snapshot;

	pgn_begin_write("pigeon.maintain()");
	if (pgn_is_replicated())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the queues of this database are replicated from another"),
				 errhint("Maintain them there, or drop the subscription first.")));
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	(void) end_step("maintenance", may_commit);

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	queues = pgn_queue_ids(snapshot, &n);
	topics = pgn_topic_ids(snapshot, &ntopics);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < n; i++)
	{
		run_all_steps(pgn_job_queue, queues[i],
					  psprintf("maintenance of queue number %d", queues[i]), may_commit);
		run_all_steps(pgn_job_notify_pending, queues[i],
					  psprintf("notification for queue number %d", queues[i]), may_commit);
	}

	for (int i = 0; i < ntopics; i++)
		run_all_steps(pgn_job_queue, topics[i],
					  psprintf("maintenance of topic number %d", topics[i]), may_commit);

	tasks = pgn_tasks_running("redrive_task", &n);
	for (int i = 0; i < n; i++)
		run_all_steps(pgn_job_redrive, tasks[i],
					  psprintf("redrive task " INT64_FORMAT, tasks[i]), may_commit);

	tasks = pgn_tasks_running("replay_task", &n);
	for (int i = 0; i < n; i++)
		run_all_steps(pgn_job_replay, tasks[i],
					  psprintf("replay task " INT64_FORMAT, tasks[i]), may_commit);

	if (may_commit)
	{
		run_all_steps(pgn_job_rotate_log, 0, "rotation of the message log", may_commit);
		for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
			run_all_steps(pgn_job_free_segment, segment,
						  psprintf("freeing of message log segment %d", segment), may_commit);
		pgn_log_clean_anew();
		run_all_steps(pgn_job_clean_log, 0, "cleaning of the message log", may_commit);
	}

	SPI_finish();
	PG_RETURN_VOID();
}
