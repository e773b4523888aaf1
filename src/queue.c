/*
 * queue.c
 *		What a backend knows of a queue: its attributes, its table, its rights.
 *
 * The registry (table pigeon.queue) is read once per queue and backend and
 * kept here.  A queue is tied to the relation cache entry of its table: who
 * changes attributes sends a relcache invalidation for the table, and DROP
 * TABLE sends one by itself.  The callback only marks; the registry is read
 * again at the next use, after the table's lock has been taken.
 *
 * The registry is read with a fresh snapshot, as PostgreSQL reads its
 * catalogs: what a repeatable read transaction sees of a queue's attributes
 * is what holds now, and nothing stale can get into the cache.
 *
 * Entries never move and are never freed, so a Queue pointer stays usable for
 * the whole call; dropped queues leave an invalid entry behind (under 1 kB).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "queue.h"
#include "registry.h"

typedef struct NameEntry
{
	char		name[PGN_NAME_BYTES + 1];	/* hash key */
	Queue	   *queue;
} NameEntry;

typedef struct IdEntry
{
	int32		id;				/* hash key */
	Queue	   *queue;
} IdEntry;

static HTAB *queues = NULL;		/* by relid, holds the Queue itself */
static HTAB *queues_by_name = NULL;
static HTAB *queues_by_id = NULL;

/* Counts invalidations, so that one that arrives while we read is noticed. */
static uint64 invalidations = 0;

/* Relcache callback: the attributes of this table's queue may have changed. */
static void
invalidate_queue(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	Queue	   *queue;

	invalidations++;
	if (OidIsValid(relid))
	{
		queue = hash_search(queues, &relid, HASH_FIND, NULL);
		if (queue)
			queue->valid = false;
		return;
	}
	hash_seq_init(&status, queues);
	while ((queue = hash_seq_search(&status)) != NULL)
		queue->valid = false;
}

/* Set up the cache; called once per backend. */
void
pgn_queue_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Queue);
	queues = hash_create("pigeon queues", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.keysize = PGN_NAME_BYTES + 1;
	ctl.entrysize = sizeof(NameEntry);
	queues_by_name = hash_create("pigeon queues by name", 16, &ctl, HASH_ELEM | HASH_STRINGS);
	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(IdEntry);
	queues_by_id = hash_create("pigeon queues by id", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(invalidate_queue, (Datum) 0);
}

/* Fill in the attributes from a row of the registry. */
static void
read_attributes(QueueAttributes *a, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

#define COLUMN(attnum) heap_getattr(tuple, attnum, desc, &isnull)
	a->fifo = DatumGetBool(COLUMN(Anum_queue_fifo));
	a->visibility_timeout = DatumGetInt64(COLUMN(Anum_queue_visibility_timeout));
	a->delay = DatumGetInt64(COLUMN(Anum_queue_delay));
	a->retention = DatumGetInt64(COLUMN(Anum_queue_retention));
	a->wait_time = DatumGetInt64(COLUMN(Anum_queue_wait_time));
	a->max_message_size = DatumGetInt32(COLUMN(Anum_queue_max_message_size));
	value = COLUMN(Anum_queue_dead_letter_queue);
	a->dead_letter_queue[0] = '\0';
	if (!isnull)
		strlcpy(a->dead_letter_queue, TextDatumGetCString(value), sizeof(a->dead_letter_queue));
	value = COLUMN(Anum_queue_max_receive_count);
	a->max_receive_count = isnull ? 0 : DatumGetInt32(value);
	a->content_based_deduplication = DatumGetBool(COLUMN(Anum_queue_content_based_deduplication));
	a->deduplicate_by_group = strcmp(TextDatumGetCString(COLUMN(Anum_queue_deduplication_scope)),
									 "message_group") == 0;
	a->deduplication_window = DatumGetInt64(COLUMN(Anum_queue_deduplication_window));
	a->notify = DatumGetBool(COLUMN(Anum_queue_notify));
#undef COLUMN
}

/*
 * Read a queue from the registry, by the given key, into the cache.  NULL if
 * it is not registered, or if its table is gone (or not yet restored).
 */
static Queue *
load_queue(AttrNumber attnum, const char *index_name, RegProcedure equal, Datum key)
{
	Relation	registry = table_open(pgn_relation("queue"), AccessShareLock);
	uint64		invalidations_before = invalidations;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Queue	   *queue = NULL;
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&scankey, attnum, BTEqualStrategyNumber, equal, key);
	scan = systable_beginscan(registry, pgn_relation(index_name), true, snapshot, 1, &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		TupleDesc	desc = RelationGetDescr(registry);
		char		table_name[NAMEDATALEN];
		NameEntry  *by_name;
		IdEntry    *by_id;
		bool		isnull,
					found;
		int32		id = DatumGetInt32(heap_getattr(tuple, Anum_queue_id, desc, &isnull));
		char	   *name = TextDatumGetCString(heap_getattr(tuple, Anum_queue_name, desc, &isnull));
		Oid			relid;

		snprintf(table_name, sizeof(table_name), "q_%d", id);
		relid = pgn_relation(table_name);
		if (OidIsValid(relid))
		{
			queue = hash_search(queues, &relid, HASH_ENTER, &found);
			if (!found)
				queue->activity = NULL;
			queue->valid = false;
			queue->id = id;
			queue->shared = NULL;
			if (!found)
			{
				queue->changed_in = InvalidLocalTransactionId;
				queue->until_advance = 0;
			}
			strlcpy(queue->name, name, sizeof(queue->name));
			read_attributes(&queue->attributes, tuple, desc);
			by_name = hash_search(queues_by_name, queue->name, HASH_ENTER, &found);
			by_name->queue = queue;
			by_id = hash_search(queues_by_id, &queue->id, HASH_ENTER, &found);
			by_id->queue = queue;
			queue->valid = invalidations == invalidations_before;
		}
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return queue;
}

/* The queue of this name, NULL if there is none. */
Queue *
pgn_queue_find(const char *name)
{
	NameEntry  *entry;

	if (strlen(name) > PGN_NAME_BYTES)
		return NULL;
	entry = hash_search(queues_by_name, name, HASH_FIND, NULL);
	if (entry && entry->queue->valid && strcmp(entry->queue->name, name) == 0)
		return entry->queue;
	return load_queue(Anum_queue_name, "queue_name_key", F_TEXTEQ, CStringGetTextDatum(name));
}

/* The queue of this number, NULL if there is none (any more). */
Queue *
pgn_queue_find_by_id(int32 id)
{
	IdEntry    *entry = hash_search(queues_by_id, &id, HASH_FIND, NULL);

	if (entry && entry->queue->valid && entry->queue->id == id)
		return entry->queue;
	return load_queue(Anum_queue_id, "queue_pkey", F_INT4EQ, Int32GetDatum(id));
}

/* The same, with attributes that were altered just now, of which we may not have heard. */
Queue *
pgn_queue_find_anew(int32 id)
{
	IdEntry    *entry = hash_search(queues_by_id, &id, HASH_FIND, NULL);

	if (entry)
		entry->queue->valid = false;
	return pgn_queue_find_by_id(id);
}

/* The numbers in the first column of a table of the registry, in a snapshot. */
int32 *
pgn_registry_ids(const char *table, Snapshot snapshot, int *n)
{
	Relation	registry = table_open(pgn_relation(table), AccessShareLock);
	TableScanDesc scan = table_beginscan(registry, snapshot, 0, NULL);
	HeapTuple	tuple;
	int			size = 64;
	int32	   *ids = palloc(size * sizeof(int32));

	*n = 0;
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		if (*n == size)
			ids = repalloc(ids, (size *= 2) * sizeof(int32));
		ids[(*n)++] = DatumGetInt32(heap_getattr(tuple, 1, RelationGetDescr(registry), &isnull));
	}
	table_endscan(scan);
	table_close(registry, AccessShareLock);
	return ids;
}

