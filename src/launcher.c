/*
 * launcher.c
 *		Starting a worker for each database that needs one.
 *
 * The launcher is one background worker of the server, connected to no
 * database: it reads the shared catalogs only, so it is in the way of nobody.
 * Workers are short-lived (see worker.c): one is started when something is to
 * be done in its database, does it, and goes when nothing more is to be done
 * soon.  So an idle database has no connection of ours that would block DROP
 * DATABASE or CREATE DATABASE ... TEMPLATE, and the number of databases is not
 * limited by the number of worker processes.
 *
 * How the launcher knows of a database:
 *
 *	- When the server starts, and then once a minute, it looks for databases
 *	  that it does not know and sends a worker to each.  A worker that does not
 *	  find the extension has nothing to do, and the database is left alone.
 *	  All of them are in shared memory, which has room for as many databases as
 *	  queues; one beyond that has no worker, which is reported once.
 *
 *	- A backend that uses a queue or executes CREATE EXTENSION pigeon puts the
 *	  database into shared memory, with the time at which there is something to
 *	  do (see jobs.c).
 *
 * A database to be dropped, renamed, or copied must have no connections.
 * utility.c calls pgn_hold_database before that, which ends the worker and
 * keeps the launcher from starting another, however busy the database is.
 *
 * Worker processes are a resource of the whole server, so there are no more
 * than pigeon.max_workers at a time.  If that is not enough, workers are told to
 * leave when they have done what is due; who has waited longest is next.
 *
 * Templates are never visited: their worker would make CREATE DATABASE fail.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "earlier.h"
#include "housekeeping.h"
#include "jobs.h"
#include "launcher.h"
#include "pigeon.h"
#include "shared.h"

#define SCAN_INTERVAL USECS_PER_MINUTE
#define RETRY_INTERVAL USECS_PER_SEC
#define MAX_BACKOFF_SHIFT 6		/* 64 seconds */

/* A worker that was started and has not ended. */
typedef struct RunningWorker
{
	Oid			database;
	BackgroundWorkerHandle *handle;
} RunningWorker;

static List *running = NIL;

