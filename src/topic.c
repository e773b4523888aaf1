/*
 * topic.c
 *		What a backend knows of a topic: its attributes, its subscriptions.
 *
 * A topic is a row in the registry and a view, pigeon.t_<id>, that shows the
 * archived messages and has an INSTEAD OF trigger that publishes what is
 * inserted.  Why a view and not a table:
 *
 *	- A topic without an archive stores nothing.  A BEFORE trigger on a table
 *	  can swallow rows, but then INSERT reports that it inserted none and has
 *	  nothing to return; an AFTER trigger leaves rows to be deleted, which is
 *	  bloat.  An INSTEAD OF trigger stores nothing, is counted, and
 *	  RETURNING gives the message_id.
 *
 *	- Nobody can lose messages by dropping the trigger: a view without one
 *	  refuses the INSERT, where a table would take the rows and tell nobody.
 *
 *	- The rights are those of a table: INSERT is the right to publish,
 *	  REFERENCES (which means nothing else on a view) to subscribe, SELECT to
 *	  read the archive.
 *
 * Message groups, deduplication, counters and jobs of the worker are made for
 * queues.  For them a topic is a queue too, one without deliveries: it has a
 * Queue of its own, with the view in the place of the table, and its number is
 * from the sequence of queues.
 *
 * The cache works as that of queues (queue.c): by the relation cache entry of
 * the view.  Whoever changes a topic or one of its subscriptions sends an
 * invalidation for the view.  Roles are known to subscriptions by name, as in
 * every dump, so a renamed, dropped or new role invalidates them all.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "registry.h"
#include "topic.h"

/* How long a FIFO topic recognises duplicates. */
#define DEDUPLICATION_WINDOW (5 * USECS_PER_MINUTE)

typedef struct NameEntry
{
	char		name[PGN_NAME_BYTES + 1];	/* hash key */
	Topic	   *topic;
} NameEntry;

static HTAB *topics = NULL;		/* by relid, holds the Topic itself */
static HTAB *topics_by_name = NULL;

/* Counts invalidations, so that one that arrives while we read is noticed. */
static uint64 invalidations = 0;

/* Relcache callback: this view's topic, or every topic, may have changed. */
static void
invalidate_topic(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	Topic	   *topic;

	invalidations++;
	if (OidIsValid(relid))
	{
		topic = hash_search(topics, &relid, HASH_FIND, NULL);
		if (topic)
			topic->valid = false;
		return;
	}
	hash_seq_init(&status, topics);
	while ((topic = hash_seq_search(&status)) != NULL)
		topic->valid = false;
}

/* Syscache callback: a role may have been renamed, dropped or created. */
static void
invalidate_owners(Datum arg, int cacheid, uint32 hashvalue)
{
	invalidate_topic(arg, InvalidOid);
}

/* Set up the cache; called once per backend. */
void
pgn_topic_init(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Topic);
	topics = hash_create("pigeon topics", 16, &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.keysize = PGN_NAME_BYTES + 1;
	ctl.entrysize = sizeof(NameEntry);
	topics_by_name = hash_create("pigeon topics by name", 16, &ctl, HASH_ELEM | HASH_STRINGS);
	CacheRegisterRelcacheCallback(invalidate_topic, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, invalidate_owners, (Datum) 0);
}

/* Fill in the attributes from a row of the registry. */
static void
read_attributes(TopicAttributes *a, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

#define COLUMN(attnum) heap_getattr(tuple, attnum, desc, &isnull)
	a->fifo = DatumGetBool(COLUMN(Anum_topic_fifo));
	a->content_based_deduplication = DatumGetBool(COLUMN(Anum_topic_content_based_deduplication));
	a->max_message_size = DatumGetInt32(COLUMN(Anum_topic_max_message_size));
	value = COLUMN(Anum_topic_archive_retention);
	a->archive_retention = isnull ? 0 : DatumGetInt64(value);
	a->archive_segment = DatumGetInt16(COLUMN(Anum_topic_archive_segment));
	a->archive_since = DatumGetTimestampTz(COLUMN(Anum_topic_archive_since));
#undef COLUMN
}

