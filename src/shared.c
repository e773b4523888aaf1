/*
 * shared.c
 *		What backends share of a queue: hints, wake-ups and counters.
 *
 * Shared memory is there only when the library is in shared_preload_libraries,
 * and holds pigeon.max_queues queues of all databases; a queue beyond that
 * does without.  Everything in it may be lost at any time: it costs speed,
 * never a message.
 *
 * A queue is known by its table.  That way a dropped and recreated extension,
 * which counts its queues from 1 again, cannot meet the hints of its former
 * life.  An entry stays where it is until its queue is dropped, so a backend
 * may keep a pointer to it as long as what it knows of the queue is valid.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "pigeon.h"
#include "shared.h"

static shmem_request_hook_type previous_shmem_request_hook = NULL;
static shmem_startup_hook_type previous_shmem_startup_hook = NULL;

static HTAB *shared_queues = NULL;
static LWLock *shared_lock = NULL;

/* Ask for the memory and the lock. */
static void
request(void)
{
	if (previous_shmem_request_hook)
		previous_shmem_request_hook();
	RequestAddinShmemSpace(hash_estimate_size(pgn_max_queues, sizeof(SharedQueue)));
	RequestNamedLWLockTranche("pigeon", 1);
}

/* Create, or (in a backend started by exec) find, the shared memory. */
static void
startup(void)
{
	HASHCTL		ctl = {0};

	if (previous_shmem_startup_hook)
		previous_shmem_startup_hook();
	ctl.keysize = sizeof(SharedQueueKey);
	ctl.entrysize = sizeof(SharedQueue);
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared_queues = ShmemInitHash("pigeon queues", pgn_max_queues, pgn_max_queues, &ctl,
								  HASH_ELEM | HASH_BLOBS);
	shared_lock = &GetNamedLWLockTranche("pigeon")->lock;
	LWLockRelease(AddinShmemInitLock);
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

/* What is shared of a queue; NULL if there is no shared memory, or no room in it. */
SharedQueue *
pgn_shared_queue(Queue *queue)
{
	SharedQueueKey key = {MyDatabaseId, queue->relid};
	SharedQueue *shared;
	bool		found;

	if (queue->shared || shared_queues == NULL)
		return queue->shared;

	LWLockAcquire(shared_lock, LW_SHARED);
	shared = hash_search(shared_queues, &key, HASH_FIND, NULL);
	LWLockRelease(shared_lock);
	if (shared == NULL)
	{
		LWLockAcquire(shared_lock, LW_EXCLUSIVE);
		shared = hash_search(shared_queues, &key, HASH_ENTER_NULL, &found);
		if (shared && !found)
		{
			for (int lane = 0; lane < PGN_LANES; lane++)
				pg_atomic_init_u64(&shared->frontier[lane], (uint64) PG_INT64_MIN);
			pg_atomic_init_u64(&shared->doubted_at, 0);
		}
		LWLockRelease(shared_lock);
	}
	queue->shared = shared;
	return shared;
}
