/*
 * housekeeping.c
 *		Removing what nobody needs from shared memory.
 *
 * The entry of a queue is used only by who holds a lock on its table, or is
 * counted as a waiter there.  So an entry may go when its table is not in the
 * catalog, nobody holds a lock on it (who has created or dropped it may be
 * open still), and nobody waits; those who wait are woken, find that there is
 * no such queue, and leave.
 *
 * The entries of a whole database go when it is gone, since nobody can be
 * connected to it.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "housekeeping.h"
#include "shared.h"
#include "wakeup.h"

/* If a queue's table has been dropped, wake its waiters, or forget it if there are none.  False if it is to be tried again. */
static bool
forget_if_dropped(const SharedQueueKey *key)
{
	SharedQueue *shared;
	bool		done = true;

	if (!ConditionalLockRelationOid(key->relid, AccessExclusiveLock))
		return false;
	AcceptInvalidationMessages();
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(key->relid)))
	{
		LWLockAcquire(pgn_shared_lock, LW_EXCLUSIVE);
		shared = hash_search(pgn_shared_queues, key, HASH_FIND, NULL);
		if (shared && pg_atomic_read_u32(&shared->nwaiters) == 0)
			hash_search(pgn_shared_queues, key, HASH_REMOVE, NULL);
		else if (shared)
		{
			pgn_wake_waiters(shared, PG_INT64_MAX);
			done = false;
		}
		LWLockRelease(pgn_shared_lock);
	}
	UnlockRelationOid(key->relid, AccessExclusiveLock);
	return done;
}

/* The keys of all queues of a database. */
static SharedQueueKey *
queue_keys(Oid database, int *n)
{
	SharedQueueKey *keys;
	HASH_SEQ_STATUS status;
	SharedQueue *shared;

	*n = 0;
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	keys = palloc((hash_get_num_entries(pgn_shared_queues) + 1) * sizeof(SharedQueueKey));
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
		if (shared->key.database == database)
			keys[(*n)++] = shared->key;
	LWLockRelease(pgn_shared_lock);
	return keys;
}

/* Forget the queues of this database that have been dropped; false if some are left. */
bool
pgn_forget_dropped_queues(void)
{
	int			n;
	SharedQueueKey *keys = queue_keys(MyDatabaseId, &n);
	bool		done = true;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(keys[i].relid)))
			done &= forget_if_dropped(&keys[i]);
	}
	pfree(keys);
	return done;
}

/* Forget the queues of this database, which were dropped with the extension; false if some are left. */
bool
pgn_forget_all_queues(void)
{
	int			left;

	(void) pgn_forget_dropped_queues();
	pfree(queue_keys(MyDatabaseId, &left));
	return left == 0;
}

/* Forget a database that has been dropped; not yet if a worker that found it so has not ended. */
void
pgn_forget_database(Oid oid)
{
	int			n;
	SharedQueueKey *keys = queue_keys(oid, &n);
	SharedDatabase *database;

	LWLockAcquire(pgn_shared_lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
		hash_search(pgn_shared_queues, &keys[i], HASH_REMOVE, NULL);
	database = hash_search(pgn_shared_databases, &oid, HASH_FIND, NULL);
	if (database && pg_atomic_read_u32(&database->worker_pid) == 0)
		hash_search(pgn_shared_databases, &oid, HASH_REMOVE, NULL);
	else if (database)
		database->visit = false;
	LWLockRelease(pgn_shared_lock);
	pfree(keys);
}
