/*
 * worker.c
 *		The background worker of one database.
 *
 * The launcher starts a worker when something is to be done in its database.
 * The worker does what is due (see jobs.c for how it knows), sleeps until more
 * is, and leaves when that is more than LINGER away, or when other databases
 * wait for a worker.  The next one starts from shared memory, where everything
 * is that must be remembered, back-off included; nothing needs to be, since
 * every job finds out from the tables what is to be done.
 *
 * Each step of a job is a transaction of its own, so that no lock is held for
 * long.  A job that fails, be it at its commit, is logged and tried again later,
 * after twice the time each time; the other jobs and queues are not affected.
 * Of the tasks of a kind one that fails is tried again after WAITING_INTERVAL, and
 * the others go on.
 *
 * All that is due has its turn in a round.  Who has much to do takes step after
 * step, but only until the round has lasted for ROUND; after that each takes one
 * step, and the next round follows at once, or the worker of another database
 * that waits for one.
 *
 * The worker is nobody's obstacle.  It takes no lock on a queue that it maintains
 * if it would have to wait for it.  What else somebody has locked (an archive, the
 * queue of a subscriber, a row of the registry, the queue of notifications) it
 * waits for no longer than LONGEST_WAIT; then the job has failed.  It does
 * nothing while somebody creates, drops or alters the extension: it takes a lock
 * on the extension itself first, and only if that is free, so that it cannot
 * deadlock with DROP EXTENSION half way.  It is ended when its database is to be
 * dropped or copied; see launcher.c.
 *
 * What happens in tables of the extension happens as its owner, and no code
 * of a queue's owner can run here: tables with triggers, rules, policies or
 * indexes on expressions are refused by table.c.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "earlier.h"
#include "housekeeping.h"
#include "jobs.h"
#include "launcher.h"
#include "log.h"
#include "log_rotation.h"
#include "maintenance.h"
#include "notify.h"
#include "pigeon.h"
#include "queue.h"
#include "shared.h"
#include "task.h"
#include "topic.h"
#include "vacuum.h"
#include "worker.h"

/* A worker with nothing to do for longer than this leaves. */
#define LINGER (10 * USECS_PER_SEC)

/* How often everything is looked at, for what was written by other means. */
#define REGISTRY_INTERVAL (5 * USECS_PER_MINUTE)

/* The same if there are queues that have no room in shared memory, or keep it though they were dropped. */
#define NO_ROOM_INTERVAL USECS_PER_MINUTE

/* How soon again at the log with it at the earliest: queues may come and go all the time. */
#define LOG_PAUSE USECS_PER_MINUTE

#define CLEAN_LOG_INTERVAL USECS_PER_MINUTE

/* The log takes no more than one part in so many of the time of a processor. */
#define LOG_SHARE 20

#define TASK_INTERVAL (USECS_PER_SEC / 4)

/* The same if all tasks wait for what is not restored yet; and how long one that failed is left alone. */
#define WAITING_INTERVAL (30 * USECS_PER_SEC)

/* A round of jobs takes no longer than this, and what one step of each takes. */
#define ROUND USECS_PER_SEC

/* How long the worker waits for a lock at the most. */
#define LONGEST_WAIT "1s"

/* A failed job is tried again after a second, and after twice the time each time, up to 4 minutes. */
#define MAX_BACKOFF_SHIFT 8

/* What is due at a queue. */
typedef struct QueueTask
{
	SharedQueueKey key;
	int32		id;
	bool		maintain;
	bool		notify;
	bool		vacuum;
} QueueTask;

static SharedDatabase *database = NULL;
static bool may_leave = false;
static TimestampTz round_began;

/* What the worker is doing, for the log; lives as long as the round. */
static const char *doing;

/* Lives for one round of jobs; every function here runs in it between transactions. */
static MemoryContext round_context = NULL;

/* When to try a job again that has just failed; counts its failures. */
static TimestampTz
retry_at(pg_atomic_uint32 *failures)
{
	uint32		before = pg_atomic_fetch_add_u32(failures, 1);

	return GetCurrentTimestamp() + (USECS_PER_SEC << Min(before, MAX_BACKOFF_SHIFT));
}

