/*
 * task.c
 *		What redrive and replay tasks have in common: they advance in steps, at
 *		a rate.
 *
 * A task that something stands in the way of (a queue that was dropped, a
 * right that was revoked) has failed.  But not one that was restored from a
 * dump: the tasks may be there before their queues and topics, and rights come
 * last of all.  It waits, says for what, and goes on when everything is there.
 * So each task knows in which database it was started, and by which extension there.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "owner.h"
#include "task.h"

/* The numbers of the running tasks in a table of tasks, and how many they are. */
int64 *
pgn_tasks_running(const char *table, int *n)
{
	return pgn_owner_numbers(psprintf("SELECT id FROM pigeon.%s WHERE status = 'RUNNING' ORDER BY id", table),
							 0, NULL, NULL, n);
}

/* Does any running task in a table of tasks wait for nothing but its turn? */
bool
pgn_tasks_active(const char *table)
{
	return pgn_owner_row(psprintf("SELECT FROM pigeon.%s WHERE status = 'RUNNING' AND failure_reason IS NULL", table),
						 0, NULL, NULL, 0, NULL, NULL);
}

/*
 * Forget the oldest tasks in a table of tasks, running ones excepted, of a queue
 * or subscription, which the column says; PGN_TASKS_KEPT are left.  As the
 * extension's owner.
 */
void
pgn_tasks_forget(const char *table, const char *column, int32 id)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};

	pgn_owner_execute(psprintf("DELETE FROM pigeon.%s WHERE %s = $1 AND status <> 'RUNNING' AND id <="
							   " (SELECT id FROM pigeon.%s WHERE %s = $1 ORDER BY id DESC OFFSET %d LIMIT 1)",
							   table, column, table, column, PGN_TASKS_KEPT), 1, types, values, NULL);
}

/*
 * End the running tasks in a table of tasks whose column is one of the array
 * "ids".  One of which a step is under way ends itself with the next: that step
 * may be waiting for us.
 */
void
pgn_tasks_end(const char *table, const char *column, Datum ids, const char *reason)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4ARRAYOID, TEXTOID};
	Datum		values[] = {ids, CStringGetTextDatum(reason)};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute(psprintf("UPDATE pigeon.%s SET status = 'FAILED', failure_reason = $2, finished_at = clock_timestamp()"
							   " WHERE id IN (SELECT id FROM pigeon.%s WHERE %s = ANY ($1) AND status = 'RUNNING'"
							   " FOR UPDATE SKIP LOCKED)", table, table, column), 2, types, values, NULL);
	pgn_owner_end(&as_owner);
}

/*
 * A number for the extension in this database, which no other one has, be it
 * on another server or the one before in the same database.
 */
int64
pgn_task_origin(void)
{
	uint64		database = hash_combine64(GetSystemIdentifier(), MyDatabaseId);

	return (int64) hash_combine64(database, get_extension_oid("pigeon", false));
}

/* The status of a task after a step. */
const char *
pgn_task_status(bool restored, bool failed, bool more)
{
	if (failed)
		return restored ? "RUNNING" : "FAILED";
	return more ? "RUNNING" : "COMPLETED";
}

/*
 * How many messages a step may handle now.  max_per_second is 0 if the task may
 * go as fast as it can.  *paid_until is the time up to which its rate is used
 * up.  It is brought forward to a minute ago, the time from one maintain() to the
 * next where there is no worker: what a task has missed before, because nobody
 * was there to advance it, it does not make up for in a burst.
 */
int
pgn_task_budget(TimestampTz *paid_until, int max_per_second, int most)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		budget;

	if (max_per_second == 0)
		return most;
	/* The clock may have been set back. */
	*paid_until = Min(Max(*paid_until, now - USECS_PER_MINUTE), now);
	budget = (now - *paid_until) * max_per_second / USECS_PER_SEC;
	return Min(budget, most);
}

/* A step has handled so many. */
void
pgn_task_pay(TimestampTz *paid_until, int max_per_second, int n)
{
	if (max_per_second > 0)
		*paid_until += n * USECS_PER_SEC / max_per_second;
}
