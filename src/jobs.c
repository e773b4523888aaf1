/*
 * jobs.c
 *		When the worker of a database has something to do.
 *
 * Shared memory has, for each job of each queue and database, the time at
 * which it is due, and for each database the earliest of them, so that an idle
 * database costs nothing.  Anybody may lower these times, and only the worker
 * raises them:
 *
 *		who asks							worker
 *		A1 lower the time of the job		W1 raise that of the database
 *		A2 lower that of the database		W2 look at all jobs; those that are
 *		   and wake the worker if that		   due: raise the time, do it
 *		   changed something				W3 lower that of the database to the
 *											   earliest of the jobs
 *
 * Both steps of A are compare-and-swap, which are memory barriers.  If W2 does
 * not see A1, then A2 comes after W1, so it changes something or W3 does.
 *
 * When there is no worker, the launcher is woken: it sleeps until the earliest
 * time of all databases.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "jobs.h"
#include "pigeon.h"

/* Something is to be done in a database at that time; wake who does it. */
void
pgn_run_at(SharedDatabase *database, TimestampTz at)
{
	int32		process;

	if (!pgn_lower(&database->run_at, at))
		return;
	process = (int32) pg_atomic_read_u32(&database->worker);
	if (process == NO_WAITER)
		process = (int32) pg_atomic_read_u32(&pgn_shared_state->launcher);
	if (process != NO_WAITER)
		SetLatch(&GetPGProcByNumber(process)->procLatch);
}

/* This database, NULL if there is no room for it. */
static SharedDatabase *
my_database(void)
{
	static SharedDatabase *database = NULL;

	if (database == NULL)
		database = pgn_shared_database(MyDatabaseId, true);
	return database;
}

/* Ask for a job of this database. */
void
pgn_database_job_request(DatabaseJob job, TimestampTz at)
{
	SharedDatabase *database = my_database();

	if (database)
	{
		(void) pgn_lower(&database->job_at[job], at);
		pgn_run_at(database, at);
	}
}

/* Ask for a job of a queue of this database. */
void
pgn_queue_job_request(pg_atomic_uint64 *job_at, TimestampTz at)
{
	SharedDatabase *database = my_database();

	if (database)
	{
		(void) pgn_lower(job_at, at);
		pgn_run_at(database, at);
	}
}

/*
 * Ask for a notification for a queue, no earlier than one may follow the last
 * (unless the clock was set back since): many commits in a row must not wake
 * the worker, one by one, in vain.
 */
void
pgn_notify_request(SharedQueue *shared, TimestampTz at)
{
	TimestampTz notified_at = (TimestampTz) pg_atomic_read_u64(&shared->notified_at);

	if (notified_at <= at)
		at = Max(at, notified_at + pgn_notify_interval * INT64CONST(1000));
	pgn_queue_job_request(&shared->notify_at, at);
}