/* Note when to come back to a job: when it said, or some time later if it was not done. */
static void
put_back(pg_atomic_uint64 *job_at, pg_atomic_uint32 *failures, bool done, TimestampTz next)
{
	if (done)
		pg_atomic_write_u32(failures, 0);
	else
		next = retry_at(failures);
	(void) pgn_lower(job_at, next);
}

/* The worker has ended; if it was ended early, another has to go on. */
static void
detach(int code, Datum arg)
{
	pg_atomic_write_u32(&database->worker, (uint32) NO_WAITER);
	pg_memory_barrier();
	pg_atomic_write_u32(&database->worker_pid, 0);
	if (!may_leave)
		pgn_run_at(database, GetCurrentTimestamp());

	/*
	 * A launcher that was not the one that has started us hears it from
	 * nobody else.
	 */
	pgn_wake_launcher();
}

/*
 * Become the worker of the database.  False if there is one, or it must have
 * none.  Who holds the database increments "holds" and then reads our pid; we
 * do it the other way round, so one of both sees the other.
 */
static bool
attach(Oid oid)
{
	uint32		nobody = 0;
	bool		attached;

	/* Whose pid is there cannot be forgotten; see housekeeping.c. */
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	database = pgn_shared_database_entry(oid, false);
	attached = database && pg_atomic_compare_exchange_u32(&database->worker_pid, &nobody, MyProcPid);
	LWLockRelease(pgn_shared_lock);
	if (!attached)
		return false;
	before_shmem_exit(detach, (Datum) 0);
	pg_atomic_write_u32(&database->worker, (uint32) pgn_my_proc_number());
	pg_memory_barrier();
	return pg_atomic_read_u32(&database->holds) == 0;
}

/*
 * Is the extension there, and not being created, dropped or altered?  Then it
 * stays so until the end of the transaction.
 */
static bool
extension_is_there(void)
{
	Oid			oid = get_extension_oid("pigeon", true);
	LOCKTAG		tag;

	if (!OidIsValid(oid))
		return false;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, oid, 0);
	return LockAcquire(&tag, AccessShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL &&
		get_extension_oid("pigeon", true) == oid && OidIsValid(pgn_relation("queue"));
}

/* End a transaction. */
static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(round_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Begin a transaction; false, and none, if there is no extension to work with, or all comes from elsewhere. */
static bool
begin(const char *what)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, what);
	doing = what;
	if (extension_is_there() && !pgn_is_replicated())
		return true;
	commit();
	return false;
}

/* What the worker is doing has failed: undo and report it.  To be called where the error is caught. */
static void
give_up(void)
{
	ErrorData  *error = pgn_take_error(round_context);

	AbortCurrentTransaction();
	MemoryContextSwitchTo(round_context);
	pgstat_report_activity(STATE_IDLE, NULL);
	pgn_report_failure(doing, error);
}

/* Take a step of a job, in a transaction.  False if it failed, or could not run. */
static bool
take_step(PgnJob job, int64 argument, const char *what, TimestampTz *next)
{
	volatile bool done = false;

	PG_TRY();
	{
		doing = what;
		CHECK_FOR_INTERRUPTS();
		if (begin(what))
		{
			bool		ran = pgn_run_job(job, argument, what, next);

			commit();
			done = ran;
		}
	}
	PG_CATCH();
	{
		give_up();
	}
	PG_END_TRY();
	return done;
}

/*
 * Run a job until it has nothing more to do right away, or the round has lasted
 * long enough; *next is PGN_AGAIN then.  False if it failed, or could not run.
 */
static bool
run_job(PgnJob job, int64 argument, const char *what, TimestampTz *next)
{
	bool		done;

	/* If the clock was set back, the round has lasted long enough, too. */
	do
		done = take_step(job, argument, what, next);
	while (done && *next == PGN_AGAIN && (uint64) (GetCurrentTimestamp() - round_began) < ROUND);
	return done;
}

/* When to go on with what has begun at that time of the processor, so that the log takes its share of that and no more. */
static TimestampTz
after_share_of_log(TimestampTz now, clock_t start)
{
	return now + LOG_SHARE * (clock() - start) * USECS_PER_SEC / CLOCKS_PER_SEC;
}