/* Fill in what of the topic is seen as a queue.  Its activity is left alone. */
static void
see_as_queue(Topic *topic)
{
	Queue	   *queue = &topic->queue;

	queue->relid = topic->relid;
	queue->id = topic->id;
	queue->valid = true;
	queue->shared = NULL;
	strlcpy(queue->name, topic->name, sizeof(queue->name));
	memset(&queue->attributes, 0, sizeof(queue->attributes));
	queue->attributes.fifo = topic->attributes.fifo;
	queue->attributes.content_based_deduplication = topic->attributes.content_based_deduplication;
	queue->attributes.deduplication_window = DEDUPLICATION_WINDOW;
}

/* Fill in a subscription from a row of the registry. */
static void
read_subscription(Subscription *s, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

#define COLUMN(attnum) heap_getattr(tuple, attnum, desc, &isnull)
	s->id = DatumGetInt32(COLUMN(Anum_subscription_id));
	s->queue = TextDatumGetCString(COLUMN(Anum_subscription_queue));
	value = COLUMN(Anum_subscription_dead_letter_queue);
	s->dead_letter_queue = isnull ? NULL : TextDatumGetCString(value);
	s->owner = get_role_oid(NameStr(*DatumGetName(COLUMN(Anum_subscription_owner))), true);
	s->raw_delivery = DatumGetBool(COLUMN(Anum_subscription_raw_delivery));
	s->filter_policy = NULL;
	value = COLUMN(Anum_subscription_filter_policy);
	if (!isnull)
	{
		Jsonb	   *policy = DatumGetJsonbP(value);

		value = COLUMN(Anum_subscription_filter_scope);
		s->filter_policy = pgn_filter_load(policy, pgn_filter_scope(TextDatumGetCString(value)),
										   CurrentMemoryContext);
	}
#undef COLUMN
}

/* Read the subscriptions of a topic, in the order of the index. */
static void
load_subscriptions(Topic *topic, Snapshot snapshot)
{
	Relation	registry = table_open(pgn_relation("subscription"), AccessShareLock);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pigeon topic",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			size = 8;
	Subscription *subscriptions = palloc(size * sizeof(Subscription));
	int			n = 0;
	Relation	index = index_open(pgn_relation("subscription_topic_id_queue_key"), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_subscription_topic_id, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(topic->id));
	scan = systable_beginscan_ordered(registry, index, snapshot, 1, &key);
	while ((tuple = systable_getnext_ordered(scan, ForwardScanDirection)) != NULL)
	{
		if (n == size)
			subscriptions = repalloc(subscriptions, (size *= 2) * sizeof(Subscription));
		read_subscription(&subscriptions[n++], tuple, RelationGetDescr(registry));
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(registry, AccessShareLock);
	MemoryContextSwitchTo(old);

	/* Nothing can fail from here on. */
	MemoryContextSetParent(context, CacheMemoryContext);
	if (topic->context)
		MemoryContextDelete(topic->context);
	topic->context = context;
	topic->subscriptions = subscriptions;
	topic->nsubscriptions = n;
}

/*
 * Read a topic from the registry, by the given key, into the cache.  NULL if
 * it is not registered, or if its view is gone (or not yet restored).
 */
static Topic *
load_topic(AttrNumber attnum, const char *index_name, RegProcedure equal, Datum key)
{
	Relation	registry = table_open(pgn_relation("topic"), AccessShareLock);
	uint64		invalidations_before = invalidations;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Topic	   *topic = NULL;
	ScanKeyData scankey;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&scankey, attnum, BTEqualStrategyNumber, equal, key);
	scan = systable_beginscan(registry, pgn_relation(index_name), true, snapshot, 1, &scankey);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		TupleDesc	desc = RelationGetDescr(registry);
		bool		isnull,
					found;
		int32		id = DatumGetInt32(heap_getattr(tuple, Anum_topic_id, desc, &isnull));
		char	   *name = TextDatumGetCString(heap_getattr(tuple, Anum_topic_name, desc, &isnull));
		Oid			relid = pgn_relation(psprintf("t_%d", id));

		if (OidIsValid(relid))
		{
			NameEntry  *by_name;

			topic = hash_search(topics, &relid, HASH_ENTER, &found);
			if (!found)
			{
				topic->context = NULL;
				memset(&topic->queue, 0, sizeof(Queue));
			}
			topic->valid = false;
			topic->id = id;
			strlcpy(topic->name, name, sizeof(topic->name));
			topic->nsubscriptions = 0;
			read_attributes(&topic->attributes, tuple, desc);
			see_as_queue(topic);
			load_subscriptions(topic, snapshot);
			by_name = hash_search(topics_by_name, topic->name, HASH_ENTER, &found);
			by_name->topic = topic;
			topic->valid = invalidations == invalidations_before;
		}
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(registry, AccessShareLock);
	return topic;
}

