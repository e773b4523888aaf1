/*
 * shared.c
 *		What backends share: hints, wake-ups and counters.
 *
 * Shared memory is there only when the library is in shared_preload_libraries,
 * and holds pigeon.max_queues queues of all databases; a queue beyond that
 * does without, which costs it speed and its counters, and is reported once
 * in the server's log.  Everything in it may be lost at any time: it costs
 * speed, never a message.
 *
 * A queue is known by its table.  That way a dropped and recreated extension,
 * which counts its queues from 1 again, cannot meet the hints of its former
 * life.
 *
 * A backend keeps a pointer to the entry of a queue and uses it only while it
 * holds a lock on the queue's table, or is counted as a waiter there; see
 * housekeeping.c for when an entry goes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "counter_file.h"
#include "pigeon.h"
#include "shared.h"

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

LWLock	   *pgn_shared_lock = NULL;
SharedState *pgn_shared_state = NULL;
HTAB	   *pgn_shared_queues = NULL;
HTAB	   *pgn_shared_databases = NULL;
Waiter	   *pgn_waiters = NULL;
int			pgn_nwaiters = 0;

/* Ask for the memory and the lock. */
static void
request(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(hash_estimate_size(pgn_max_queues, sizeof(SharedQueue)));
	/* A database that counts has at least one queue. */
	RequestAddinShmemSpace(hash_estimate_size(pgn_max_queues, sizeof(SharedDatabase)));
	RequestAddinShmemSpace(mul_size(MaxBackends, sizeof(Waiter)));
	RequestAddinShmemSpace(MAXALIGN(sizeof(SharedState)));
	RequestNamedLWLockTranche("pigeon", 1);
}