/* Free what can be freed of the log; when to look again, with many queues not all the time. */
static bool
care_for_log(TimestampTz *next)
{
	clock_t		start = clock();
	TimestampTz now;
	TimestampTz at;
	bool		done = run_job(pgn_job_rotate_log, 0, "rotation of the message log", &at);
	bool		more = false;

	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
	{
		if (!run_job(pgn_job_free_segment_in_time, segment,
					 psprintf("freeing of message log segment %d", segment), &at))
			done = false;
		else if (at == PGN_AGAIN)
			more = true;
	}
	if (!begin("look at the message log"))
		return false;
	now = GetCurrentTimestamp();
	*next = pgn_later(more ? now : pgn_log_next_look(now), after_share_of_log(now, start));
	if (!pgn_log_old_is_empty())
		pgn_database_job_request(JOB_LOG_OLD, GetCurrentTimestamp() + CLEAN_LOG_INTERVAL);
	commit();
	return done;
}

/* Clean the old generation of the log; where that is large, not all the time. */
static bool
care_for_old_log(TimestampTz *next)
{
	clock_t		start = clock();

	if (!run_job(pgn_job_clean_log, 0, "cleaning of the message log", next))
		return false;
	if (*next == PGN_AGAIN)
	{
		*next = after_share_of_log(GetCurrentTimestamp(), start);
		return true;
	}
	if (!begin("look at the message log"))
		return false;
	*next = pgn_log_old_is_empty() ? PGN_IDLE : GetCurrentTimestamp() + CLEAN_LOG_INTERVAL;
	commit();
	return true;
}

/* Is the task one that has failed? */
static bool
has_failed(const FailedTasks *failed, int64 task)
{
	for (int i = 0; i < failed->n; i++)
		if (failed->ids[i] == task)
			return true;
	return false;
}

/* Note that a task has failed; false if there is no room for that. */
static bool
note_failed(FailedTasks *failed, int64 task)
{
	if (failed->n == PGN_FAILED_TASKS)
		return false;
	failed->ids[failed->n++] = task;
	return true;
}

/* Forget what has failed if it is time to try it again, or the clock was set back. */
static void
forget_failed(FailedTasks *failed)
{
	TimestampTz now = GetCurrentTimestamp();

	if (now < failed->retry_at && failed->retry_at <= now + WAITING_INTERVAL)
		return;
	failed->n = 0;
	failed->retry_at = now + WAITING_INTERVAL;
}

/* A step of every running task of a kind ("what").  False if more of them have failed than can be remembered. */
static bool
care_for_tasks(DatabaseJob kind, PgnJob job, const char *what, TimestampTz *next)
{
	FailedTasks *failed = &database->failed_tasks[kind];
	bool		done = true;
	bool		active = true;
	bool		more = false;
	int64	   *tasks;
	int			n;
	int			left = 0;
	TimestampTz at;

	if (!begin(psprintf("look for %s tasks", what)))
		return false;
	MemoryContextSwitchTo(round_context);
	tasks = pgn_tasks_running(psprintf("%s_task", what), &n);
	commit();
	forget_failed(failed);
	for (int i = 0; i < n; i++)
	{
		if (has_failed(failed, tasks[i]))
			continue;
		if (!run_job(job, tasks[i], psprintf("%s task " INT64_FORMAT, what, tasks[i]), &at))
			done &= note_failed(failed, tasks[i]);
		else
		{
			left++;
			more |= at == PGN_AGAIN;
		}
	}
	if (left > 0 && begin(psprintf("look at %s tasks", what)))
	{
		active = pgn_tasks_active(psprintf("%s_task", what));
		commit();
	}
	if (n == 0)
		*next = PGN_IDLE;
	else if (more)
		*next = PGN_AGAIN;
	else
		*next = GetCurrentTimestamp() + (left > 0 && active ? TASK_INTERVAL : WAITING_INTERVAL);
	return done;
}

/* A step of every redrive task. */
static bool
care_for_redrives(TimestampTz *next)
{
	return care_for_tasks(JOB_REDRIVE, pgn_job_redrive, "redrive", next);
}

/* A step of every replay task. */
static bool
care_for_replays(TimestampTz *next)
{
	return care_for_tasks(JOB_REPLAY, pgn_job_replay, "replay", next);
}