/* Ask the postmaster to run the launcher; called while libraries are preloaded. */
void
pgn_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (IsBinaryUpgrade)
		return;
	strlcpy(worker.bgw_name, "pigeon launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pigeon launcher", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "pigeon", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgn_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/*
 * Keep workers away from a database until pgn_release_database, and end the one
 * that is there.  False, and nothing to be released, if there is no room for it.
 */
bool
pgn_hold_database(Oid oid)
{
	SharedDatabase *database;
	int			pid;

	if (pgn_shared_databases == NULL)
		return false;
	/* Under the lock, lest the entry be forgotten and made that of another. */
	LWLockAcquire(pgn_shared_lock, LW_EXCLUSIVE);
	database = pgn_shared_database_entry(oid, true);
	if (database)
	{
		pg_atomic_fetch_add_u32(&database->holds, 1);
		/* A worker that attaches after this sees the hold; see worker.c. */
		pid = (int) pg_atomic_read_u32(&database->worker_pid);
		if (pid != 0)
			(void) kill(pid, SIGTERM);
	}
	LWLockRelease(pgn_shared_lock);
	return database != NULL;
}

/* Make the launcher look at everything. */
void
pgn_wake_launcher(void)
{
	int32		launcher = (int32) pg_atomic_read_u32(&pgn_shared_state->launcher);

	if (launcher != NO_WAITER)
		SetLatch(&GetPGProcByNumber(launcher)->procLatch);
}

/* Undo pgn_hold_database; the database may be gone. */
void
pgn_release_database(Oid oid)
{
	SharedDatabase *database;

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	database = pgn_shared_database_entry(oid, false);
	if (database)
		pg_atomic_fetch_sub_u32(&database->holds, 1);
	LWLockRelease(pgn_shared_lock);
	pgn_wake_launcher();
}

/* A database has come or gone. */
void
pgn_databases_changed(void)
{
	pg_atomic_write_u32(&pgn_shared_state->databases_changed, 1);
	pgn_wake_launcher();
}

/* All databases, and of them those that may have a worker. */
static void
list_databases(List **all, List **visit)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	*all = *visit = NIL;
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		*all = lappend_oid(*all, form->oid);

		/*
		 * A negative limit other than -1 marks a database that is half
		 * dropped.
		 */
		if (form->datallowconn && !form->datistemplate && form->datconnlimit >= -1)
			*visit = lappend_oid(*visit, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/* The databases that shared memory knows. */
static List *
known_databases(void)
{
	List	   *oids = NIL;
	HASH_SEQ_STATUS status;
	SharedDatabase *database;

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_databases);
	while ((database = hash_seq_search(&status)) != NULL)
		oids = lappend_oid(oids, database->oid);
	LWLockRelease(pgn_shared_lock);
	return oids;
}

/* Get to know new databases, and forget those that are gone. */
static void
scan_databases(void)
{
	List	   *known = known_databases();
	List	   *all,
			   *visit;
	ListCell   *lc;

	list_databases(&all, &visit);
	foreach(lc, known)
	{
		Oid			oid = lfirst_oid(lc);
		SharedDatabase *database = pgn_shared_database(oid, false);

		if (!list_member_oid(all, oid))
			pgn_forget_database(oid);
		else if (database)
		{
			bool		may_visit = list_member_oid(visit, oid);

			/* It may be known only because somebody holds it. */
			if (may_visit && !(database->visit && database->checked))
				(void) pgn_lower(&database->run_at, PG_INT64_MIN);
			database->visit = may_visit;
			database->checked = true;
		}
	}
	foreach(lc, visit)
	{
		static bool complained = false;
		SharedDatabase *database;

		if (list_member_oid(known, lfirst_oid(lc)))
			continue;
		database = pgn_shared_database(lfirst_oid(lc), true);
		if (database)
		{
			database->visit = database->checked = true;
			(void) pgn_lower(&database->run_at, PG_INT64_MIN);
		}
		else if (!complained)
		{
			complained = true;
			ereport(LOG,
					(errmsg("no room in shared memory for database %u", lfirst_oid(lc)),
					 errdetail("It has no worker, nor have others that are found later."),
					 errhint("Raise pigeon.max_queues and restart the server.")));
		}
	}
}

/* Has a database come or gone? */
static bool
databases_changed(void)
{
	bool		found = pg_atomic_exchange_u32(&pgn_shared_state->databases_changed, 0) != 0;
	HASH_SEQ_STATUS status;
	SharedDatabase *database;

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_databases);
	while ((database = hash_seq_search(&status)) != NULL)
		found |= !database->checked;
	LWLockRelease(pgn_shared_lock);
	return found;
}

/* Take ended workers from the list of running ones. */
static void
reap_workers(void)
{
	ListCell   *lc;

	foreach(lc, running)
	{
		RunningWorker *worker = lfirst(lc);
		pid_t		pid;

		if (GetBackgroundWorkerPid(worker->handle, &pid) == BGWH_STOPPED)
		{
			running = foreach_delete_current(running, lc);
			pfree(worker->handle);
			pfree(worker);
		}
	}
}

/* Has this launcher started a worker for the database that still runs? */
static bool
has_worker(Oid database)
{
	ListCell   *lc;

	foreach(lc, running)
		if (((RunningWorker *) lfirst(lc))->database == database)
		return true;
	return false;
}

/* From when on a worker may be started; later each time if workers fail early. */
static TimestampTz
may_start_at(SharedDatabase *database)
{
	uint32		starts = pg_atomic_read_u32(&database->starts);

	if (starts == 0)
		return PG_INT64_MIN;
	return database->started_at + (USECS_PER_SEC << Min(starts - 1, MAX_BACKOFF_SHIFT));
}

/*
 * The database that has waited longest for a worker, InvalidOid if none has
 * to; *next is when another will.
 */