/* Create, or (in a backend started by exec) find, the shared memory. */
static void
startup(void)
{
	HASHCTL		ctl = {0};
	bool		found;

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ctl.keysize = sizeof(SharedQueueKey);
	ctl.entrysize = sizeof(SharedQueue);
	pgn_shared_queues = ShmemInitHash("pigeon queues", pgn_max_queues, pgn_max_queues, &ctl,
									  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(SharedDatabase);
	pgn_shared_databases = ShmemInitHash("pigeon databases", pgn_max_queues, pgn_max_queues, &ctl,
										 HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
	pgn_nwaiters = MaxBackends;
	pgn_waiters = ShmemInitStruct("pigeon waiters", mul_size(MaxBackends, sizeof(Waiter)), &found);
	if (!found)
		memset(pgn_waiters, 0, mul_size(MaxBackends, sizeof(Waiter)));
	pgn_shared_state = ShmemInitStruct("pigeon", sizeof(SharedState), &found);
	if (!found)
	{
		pg_atomic_init_u32(&pgn_shared_state->launcher, NO_WAITER);
		pg_atomic_init_u32(&pgn_shared_state->crowded, 0);
		pg_atomic_init_u32(&pgn_shared_state->databases_changed, 0);
	}
	pgn_shared_lock = &GetNamedLWLockTranche("pigeon")->lock;
	LWLockRelease(AddinShmemInitLock);
	if (!IsUnderPostmaster)
		pgn_counter_file_init();
}

/* Install the hooks; called while shared libraries are preloaded. */
void
pgn_shared_init(void)
{
	previous_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	previous_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

/* A queue of which nothing is known: everything is to be looked at. */
static void
init_queue(SharedQueue *shared, int32 id)
{
	shared->id = id;
	for (int lane = 0; lane < PGN_LANES; lane++)
	{
		pg_atomic_init_u64(&shared->lanes[lane].frontier, (uint64) PG_INT64_MIN);
		SpinLockInit(&shared->lanes[lane].lock);
		shared->lanes[lane].moved_at = 0;
		shared->lanes[lane].nstragglers = 0;
		pgn_sleepers_init(&shared->lanes[lane].sleepers);
	}
	pg_atomic_init_u64(&shared->doubted_at, 0);
	pgn_candidates_init(&shared->candidates);
	pg_atomic_init_u64(&shared->usual_timeout, (uint64) (int64) PGN_QUEUE_TIMEOUT);
	pg_atomic_init_u32(&shared->usual_votes, PGN_MOST_VOTES);
	SpinLockInit(&shared->tenants_lock);
	memset(shared->tenants, 0, sizeof(shared->tenants));
	memset(&shared->all_tenants, 0, sizeof(shared->all_tenants));
	pg_atomic_init_u32(&shared->turn, 0);
	pg_atomic_init_u32(&shared->lane_turn, 0);
	SpinLockInit(&shared->mutex);
	shared->first_waiter = shared->last_waiter = NO_WAITER;
	pg_atomic_init_u32(&shared->nwaiters, 0);
	pg_atomic_init_u64(&shared->due_at, (uint64) PG_INT64_MIN);
	pg_atomic_init_u64(&shared->maintain_at, (uint64) PG_INT64_MIN);
	pg_atomic_init_u64(&shared->notify_at, (uint64) PG_INT64_MIN);
	pg_atomic_init_u64(&shared->notified_at, (uint64) PG_INT64_MIN);
	pg_atomic_init_u32(&shared->failures, 0);
	pg_atomic_init_u32(&shared->notify_failures, 0);
	pg_atomic_init_u64(&shared->maintained_at, 0);
	pg_atomic_init_u64(&shared->oldest, 0);
	pg_atomic_init_u64(&shared->keys_at, 0);
	pg_atomic_init_u32(&shared->key_page, 0);
	pg_atomic_init_u64(&shared->vacuum_at, (uint64) PG_INT64_MAX);
	pg_atomic_init_u64(&shared->changes, 0);
	pg_atomic_init_u64(&shared->vacuumed_at, 0);
	pg_atomic_init_u64(&shared->changes_vacuumed, 0);
	pg_atomic_init_u64(&shared->vacuum_horizon, 0);
	for (int i = 0; i < PGN_QUEUE_COUNTERS; i++)
		pg_atomic_init_u64(&shared->counters[i], 0);
}

/* The entry of a queue, made if there is none; NULL if there is no room for it. */
SharedQueue *
pgn_shared_queue_entry(const SharedQueueKey *key, int32 id)
{
	SharedQueue *shared;
	bool		found;

	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	shared = hash_search(pgn_shared_queues, key, HASH_FIND, NULL);
	LWLockRelease(pgn_shared_lock);
	if (shared == NULL)
	{
		LWLockAcquire(pgn_shared_lock, LW_EXCLUSIVE);
		shared = hash_search(pgn_shared_queues, key, HASH_ENTER_NULL, &found);
		if (shared && !found)
			init_queue(shared, id);
		LWLockRelease(pgn_shared_lock);
		/* The launcher forgets a queue with its database. */
		if (shared)
			(void) pgn_shared_database(key->database, true);
	}
	return shared;
}

/* What is shared of a queue; NULL if there is no shared memory, or no room in it. */
SharedQueue *
pgn_shared_queue(Queue *queue)
{
	static bool complained = false;
	SharedQueueKey key = {MyDatabaseId, queue->relid};
	SharedQueue *shared;

	if (queue->shared || pgn_shared_queues == NULL)
		return queue->shared;
	shared = pgn_shared_queue_entry(&key, queue->id);
	if (shared == NULL && !complained)
	{
		complained = true;
		ereport(LOG,
				(errmsg("no room in shared memory for queue \"%s\"", queue->name),
				 errdetail("It works, but is polled by those who wait for its messages, and has no counters."),
				 errhint("Raise pigeon.max_queues and restart the server.")));
	}
	queue->shared = shared;
	return shared;
}

/*
 * The entry of a database; NULL if it has none, or there is no room for one.
 * The caller has the lock, exclusively if one is to be made.
 */
SharedDatabase *
pgn_shared_database_entry(Oid oid, bool create)
{
	bool		found;
	SharedDatabase *database = hash_search(pgn_shared_databases, &oid, create ? HASH_ENTER_NULL : HASH_FIND, &found);

	if (create && database && !found)
	{
		pg_atomic_init_u64(&database->run_at, (uint64) PG_INT64_MAX);
		database->checked = database->visit = false;
		pg_atomic_init_u32(&database->holds, 0);
		database->started_at = PG_INT64_MIN;
		pg_atomic_init_u32(&database->starts, 0);
		pg_atomic_init_u32(&database->worker, NO_WAITER);
		pg_atomic_init_u32(&database->worker_pid, 0);
		pg_atomic_init_u32(&database->at_work, 0);
		pg_atomic_init_u64(&database->log_cleaned_until, (uint64) PG_INT64_MIN);
		for (int job = 0; job < PGN_DATABASE_JOBS; job++)
		{
			pg_atomic_init_u64(&database->job_at[job], (uint64) PG_INT64_MIN);
			pg_atomic_init_u32(&database->failures[job], 0);
			database->failed_tasks[job].n = 0;
			database->failed_tasks[job].retry_at = 0;
		}
	}
	return database;
}

/* What is shared of a database; NULL if it has no entry, or there is no room for one. */
SharedDatabase *
pgn_shared_database(Oid oid, bool create)
{
	SharedDatabase *database;

	if (pgn_shared_databases == NULL)
		return NULL;
	LWLockAcquire(pgn_shared_lock, create ? LW_EXCLUSIVE : LW_SHARED);
	database = pgn_shared_database_entry(oid, create);
	LWLockRelease(pgn_shared_lock);
	return database;
}

/* Lower a time that is shared to another; false if it is not later than that. */
bool
pgn_lower(pg_atomic_uint64 *time, TimestampTz to)
{
	uint64		now = pg_atomic_read_u64(time);

	while ((TimestampTz) now > to)
		if (pg_atomic_compare_exchange_u64(time, &now, (uint64) to))
			return true;
	return false;
}