/* The numbers of all queues and topics. */
static int32 *
all_ids(int *n)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	int			ntopics;
	int32	   *queues = pgn_queue_ids(snapshot, n);
	int32	   *topics = pgn_topic_ids(snapshot, &ntopics);

	UnregisterSnapshot(snapshot);
	queues = repalloc(queues, (*n + ntopics + 1) * sizeof(int32));
	memcpy(queues + *n, topics, ntopics * sizeof(int32));
	*n += ntopics;
	return queues;
}

/* The queue of this number, or the topic as a queue; NULL if there is none. */
static Queue *
find_queue(int32 id)
{
	Queue	   *queue = pgn_queue_find_by_id(id);
	Topic	   *topic = queue ? NULL : pgn_topic_find_by_id(id);

	return topic ? &topic->queue : queue;
}

/* Maintenance of a queue, or of a topic. */
static bool
maintain_queue(int32 id, TimestampTz *next)
{
	return run_job(pgn_job_queue_in_time, id, psprintf("maintenance of queue number %d", id), next);
}

/* Notification for a queue. */
static bool
notify_queue(int32 id, TimestampTz *next)
{
	return run_job(pgn_job_notify, id, psprintf("notification for queue number %d", id), next);
}

/* See to it that every queue is in shared memory; look after those that have no room there. */
static bool
care_for_registry(TimestampTz *next)
{
	static TimestampTz log_asked_at = PG_INT64_MIN;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at;
	int32	   *ids;
	int			n,
				left = 0;
	bool		more = false;

	*next = now + REGISTRY_INTERVAL;
	if (!begin("look for queues"))
		return false;
	MemoryContextSwitchTo(round_context);
	if (!pgn_forget_dropped_queues())
		*next = now + NO_ROOM_INTERVAL;
	ids = all_ids(&n);
	for (int i = 0; i < n; i++)
	{
		Queue	   *queue = find_queue(ids[i]);
		bool		fits = true;

		CHECK_FOR_INTERRUPTS();
		if (queue && pgn_queue_lock_now(queue, AccessShareLock))
		{
			fits = pgn_shared_queue(queue) != NULL;
			pgn_queue_unlock(queue, AccessShareLock);
		}
		if (!fits)
			ids[left++] = ids[i];
	}
	commit();

	for (int i = 0; i < left; i++)
	{
		/* One that fails is tried again with the others. */
		more |= maintain_queue(ids[i], &at) && at == PGN_AGAIN;
		(void) notify_queue(ids[i], &at);
	}
	if (left > 0)
		*next = more ? PGN_AGAIN : now + NO_ROOM_INTERVAL;
	/* What has been restored does not announce itself. */
	pgn_database_job_request(JOB_REDRIVE, now);
	pgn_database_job_request(JOB_REPLAY, now);
	/* The clock may have been set back since. */
	if (log_asked_at > now || log_asked_at <= now - LOG_PAUSE)
		log_asked_at = now;
	pgn_database_job_request(JOB_LOG, log_asked_at == now ? now : log_asked_at + LOG_PAUSE);
	return true;
}

/* Do a job of the database.  False if it failed, or could not be done. */
static bool
do_job(bool (*job) (TimestampTz *next), TimestampTz *next)
{
	volatile bool done = false;

	PG_TRY();
	{
		done = job(next);
	}
	PG_CATCH();
	{
		give_up();
	}
	PG_END_TRY();
	return done;
}

/* Do what is due of the database. */
static void
run_database_jobs(void)
{
	static bool (*const jobs[PGN_DATABASE_JOBS]) (TimestampTz *next) = {
		[JOB_REGISTRY] = care_for_registry,
		[JOB_REDRIVE] = care_for_redrives,
		[JOB_REPLAY] = care_for_replays,
		[JOB_LOG] = care_for_log,
		[JOB_LOG_OLD] = care_for_old_log
	};

	for (int job = 0; job < PGN_DATABASE_JOBS; job++)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = PGN_IDLE;
		bool		done;

		if ((TimestampTz) pg_atomic_read_u64(&database->job_at[job]) > now)
			continue;
		pg_atomic_write_u64(&database->job_at[job], (uint64) PGN_IDLE);
		pg_memory_barrier();
		done = do_job(jobs[job], &next);
		put_back(&database->job_at[job], &database->failures[job], done, next);
	}
}