static Oid
next_database(TimestampTz now, TimestampTz *next)
{
	Oid			oid = InvalidOid;
	TimestampTz longest = PG_INT64_MAX;
	HASH_SEQ_STATUS status;
	SharedDatabase *database;

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		TimestampTz run_at = (TimestampTz) pg_atomic_read_u64(&database->run_at);
		TimestampTz start_at = pgn_later(run_at, may_start_at(database));

		if (!database->visit || pg_atomic_read_u32(&database->holds) > 0 || has_worker(database->oid) ||
			(int32) pg_atomic_read_u32(&database->worker) != NO_WAITER)
			continue;
		if (start_at > now)
			*next = Min(*next, start_at);
		else if (!OidIsValid(oid) || run_at < longest)
		{
			oid = database->oid;
			longest = run_at;
		}
	}
	LWLockRelease(pgn_shared_lock);
	return oid;
}

/* Start a worker; false if the server has no room for it. */
static bool
start_worker(Oid oid)
{
	SharedDatabase *database = pgn_shared_database(oid, false);
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	MemoryContext old;
	RunningWorker *entry;
	bool		started;

	snprintf(worker.bgw_name, BGW_MAXLEN, "pigeon worker for database %u", oid);
	strlcpy(worker.bgw_type, "pigeon worker", BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pigeon", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "pgn_worker_main", BGW_MAXLEN);
	worker.bgw_main_arg = ObjectIdGetDatum(oid);
	worker.bgw_notify_pid = MyProcPid;

	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &handle);
	if (started)
	{
		entry = palloc(sizeof(RunningWorker));
		entry->database = oid;
		entry->handle = handle;
		running = lappend(running, entry);
		database->started_at = GetCurrentTimestamp();
		pg_atomic_fetch_add_u32(&database->starts, 1);
	}
	MemoryContextSwitchTo(old);
	return started;
}

/* Let the workers see that others wait. */
static void
wake_workers(void)
{
	HASH_SEQ_STATUS status;
	SharedDatabase *database;

	pg_memory_barrier();
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		int32		worker = (int32) pg_atomic_read_u32(&database->worker);

		if (worker != NO_WAITER)
			SetLatch(&GetPGProcByNumber(worker)->procLatch);
	}
	LWLockRelease(pgn_shared_lock);
}

/* Start what is to be started; when to look again. */
static TimestampTz
start_workers(TimestampTz now)
{
	static bool complained = false;
	TimestampTz next = PG_INT64_MAX;
	Oid			oid;

	while (OidIsValid(oid = next_database(now, &next)))
	{
		if (list_length(running) >= pgn_max_workers)
		{
			/* The next worker that ends will wake us. */
			pg_atomic_write_u32(&pgn_shared_state->crowded, 1);
			wake_workers();
			return next;
		}
		if (!start_worker(oid))
		{
			if (!complained)
				ereport(LOG,
						(errmsg("could not start a pigeon worker"),
						 errhint("Raise max_worker_processes.")));
			complained = true;
			return now + RETRY_INTERVAL;
		}
	}
	pg_atomic_write_u32(&pgn_shared_state->crowded, 0);
	return next;
}

/* Nobody is to wake the launcher any more. */
static void
detach(int code, Datum arg)
{
	pg_atomic_write_u32(&pgn_shared_state->launcher, (uint32) NO_WAITER);
}

/* The launcher. */
void
pgn_launcher_main(Datum unused)
{
	TimestampTz next_scan = PG_INT64_MIN;
	MemoryContext context;
	uint32		wait_event = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	before_shmem_exit(detach, (Datum) 0);
	pg_atomic_write_u32(&pgn_shared_state->launcher, (uint32) pgn_my_proc_number());
	context = AllocSetContextCreate(TopMemoryContext, "pigeon launcher", ALLOCSET_DEFAULT_SIZES);

	while (!ShutdownRequestPending)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next;

		MemoryContextSwitchTo(context);
		if (now >= next_scan || databases_changed())
		{
			scan_databases();
			next_scan = now + SCAN_INTERVAL;
		}
		reap_workers();
		next = pgn_earlier(start_workers(now), next_scan);
		MemoryContextReset(context);

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pgn_milliseconds_until(next),
						 pgn_wait_event(&wait_event, "PigeonLauncherMain"));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	/* Not zero, so that the postmaster starts another. */
	proc_exit(1);
}