/* The topic of this name, NULL if there is none. */
Topic *
pgn_topic_find(const char *name)
{
	NameEntry  *entry;

	if (strlen(name) > PGN_NAME_BYTES)
		return NULL;
	entry = hash_search(topics_by_name, name, HASH_FIND, NULL);
	if (entry && entry->topic->valid && strcmp(entry->topic->name, name) == 0)
		return entry->topic;
	return load_topic(Anum_topic_name, "topic_name_key", F_TEXTEQ, CStringGetTextDatum(name));
}

/* The topic of this number, NULL if there is none (any more). */
Topic *
pgn_topic_find_by_id(int32 id)
{
	return load_topic(Anum_topic_id, "topic_pkey", F_INT4EQ, Int32GetDatum(id));
}

/* The topic that this view belongs to, NULL if it is not the view of a topic. */
Topic *
pgn_topic_find_by_relid(Oid relid)
{
	Topic	   *topic = hash_search(topics, &relid, HASH_FIND, NULL);
	char	   *name;
	int32		id;

	if (topic && topic->valid)
		return topic;
	name = get_rel_name(relid);
	if (name == NULL || get_rel_namespace(relid) != pgn_schema() || strncmp(name, "t_", 2) != 0)
		return NULL;
	id = strtol(name + 2, NULL, 10);
	topic = pgn_topic_find_by_id(id);
	return topic && topic->relid == relid ? topic : NULL;
}

/* The numbers of all topics in a snapshot of the registry. */
int32 *
pgn_topic_ids(Snapshot snapshot, int *n)
{
	return pgn_registry_ids("topic", snapshot, n);
}

/*
 * To be called before a topic is looked up to publish to it.  Who has a
 * transaction number that is too new for a replay (see replay.c) sees the
 * subscription that is replayed to.
 */
void
pgn_topic_begin_publish(void)
{
	(void) GetTopTransactionId();
	AcceptInvalidationMessages();
}

/*
 * Lock a topic's view.  False, and no lock, if what we know of the topic
 * turned out to be out of date: look it up again.
 */
bool
pgn_topic_lock(Topic *topic, LOCKMODE lockmode)
{
	return pgn_named_lock(topic->relid, &topic->valid, lockmode, true);
}

/* Like pgn_topic_lock, but also false if the lock cannot be had at once. */
bool
pgn_topic_lock_now(Topic *topic, LOCKMODE lockmode)
{
	return pgn_named_lock(topic->relid, &topic->valid, lockmode, false);
}

/* Fail unless a role has all of these rights on the topic. */
void
pgn_topic_check_rights(const Topic *topic, AclMode rights, Oid role)
{
	pgn_check_rights(PGN_TOPIC, topic->name, topic->relid, rights, role);
}

/* Fail unless the current user owns the topic. */
void
pgn_topic_check_owner(const Topic *topic)
{
	pgn_check_owner(PGN_TOPIC, topic->name, topic->relid);
}

/*
 * Find and lock the topic of this name for the current user.  Errors: 42704
 * if there is none, 42501 if one of the rights is missing.
 */
Topic *
pgn_topic_open(const char *name, AclMode rights, LOCKMODE lockmode)
{
	for (;;)
	{
		Topic	   *topic = pgn_topic_find(name);

		if (topic == NULL)
			pgn_unknown(PGN_TOPIC, name);
		if (pgn_just_dropped(topic->relid))
			continue;
		pgn_topic_check_rights(topic, rights, GetUserId());
		if (pgn_topic_lock(topic, lockmode))
			return topic;
	}
}
