/*
 * vacuum.c
 *		Vacuum of small queues by the worker.
 *
 * Every message leaves two dead versions of its row behind.  Autovacuum comes
 * once a minute at best, so the table of a queue that is nearly always empty
 * would be as large as what passes through in a minute or two.  The worker
 * vacuums it as soon as much has changed, and in the end that is no more work:
 * each page is cleaned once for each time it is filled.  So the table stays in
 * the cache, and on disk small.
 *
 *	- Only small tables.  Where there is a backlog, autovacuum does it at its own
 *	  pace, and nobody who wants to drop or alter the queue has to wait for long.
 *
 *	- Only when it can help: not if the horizon of what is visible to anybody
 *	  is where it was the last time.
 *
 *	- Nobody is waited for, so the table is not truncated, which needs a lock that
 *	  nobody may have beside.
 *
 *	- Only if the table has what we know how to handle: there are indexes whose
 *	  cleaning runs functions of the table's owner.
 *
 * Autovacuum goes on as ever.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "delivery.h"
#include "jobs.h"
#include "queue.h"
#include "transaction.h"
#include "vacuum.h"

/* So many changes are worth a vacuum, or a fifth of what the table has room for. */
#define MIN_CHANGES 20000
#define CHANGES_PER_PAGE 20

/* A queue is not vacuumed more often than this. */
#define VACUUM_INTERVAL (5 * USECS_PER_SEC)

/* The age of the database is for autovacuum. */
#if PG_VERSION_NUM >= 160000
#define SKIP_DATABASE_STATS ", SKIP_DATABASE_STATS"
#else
#define SKIP_DATABASE_STATS ""
#endif

/* Pages of the largest table that is served (64 MB). */
#define MAX_PAGES 8192

/* Rows of a queue have changed; ask the worker when they have become many. */
void
pgn_vacuum_count(SharedQueue *shared, int64 changes, TimestampTz now)
{
	uint64		before = pg_atomic_fetch_add_u64(&shared->changes, changes);
	TimestampTz vacuumed_at;

	if (before / MIN_CHANGES == (before + changes) / MIN_CHANGES)
		return;
	/* Unless the clock was set back since. */
	vacuumed_at = (TimestampTz) pg_atomic_read_u64(&shared->vacuumed_at);
	if (vacuumed_at <= now)
		now = Max(now, vacuumed_at + VACUUM_INTERVAL);
	pgn_queue_job_request(&shared->vacuum_at, now);
}

/*
 * The statement that vacuums a queue, NULL if that is not worth its while.  To
 * be called in a transaction; takes note that it is done.
 */
char *
pgn_vacuum_command(int32 queue_id)
{
	Queue	   *queue = pgn_queue_find_by_id(queue_id);
	SharedQueue *shared;
	DeliveryTable deliveries;
	BlockNumber pages;
	uint64		horizon,
				changes,
				dead;

	if (queue == NULL || !pgn_queue_lock_now(queue, ShareUpdateExclusiveLock))
		return NULL;
	shared = pgn_shared_queue(queue);
	if (!pgn_deliveries_try_open_indexed(&deliveries, queue, AccessShareLock))
		return NULL;
	pages = RelationGetNumberOfBlocks(deliveries.table.rel);
	horizon = pgn_widen_xid(GetOldestNonRemovableTransactionId(deliveries.table.rel));
	pgn_deliveries_close(&deliveries, AccessShareLock);
	if (shared == NULL || pages == 0 || pages > MAX_PAGES)
		return NULL;

	changes = pg_atomic_read_u64(&shared->changes);
	dead = changes - pg_atomic_read_u64(&shared->changes_vacuumed);
	if (dead < MIN_CHANGES || dead < (uint64) pages * CHANGES_PER_PAGE ||
		horizon <= pg_atomic_read_u64(&shared->vacuum_horizon))
		return NULL;
	pg_atomic_write_u64(&shared->changes_vacuumed, changes);
	pg_atomic_write_u64(&shared->vacuum_horizon, horizon);
	pg_atomic_write_u64(&shared->vacuumed_at, (uint64) GetCurrentTimestamp());
	return psprintf("VACUUM (SKIP_LOCKED, TRUNCATE off" SKIP_DATABASE_STATS ") pigeon.q_%d", queue_id);
}

/*
 * Run a VACUUM.  To be called in a transaction, which is over then, and in
 * another one, without a snapshot; in a memory context that outlives both.
 */
void
pgn_vacuum_execute(const char *command)
{
	MemoryContext portal_context = PortalContext;
	PlannedStmt *statement = makeNode(PlannedStmt);

	statement->commandType = CMD_UTILITY;
	statement->utilityStmt = linitial_node(RawStmt, pg_parse_query(command))->stmt;
	statement->stmt_len = strlen(command);

	/* That is where VACUUM keeps what must outlive its transactions. */
	PortalContext = CurrentMemoryContext;
	PG_TRY();
	{
		ProcessUtility(statement, command, false, PROCESS_UTILITY_TOPLEVEL, NULL, NULL, None_Receiver, NULL);
	}
	PG_FINALLY();
	{
		PortalContext = portal_context;
	}
	PG_END_TRY();
}
