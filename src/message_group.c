/*
 * message_group.c
 *		Message groups: their keys and their locks.
 *
 * A group is known by a 64-bit hash of its id.  Two groups with the same hash
 * are served as one, which costs them some parallelism and nothing else.
 *
 * Two kinds of locks, both of PostgreSQL's lock manager, so that they work
 * without shared memory of our own, across PREPARE TRANSACTION, and with its
 * deadlock detector:
 *
 *	- The send lock of a group of a FIFO queue.  A sender takes it before it
 *	  takes a message_id and holds it to the end of its transaction, so within
 *	  a group message_ids rise in the order of commits.  Only senders of the
 *	  same group wait for it.  A batch takes its locks in one order.  Who moves
 *	  a message into the group looks whether somebody has it; see fifo.c.
 *
 *	  Each lock occupies an entry of the shared lock table, which has room for
 *	  some max_locks_per_transaction for each connection.  So a transaction
 *	  that has sent to MAX_SEND_LOCKS groups does not lock any more of them,
 *	  but the whole queue against other senders.  That is what each sender's
 *	  share lock on "all senders" is for.
 *
 *	- The latch of a group, held for some microseconds by whoever changes when
 *	  the messages of a group are visible, or looks at them in order to decide
 *	  something; see fifo.c.  Nobody waits for anything else while he holds it.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"

#include "compat.h"
#include "message_group.h"

/* Send locks of one transaction; beyond that it locks whole queues. */
#define MAX_SEND_LOCKS 1000

/* What a lock is about.  pg_advisory_lock() and its kin use 1 and 2. */
typedef enum LockClass
{
	LOCK_ALL_SENDERS = 20001,
	LOCK_GROUP_SENDERS,
	LOCK_GROUP_LATCH,
	LOCK_DEDUPLICATION_LATCH,
	LOCK_RECEIVE_ATTEMPT
} LockClass;

/* The hash of a group id, never 0. */
int64
pgn_group_key(const text *group_id)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) VARDATA_ANY(group_id),
										   VARSIZE_ANY_EXHDR(group_id), 0);

	return hash == 0 ? 1 : (int64) hash;
}

/* There is room for 32 bits of a key; that two share a lock does no harm. */
static uint32
fold(int64 key)
{
	return (uint32) key ^ (uint32) ((uint64) key >> 32);
}

/* The tag of a lock. */
static LOCKTAG
lock_tag(const Queue *queue, uint32 key, LockClass lock_class)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, queue->relid, key, lock_class);
	return tag;
}

/* Order of folded keys. */
static int
compare_keys(const void *a, const void *b)
{
	uint32		x = *(const uint32 *) a;
	uint32		y = *(const uint32 *) b;

	return x < y ? -1 : x > y;
}

/* The number of send locks that this transaction has taken. */
static int *
send_locks_taken(void)
{
	static LocalTransactionId transaction = InvalidLocalTransactionId;
	static int	taken = 0;

	if (transaction != pgn_local_transaction())
		taken = 0;
	transaction = pgn_local_transaction();
	return &taken;
}

/* The different ones of n keys, in order, those left out whose send locks we have; how many they are. */
static int
keys_to_lock(const Queue *queue, const int64 *group_keys, int n, uint32 *keys)
{
	int			nkeys = 0;

	for (int i = 0; i < n; i++)
		keys[i] = fold(group_keys[i]);
	qsort(keys, n, sizeof(uint32), compare_keys);
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag = lock_tag(queue, keys[i], LOCK_GROUP_SENDERS);

		if ((i == 0 || keys[i] != keys[i - 1]) && !pgn_lock_held(&tag, ExclusiveLock))
			keys[nkeys++] = keys[i];
	}
	return nkeys;
}

/*
 * Become the only sender of these groups until the end of the transaction.
 * Waits for other senders of the same groups.
 */
void
pgn_groups_lock_for_send(const Queue *queue, const int64 *group_keys, int n)
{
	LOCKTAG		everybody = lock_tag(queue, 0, LOCK_ALL_SENDERS);
	int		   *taken = send_locks_taken();
	uint32	   *keys;
	int			nkeys;

	if (pgn_lock_held(&everybody, ExclusiveLock))
		return;
	keys = palloc(n * sizeof(uint32));
	nkeys = keys_to_lock(queue, group_keys, n, keys);

	/*
	 * The share lock comes last: who waits for a group must not have it,
	 * since the one he waits for may want the whole queue.  Who wants that
	 * from the beginning does not take it at all: two that have it would wait
	 * for each other.
	 */
	if (*taken + nkeys > MAX_SEND_LOCKS)
		(void) LockAcquire(&everybody, ExclusiveLock, false, false);
	else
	{
		for (int i = 0; i < nkeys; i++)
		{
			LOCKTAG		tag = lock_tag(queue, keys[i], LOCK_GROUP_SENDERS);

			(void) LockAcquire(&tag, ExclusiveLock, false, false);
		}
		(void) LockAcquire(&everybody, ShareLock, false, false);
		*taken += nkeys;
	}
	pfree(keys);
}

/*
 * Is no other transaction open that sends to this group?  Who sends to it from
 * now on gets later message_ids than there are now.
 */
bool
pgn_group_has_no_other_sender(const Queue *queue, int64 group_key)
{
	LOCKTAG		everybody = lock_tag(queue, 0, LOCK_ALL_SENDERS);
	LOCKTAG		group = lock_tag(queue, fold(group_key), LOCK_GROUP_SENDERS);
	bool		none = false;

	if (LockAcquire(&everybody, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	if (LockAcquire(&group, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
	{
		none = true;
		(void) LockRelease(&group, ExclusiveLock, false);
	}
	(void) LockRelease(&everybody, ShareLock, false);
	return none;
}

/* Take the latch of a group; whoever has it gives it back at once. */
void
pgn_group_latch(const Queue *queue, int64 group_key)
{
	LOCKTAG		tag = lock_tag(queue, fold(group_key), LOCK_GROUP_LATCH);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Take the latch of a group, or return false. */
bool
pgn_group_latch_now(const Queue *queue, int64 group_key)
{
	LOCKTAG		tag = lock_tag(queue, fold(group_key), LOCK_GROUP_LATCH);

	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Give the latch of a group back. */
void
pgn_group_unlatch(const Queue *queue, int64 group_key)
{
	LOCKTAG		tag = lock_tag(queue, fold(group_key), LOCK_GROUP_LATCH);

	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* Take the latch of a deduplication key. */
void
pgn_deduplication_latch(const Queue *queue, int64 key)
{
	LOCKTAG		tag = lock_tag(queue, fold(key), LOCK_DEDUPLICATION_LATCH);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

/* Give the latch of a deduplication key back. */
void
pgn_deduplication_unlatch(const Queue *queue, int64 key)
{
	LOCKTAG		tag = lock_tag(queue, fold(key), LOCK_DEDUPLICATION_LATCH);

	(void) LockRelease(&tag, ExclusiveLock, false);
}

/* Become the only one to serve a receive attempt until the end of the transaction, or return false. */
bool
pgn_attempt_lock_now(const Queue *queue, int64 key)
{
	LOCKTAG		tag = lock_tag(queue, fold(key), LOCK_RECEIVE_ATTEMPT);

	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}