/* From when on listeners of the queue may be notified again; at once if the clock was set back since. */
static TimestampTz
may_notify_at(SharedQueue *shared, TimestampTz now)
{
	TimestampTz notified_at = (TimestampTz) pg_atomic_read_u64(&shared->notified_at);

	if (notified_at == PG_INT64_MIN || notified_at > now)
		return PG_INT64_MIN;
	return notified_at + pgn_notify_interval * INT64CONST(1000);
}

/* Take what is due of all queues; it is up to the caller then. */
static QueueTask *
take_queue_tasks(int *n)
{
	TimestampTz now = GetCurrentTimestamp();
	int			size = 64;
	QueueTask  *tasks = palloc(size * sizeof(QueueTask));
	HASH_SEQ_STATUS status;
	SharedQueue *shared;

	*n = 0;
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
	{
		QueueTask	task = {.key = shared->key,.id = shared->id};

		if (shared->key.database != MyDatabaseId)
			continue;
		task.maintain = (TimestampTz) pg_atomic_read_u64(&shared->maintain_at) <= now;
		task.notify = (TimestampTz) pg_atomic_read_u64(&shared->notify_at) <= now &&
			may_notify_at(shared, now) <= now;
		task.vacuum = (TimestampTz) pg_atomic_read_u64(&shared->vacuum_at) <= now;
		if (task.maintain)
			pg_atomic_write_u64(&shared->maintain_at, (uint64) PGN_IDLE);
		if (task.notify)
			pg_atomic_write_u64(&shared->notify_at, (uint64) PGN_IDLE);
		if (task.vacuum)
			pg_atomic_write_u64(&shared->vacuum_at, (uint64) PGN_IDLE);
		if (!task.maintain && !task.notify && !task.vacuum)
			continue;
		if (*n == size)
			tasks = repalloc(tasks, (size *= 2) * sizeof(QueueTask));
		tasks[(*n)++] = task;
	}
	LWLockRelease(pgn_shared_lock);
	pg_memory_barrier();
	return tasks;
}

/* Do what is due of a queue, and note when to come back, if it is still there. */
static void
run_queue_task(const QueueTask *task)
{
	TimestampTz maintain_at = PGN_IDLE,
				notify_at = PGN_IDLE;
	bool		maintained = false,
				notified = false;
	SharedQueue *shared;

	/* Who listens is told first. */
	if (task->notify)
		notified = notify_queue(task->id, &notify_at);
	if (task->maintain)
		maintained = maintain_queue(task->id, &maintain_at);

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	shared = hash_search(pgn_shared_queues, &task->key, HASH_FIND, NULL);
	if (shared && task->notify)
		put_back(&shared->notify_at, &shared->notify_failures, notified, notify_at);
	if (shared && task->maintain)
		put_back(&shared->maintain_at, &shared->failures, maintained, maintain_at);
	LWLockRelease(pgn_shared_lock);
}