/* The numbers of all queues in a snapshot of the registry. */
int32 *
pgn_queue_ids(Snapshot snapshot, int *n)
{
	return pgn_registry_ids("queue", snapshot, n);
}

/*
 * Lock a queue's table.  False, and no lock, if what we know of the queue
 * turned out to be out of date: look it up again.
 */
bool
pgn_queue_lock(Queue *queue, LOCKMODE lockmode)
{
	return pgn_named_lock(queue->relid, &queue->valid, lockmode, true);
}

/* Like pgn_queue_lock, but also false if the lock cannot be had at once. */
bool
pgn_queue_lock_now(Queue *queue, LOCKMODE lockmode)
{
	return pgn_named_lock(queue->relid, &queue->valid, lockmode, false);
}

/* Give a lock back before the end of the transaction. */
void
pgn_queue_unlock(const Queue *queue, LOCKMODE lockmode)
{
	UnlockRelationOid(queue->relid, lockmode);
}

/* Fail unless the current user has all of these rights on the queue's table. */
void
pgn_queue_check_rights(const Queue *queue, AclMode rights)
{
	pgn_check_rights(PGN_QUEUE, queue->name, queue->relid, rights, GetUserId());
}

/* Fail unless the current user owns the queue. */
void
pgn_queue_check_owner(const Queue *queue)
{
	pgn_check_owner(PGN_QUEUE, queue->name, queue->relid);
}

/*
 * The queue of this name if there is one, and a role has one of the rights
 * there; NULL if not.  Who has none must not have to wait for a lock on it.
 */
Queue *
pgn_queue_find_as(const char *name, AclMode rights, Oid role)
{
	Queue	   *queue = pgn_queue_find(name);

	if (queue == NULL || pgn_has_right(queue->relid, rights, role))
		return queue;
	/* It may have been created anew, or the right given, a moment ago. */
	AcceptInvalidationMessages();
	queue = pgn_queue_find(name);
	return queue && pgn_has_right(queue->relid, rights, role) ? queue : NULL;
}

/*
 * Find and lock the queue of this name for the current user.  Errors: 42704
 * if there is none, 42501 if one of the rights is missing.
 */
Queue *
pgn_queue_open(const char *name, AclMode rights, LOCKMODE lockmode)
{
	for (;;)
	{
		Queue	   *queue = pgn_queue_find(name);

		if (queue == NULL)
			pgn_unknown(PGN_QUEUE, name);
		if (pgn_just_dropped(queue->relid))
			continue;
		pgn_queue_check_rights(queue, rights);
		if (pgn_queue_lock(queue, lockmode))
			return queue;
	}
}