/* Vacuum a queue if it is worth its while.  If that fails it is left to autovacuum. */
static void
vacuum_queue(int32 id)
{
	PG_TRY();
	{
		char	   *command = NULL;

		if (begin("look for dead rows"))
		{
			MemoryContextSwitchTo(round_context);
			command = pgn_vacuum_command(id);
			if (command == NULL)
				commit();
		}
		if (command != NULL)
		{
			doing = command;
			pgstat_report_activity(STATE_RUNNING, command);
			pgn_vacuum_execute(command);
			CommitTransactionCommand();
		}
	}
	PG_CATCH();
	{
		give_up();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(round_context);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Do what is due of the queues. */
static void
run_queue_jobs(void)
{
	int			n;
	QueueTask  *tasks = take_queue_tasks(&n);

	for (int i = 0; i < n; i++)
	{
		run_queue_task(&tasks[i]);
		if (tasks[i].vacuum)
			vacuum_queue(tasks[i].id);
	}
}

/* The earliest time at which something is due, now if it has been for some time: other databases have waited longer. */
static TimestampTz
next_time(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next = PGN_IDLE;
	HASH_SEQ_STATUS status;
	SharedQueue *shared;

	for (int job = 0; job < PGN_DATABASE_JOBS; job++)
		next = pgn_earlier(next, (TimestampTz) pg_atomic_read_u64(&database->job_at[job]));
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
	{
		if (shared->key.database != MyDatabaseId)
			continue;
		next = pgn_earlier(next, pgn_later((TimestampTz) pg_atomic_read_u64(&shared->notify_at), may_notify_at(shared, now)));
		next = pgn_earlier(next, (TimestampTz) pg_atomic_read_u64(&shared->maintain_at));
		next = pgn_earlier(next, (TimestampTz) pg_atomic_read_u64(&shared->vacuum_at));
	}
	LWLockRelease(pgn_shared_lock);
	return pgn_later(next, now);
}

/* Is the extension in this database? */
static bool
has_extension(void)
{
	bool		found;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	found = OidIsValid(get_extension_oid("pigeon", true));
	commit();
	return found;
}

/* Without the extension: forget what it has left in shared memory, later again if that may not be all. */
static void
forget_extension(void)
{
	TimestampTz asked_at = (TimestampTz) pg_atomic_read_u64(&database->job_at[JOB_REGISTRY]);
	TimestampTz now = GetCurrentTimestamp();

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (!pgn_forget_all_queues())
		(void) pgn_lower(&database->run_at, now + NO_ROOM_INTERVAL);
	/* Who has dropped it asks before we hear of that. */
	if (asked_at > now)
		(void) pgn_lower(&database->run_at, asked_at);
	commit();
}

/* Do what is due; when there will be more. */
static TimestampTz
run_jobs(void)
{
	round_began = GetCurrentTimestamp();
	doing = "maintenance";
	pg_atomic_write_u64(&database->run_at, (uint64) PGN_IDLE);
	pg_memory_barrier();
	/* Who creates the extension asks for a job, and so lowers run_at. */
	if (has_extension())
	{
		run_queue_jobs();
		run_database_jobs();
		(void) pgn_lower(&database->run_at, next_time());
	}
	else
		forget_extension();
	return (TimestampTz) pg_atomic_read_u64(&database->run_at);
}

/* The last worker may have been ended in the middle of anything: all is due. */
static void
begin_anew(void)
{
	HASH_SEQ_STATUS status;
	SharedQueue *shared;

	for (int job = 0; job < PGN_DATABASE_JOBS; job++)
		(void) pgn_lower(&database->job_at[job], PG_INT64_MIN);
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
	{
		if (shared->key.database != database->oid)
			continue;
		(void) pgn_lower(&shared->maintain_at, PG_INT64_MIN);
		(void) pgn_lower(&shared->notify_at, PG_INT64_MIN);
	}
	LWLockRelease(pgn_shared_lock);
}

/* Settings of roles and databases must not get in the way. */
static void
settle(void)
{
	static const char *const settings[][2] = {
		{"search_path", ""}, {"statement_timeout", "0"}, {"lock_timeout", LONGEST_WAIT},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		{"idle_in_transaction_session_timeout", "0"}, {"default_transaction_read_only", "off"},
		{"vacuum_cost_delay", "0"},
		{"default_transaction_isolation", "read committed"}, {"row_security", "on"},
		{"synchronous_commit", "off"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/* The worker of the database given. */
void
pgn_worker_main(Datum arg)
{
	Oid			oid = DatumGetObjectId(arg);
	uint32		wait_event = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!attach(oid))
		proc_exit(0);

	/*
	 * Who wants us to stay away does not wait for one that is not connected
	 * yet.
	 */
	CHECK_FOR_INTERRUPTS();
	BackgroundWorkerInitializeConnectionByOid(oid, InvalidOid, 0);
	settle();
	if (pg_atomic_exchange_u32(&database->at_work, 1) != 0)
		begin_anew();
	round_context = AllocSetContextCreate(TopMemoryContext, "pigeon worker", ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		TimestampTz next,
					now;

		MemoryContextSwitchTo(round_context);
		next = run_jobs();
		MemoryContextReset(round_context);
		pg_atomic_write_u32(&database->starts, 0);
		pgstat_report_stat(false);

		now = GetCurrentTimestamp();
		if (next > now + LINGER || pg_atomic_read_u32(&pgn_shared_state->crowded) || pgn_max_workers == 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pgn_milliseconds_until(next),
						 pgn_wait_event(&wait_event, "PigeonWorkerMain"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	pg_atomic_write_u32(&database->at_work, 0);
	may_leave = true;
	proc_exit(0);
}
