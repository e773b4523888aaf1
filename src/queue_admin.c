/*
 * queue_admin.c
 *		create_queue, alter_queue, drop_queue and purge_queue.
 *
 * A queue is a row in the registry and a table.  The table is created by and
 * belongs to the caller, and its rights are the queue's rights; the registry
 * belongs to the extension, so it is written as its owner.  So do the two more
 * tables of a FIFO queue: they hold nothing that is of use to anybody but us,
 * and what users could do to them would only break the queue.  Every attribute
 * is checked before anything is written.
 *
 * Who creates or drops queues holds a lock on the registry until the end of
 * the transaction; who only uses queues never waits for it.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "admin.h"
#include "arguments.h"
#include "compat.h"
#include "deduplication.h"
#include "delivery_scan.h"
#include "dropped.h"
#include "fair.h"
#include "fifo.h"
#include "message.h"
#include "owner.h"
#include "pigeon.h"
#include "queue.h"
#include "registry.h"
#include "schedule.h"
#include "table.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_create_queue);
PG_FUNCTION_INFO_V1(pgn_alter_queue);
PG_FUNCTION_INFO_V1(pgn_drop_queue);
PG_FUNCTION_INFO_V1(pgn_purge_queue);

#define MIN_RETENTION (60 * USECS_PER_SEC)
#define DEFAULT_MAX_RECEIVE_COUNT 10
#define POLICY_HINT "Its elements are names of queues, or '*' for all."

/* The arguments of create_queue, by position; alter_queue has most of them. */
enum
{
	ARG_QUEUE,
	ARG_FIFO,
	ARG_VISIBILITY_TIMEOUT,
	ARG_DELAY,
	ARG_RETENTION,
	ARG_WAIT_TIME,
	ARG_MAX_MESSAGE_SIZE,
	ARG_DEAD_LETTER_QUEUE,
	ARG_MAX_RECEIVE_COUNT,
	ARG_CONTENT_BASED_DEDUPLICATION,
	ARG_DEDUPLICATION_SCOPE,
	ARG_NOTIFY,
	ARG_TAGS,
	ARG_IF_NOT_EXISTS,
	ARG_REDRIVE_ALLOW_POLICY,
	ARG_DEDUPLICATION_WINDOW
};

/* The arguments of alter_queue, in their places of create_queue. */
static const int alter_places[] = {
	ARG_QUEUE, ARG_VISIBILITY_TIMEOUT, ARG_DELAY, ARG_RETENTION, ARG_WAIT_TIME,
	ARG_MAX_MESSAGE_SIZE, ARG_DEAD_LETTER_QUEUE, ARG_MAX_RECEIVE_COUNT,
	ARG_CONTENT_BASED_DEDUPLICATION, ARG_DEDUPLICATION_SCOPE, ARG_NOTIFY, ARG_TAGS,
	ARG_REDRIVE_ALLOW_POLICY, ARG_DEDUPLICATION_WINDOW
};

/* Fail unless the policy is an array of names, each once; return whether it has this one or '*'. */
static bool
policy_allows(ArrayType *policy, const char *queue)
{
	Datum	   *names;
	bool	   *nulls;
	int			n;
	bool		allows = false;

	if (ARR_NDIM(policy) > 1)
		pgn_bad_attribute("redrive_allow_policy must be a one-dimensional array", POLICY_HINT);
	deconstruct_array(policy, TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		char	   *name;

		if (nulls[i])
			pgn_bad_attribute("redrive_allow_policy must not have null elements", POLICY_HINT);
		name = TextDatumGetCString(names[i]);
		if (queue && (strcmp(name, "*") == 0 || strcmp(name, queue) == 0))
			allows = true;
	}
	return allows;
}

/* An interval attribute, if given. */
static void
apply_interval(const Given *given, int arg, const char *what, int64 *attribute)
{
	if (GIVEN(given, arg))
		*attribute = pgn_interval(DatumGetIntervalP(VALUE(given, arg)), what);
}

/* The attributes of dead-lettering. */
static void
apply_dead_letters(const Given *given, QueueAttributes *a)
{
	if (GIVEN(given, ARG_DEAD_LETTER_QUEUE))
	{
		char	   *name = TextDatumGetCString(VALUE(given, ARG_DEAD_LETTER_QUEUE));

		if (strlen(name) > PGN_NAME_BYTES)
			pgn_unknown(PGN_QUEUE, name);
		strcpy(a->dead_letter_queue, name);
		if (name[0] == '\0')
			a->max_receive_count = 0;
		else if (a->max_receive_count == 0)
			a->max_receive_count = DEFAULT_MAX_RECEIVE_COUNT;
	}
	if (GIVEN(given, ARG_MAX_RECEIVE_COUNT))
	{
		a->max_receive_count = DatumGetInt32(VALUE(given, ARG_MAX_RECEIVE_COUNT));
		if (a->max_receive_count < 1)
			pgn_bad_attribute("max_receive_count must be at least 1",
							  "Without a dead_letter_queue there is no limit.");
		if (a->dead_letter_queue[0] == '\0')
			pgn_bad_attribute("max_receive_count needs a dead_letter_queue",
							  "Name the dead_letter_queue in the same call.");
	}
}

/* The attributes that only FIFO queues have. */
static void
apply_fifo(const Given *given, QueueAttributes *a)
{
	if (GIVEN(given, ARG_CONTENT_BASED_DEDUPLICATION))
		a->content_based_deduplication = DatumGetBool(VALUE(given, ARG_CONTENT_BASED_DEDUPLICATION));
	if (GIVEN(given, ARG_DEDUPLICATION_SCOPE))
	{
		char	   *scope = TextDatumGetCString(VALUE(given, ARG_DEDUPLICATION_SCOPE));

		if (strcmp(scope, "queue") != 0 && strcmp(scope, "message_group") != 0)
			pgn_bad_attribute("deduplication_scope must be \"queue\" or \"message_group\"", NULL);
		a->deduplicate_by_group = strcmp(scope, "message_group") == 0;
	}
	apply_interval(given, ARG_DEDUPLICATION_WINDOW, "deduplication_window", &a->deduplication_window);
	if (a->deduplication_window == 0)
		pgn_bad_attribute("deduplication_window must not be zero", NULL);
	if (!a->fifo && (a->content_based_deduplication || a->deduplicate_by_group ||
					 GIVEN(given, ARG_DEDUPLICATION_WINDOW)))
		pgn_bad_attribute("only FIFO queues have deduplication attributes",
						  "Create the queue with fifo => true.");
}

/* Fail if a queue's visibility timeout is longer than it may be today. */
static void
check_visibility_timeout(const QueueAttributes *a)
{
	if (a->visibility_timeout > pgn_max_visibility * USECS_PER_SEC)
		pgn_bad_attribute("visibility_timeout is longer than the setting pigeon.max_visibility allows",
						  "Choose a shorter one, or raise the setting.");
}

/* Change attributes to what the caller gave, and check the result. */
static void
apply(const Given *given, const char *name, QueueAttributes *a)
{
	apply_interval(given, ARG_VISIBILITY_TIMEOUT, "visibility_timeout", &a->visibility_timeout);
	apply_interval(given, ARG_DELAY, "delay", &a->delay);
	apply_interval(given, ARG_RETENTION, "retention", &a->retention);
	apply_interval(given, ARG_WAIT_TIME, "wait_time", &a->wait_time);
	if (GIVEN(given, ARG_VISIBILITY_TIMEOUT))
		check_visibility_timeout(a);
	if (a->retention < MIN_RETENTION)
		pgn_bad_attribute("retention must be at least 60 seconds", NULL);
	if (GIVEN(given, ARG_MAX_MESSAGE_SIZE))
		a->max_message_size = DatumGetInt32(VALUE(given, ARG_MAX_MESSAGE_SIZE));
	pgn_check_max_message_size(a->max_message_size);
	apply_dead_letters(given, a);
	apply_fifo(given, a);
	if (GIVEN(given, ARG_NOTIFY))
		a->notify = DatumGetBool(VALUE(given, ARG_NOTIFY));
	if (a->notify && strlen("pigeon.") + strlen(name) >= NAMEDATALEN)
		pgn_bad_attribute("the queue's name is too long for notify",
						  "The channel \"pigeon.<queue>\" must fit into 63 bytes.");
	if (GIVEN(given, ARG_TAGS))
		pgn_check_tags(DatumGetJsonbP(VALUE(given, ARG_TAGS)));
	if (GIVEN(given, ARG_REDRIVE_ALLOW_POLICY))
		(void) policy_allows(DatumGetArrayTypeP(VALUE(given, ARG_REDRIVE_ALLOW_POLICY)), NULL);
}

/* The registry's tags and redrive allow policy of a queue. */
static void
read_documents(const Queue *queue, Datum *tags, Datum *policy)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(queue->id)};
	Datum		row[2];
	bool		isnull[2];

	if (!pgn_owner_row("SELECT tags, redrive_allow_policy FROM pigeon.queue WHERE id = $1",
					   1, types, values, 2, row, isnull))
		elog(ERROR, "queue \"%s\" is not in the registry", queue->name);
	*tags = row[0];
	*policy = row[1];
}

/* Fail unless the queue may name its dead-letter queue. */
static void
check_dead_letter_queue(const char *name, const QueueAttributes *a)
{
	Queue	   *target;
	Datum		tags,
				policy;

	if (strcmp(name, a->dead_letter_queue) == 0)
		pgn_bad_attribute("a queue cannot be its own dead-letter queue",
						  "Create another queue for its dead letters.");
	target = pgn_queue_find(a->dead_letter_queue);
	if (target == NULL)
		pgn_unknown(PGN_QUEUE, a->dead_letter_queue);
	pgn_queue_check_owner(target);
	if (target->attributes.fifo != a->fifo)
		pgn_bad_attribute("a dead-letter queue must be of the same kind as its source queue",
						  "The dead-letter queue of a FIFO queue is a FIFO queue.");
	read_documents(target, &tags, &policy);
	if (!policy_allows(DatumGetArrayTypeP(policy), name))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("queue \"%s\" may not name queue \"%s\" as its dead-letter queue",
						name, target->name),
				 errhint("Change redrive_allow_policy of the dead-letter queue.")));
}

/* Fail because the creator of a queue would get messages from somebody else. */
static void
would_receive(const char *name, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("queue \"%s\" would receive %s of somebody else", name, what),
			 errhint("Choose another name, or have them let go of this one first.")));
}

/*
 * Fail if others have subscribed this queue, which is to be created, to a
 * topic, or named it for the dead letters of a subscription, or redrive to it:
 * its creator would get their messages.  Of a topic to which he may subscribe
 * he can have them.
 */
static void
check_subscriptions(const char *name)
{
	Oid			types[] = {TEXTOID, OIDOID};
	Datum		values[] = {CStringGetTextDatum(name), ObjectIdGetDatum(GetUserId())};
	int			n;
	int64	   *topics = pgn_owner_numbers("SELECT DISTINCT topic_id::bigint FROM pigeon.subscription"
										   " JOIN pg_roles ON rolname = owner"
										   " WHERE $1 IN (queue, dead_letter_queue) AND NOT pg_has_role($2, oid, 'USAGE')",
										   2, types, values, &n);

	for (int i = 0; i < n; i++)
	{
		Topic	   *topic = pgn_topic_find_by_id(topics[i]);

		if (topic && !pgn_has_right(topic->relid, PGN_ACL_SUBSCRIBE, GetUserId()) && !pgn_just_dropped(topic->relid))
			would_receive(name, "messages of a subscription");
	}
	if (pgn_owner_row("SELECT FROM pigeon.redrive_task JOIN pg_roles ON rolname = started_by"
					  " WHERE destination = $1 AND status = 'RUNNING' AND NOT pg_has_role($2, oid, 'USAGE')",
					  2, types, values, 0, NULL, NULL))
		would_receive(name, "messages of a redrive");
}

/*
 * Fail if queues of others name this queue, which is to be created, as their
 * dead-letter queue: its creator would get their messages.
 */
static void
check_sources(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int			n;
	int64	   *ids = pgn_owner_numbers("SELECT id::bigint FROM pigeon.queue WHERE dead_letter_queue = $1",
										1, types, values, &n);

	for (int i = 0; i < n; i++)
	{
		Queue	   *source = pgn_queue_find_by_id(ids[i]);

		if (source && !pgn_is_owner(source->relid, GetUserId()) && !pgn_just_dropped(source->relid))
			would_receive(name, "the dead letters of a queue");
	}
}

/* Write a queue to the registry: a new row, or (if "id" is there) its new attributes. */
static void
write_registry(bool is_new, int32 id, const char *name, const QueueAttributes *a, const Given *given)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, TEXTOID, BOOLOID, INT8OID, INT8OID, INT8OID, INT8OID, INT4OID,
	TEXTOID, INT4OID, TEXTARRAYOID, BOOLOID, TEXTOID, BOOLOID, JSONBOID, INT8OID};
	Datum		values[] = {
		Int32GetDatum(id), CStringGetTextDatum(name), BoolGetDatum(a->fifo),
		Int64GetDatum(a->visibility_timeout), Int64GetDatum(a->delay),
		Int64GetDatum(a->retention), Int64GetDatum(a->wait_time),
		Int32GetDatum(a->max_message_size), CStringGetTextDatum(a->dead_letter_queue),
		Int32GetDatum(a->max_receive_count), VALUE(given, ARG_REDRIVE_ALLOW_POLICY),
		BoolGetDatum(a->content_based_deduplication),
		CStringGetTextDatum(a->deduplicate_by_group ? "message_group" : "queue"),
		BoolGetDatum(a->notify), VALUE(given, ARG_TAGS), Int64GetDatum(a->deduplication_window)
	};
	char		nulls[lengthof(values) + 1];

	memset(nulls, ' ', sizeof(nulls));
	if (a->dead_letter_queue[0] == '\0')
		nulls[Anum_queue_dead_letter_queue - 1] = 'n';
	if (a->max_receive_count == 0)
		nulls[Anum_queue_max_receive_count - 1] = 'n';
	if (!GIVEN(given, ARG_REDRIVE_ALLOW_POLICY))
		nulls[Anum_queue_redrive_allow_policy - 1] = 'n';
	if (!GIVEN(given, ARG_TAGS))
		nulls[Anum_queue_tags - 1] = 'n';

	pgn_owner_begin(&as_owner);
	pgn_owner_execute(is_new ?
					  "INSERT INTO pigeon.queue VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,"
					  " coalesce($11, '{*}'), $12, $13, $14, coalesce($15, '{}'), $16)" :
					  "UPDATE pigeon.queue SET name = $2, fifo = $3, visibility_timeout = $4, delay = $5,"
					  " retention = $6, wait_time = $7, max_message_size = $8, dead_letter_queue = $9,"
					  " max_receive_count = $10, redrive_allow_policy = coalesce($11, redrive_allow_policy),"
					  " content_based_deduplication = $12, deduplication_scope = $13, notify = $14,"
					  " tags = coalesce($15, tags), deduplication_window = $16, altered_at = now() WHERE id = $1",
					  lengthof(values), types, values, nulls);
	pgn_owner_end(&as_owner);
}

/* Fail if the existing queue differs in what the caller of create_queue gave. */
static void
check_same(const Queue *queue, const Given *given)
{
	QueueAttributes old = queue->attributes,
				new = queue->attributes;
	Datum		tags,
				policy;
	const char *differs = NULL;

	if (GIVEN(given, ARG_FIFO))
		new.fifo = DatumGetBool(VALUE(given, ARG_FIFO));
	/* What it could be given then does not matter. */
	if (old.fifo == new.fifo)
		apply(given, queue->name, &new);
	read_documents(queue, &tags, &policy);

#define COMPARE(attribute) if (old.attribute != new.attribute) differs = #attribute
	COMPARE(notify);
	COMPARE(deduplication_window);
	COMPARE(content_based_deduplication);
	COMPARE(max_receive_count);
	COMPARE(max_message_size);
	COMPARE(wait_time);
	COMPARE(retention);
	COMPARE(delay);
	COMPARE(visibility_timeout);
	COMPARE(fifo);
#undef COMPARE
	if (old.deduplicate_by_group != new.deduplicate_by_group)
		differs = "deduplication_scope";
	if (strcmp(old.dead_letter_queue, new.dead_letter_queue) != 0)
		differs = "dead_letter_queue";
	if (GIVEN(given, ARG_TAGS) &&
		!DatumGetBool(DirectFunctionCall2(jsonb_eq, VALUE(given, ARG_TAGS), tags)))
		differs = "tags";
	if (GIVEN(given, ARG_REDRIVE_ALLOW_POLICY) &&
		!datumIsEqual(PointerGetDatum(PG_DETOAST_DATUM(VALUE(given, ARG_REDRIVE_ALLOW_POLICY))),
					  policy, false, -1))
		differs = "redrive_allow_policy";
	if (differs)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("queue \"%s\" already exists with another %s", queue->name, differs),
				 errhint("Change the attribute with pigeon.alter_queue().")));
}

/*
 * Forget a queue of this name if its table was renamed or moved away: nobody
 * can use it any more.
 */
static void
forget_remains(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int64		id = pgn_owner_number("SELECT id::bigint FROM pigeon.queue WHERE name = $1",
									  1, types, values, 0);

	if (id != 0)
		pgn_forget_queue(id);
}

/* Create the tables of a new queue. */
static void
create_tables(int32 id, const char *name, bool fifo)
{
	SPI_connect();
	if (SPI_execute(pgn_delivery_table_sql(id, fifo), false, 0) < 0)
		elog(ERROR, "could not create the table of queue \"%s\"", name);
	SPI_finish();
	if (!fifo)
		return;
	pgn_owner_create_table(pgn_schedule_table_sql(id), psprintf("g_%d", (int) id));
	pgn_owner_create_table(pgn_deduplication_table_sql(id), psprintf("d_%d", (int) id));
}

/* create_queue(queue, fifo, visibility_timeout, ...) */
Datum
pgn_create_queue(PG_FUNCTION_ARGS)
{
	QueueAttributes a = {
		.visibility_timeout = 30 * USECS_PER_SEC,
		.retention = 4 * USECS_PER_DAY,
		.deduplication_window = 5 * USECS_PER_MINUTE,
		.max_message_size = 1024 * 1024
	};
	Given		given;
	char	   *name;
	Queue	   *existing;
	int32		id;

	pgn_begin_write("pigeon.create_queue()");
	pgn_take_arguments(fcinfo, NULL, &given);
	name = pgn_name_argument(&given, PGN_QUEUE);
	pgn_check_may_create(PGN_QUEUE);
	LockRelationOid(pgn_relation("queue"), ShareRowExclusiveLock);

	existing = pgn_queue_find(name);
	if (existing)
	{
		pgn_refuse_existing(&given, ARG_IF_NOT_EXISTS, PGN_QUEUE, name);
		check_same(existing, &given);
		PG_RETURN_VOID();
	}

	if (GIVEN(&given, ARG_FIFO))
		a.fifo = DatumGetBool(VALUE(&given, ARG_FIFO));
	apply(&given, name, &a);
	check_visibility_timeout(&a);
	check_sources(name);
	check_subscriptions(name);
	if (a.dead_letter_queue[0] != '\0')
		check_dead_letter_queue(name, &a);

	forget_remains(name);
	id = pgn_new_id();
	create_tables(id, name, a.fifo);
	write_registry(true, id, name, &a, &given);
	pgn_activity_job(JOB_REGISTRY);
	PG_RETURN_VOID();
}

/*
 * Fail unless the queue is there and the caller owns it.  This comes before
 * any lock, so that only who may change a queue can make others wait.
 */
static void
check_own_queue(const char *name)
{
	Queue	   *queue = pgn_queue_find(name);

	if (queue == NULL)
		pgn_unknown(PGN_QUEUE, name);
	pgn_queue_check_owner(queue);
}

/* The queue that the arguments name, locked; the caller must be its owner. */
static Queue *
open_own_queue(const char *name, LOCKMODE lockmode)
{
	Queue	   *queue;

	check_own_queue(name);
	queue = pgn_queue_open(name, 0, lockmode);
	pgn_queue_check_owner(queue);
	return queue;
}

/* alter_queue(queue, visibility_timeout, ...) */
Datum
pgn_alter_queue(PG_FUNCTION_ARGS)
{
	Given		given;
	char	   *name;
	Queue	   *queue;
	QueueAttributes a;

	pgn_begin_write("pigeon.alter_queue()");
	pgn_take_arguments(fcinfo, alter_places, &given);
	name = pgn_name_argument(&given, PGN_QUEUE);
	check_own_queue(name);
	LockRelationOid(pgn_relation("queue"), ShareRowExclusiveLock);
	queue = open_own_queue(name, AccessShareLock);
	a = queue->attributes;
	apply(&given, queue->name, &a);
	if (a.deduplicate_by_group != queue->attributes.deduplicate_by_group)
		pgn_bad_attribute("deduplication_scope cannot be changed", "Create another queue.");
	if (GIVEN(&given, ARG_DEAD_LETTER_QUEUE) && a.dead_letter_queue[0] != '\0')
		check_dead_letter_queue(queue->name, &a);
	write_registry(false, queue->id, queue->name, &a, &given);
	if (a.fifo && a.delay != queue->attributes.delay)
		pgn_fifo_change_delay(queue, a.delay);
	CacheInvalidateRelcacheByRelid(queue->relid);
	/* Retention may be shorter now. */
	pgn_activity_maintain(queue, PG_INT64_MIN);
	if (a.notify)
		pgn_activity_notify(queue);
	PG_RETURN_VOID();
}

/* drop_queue(queue, if_exists) */
Datum
pgn_drop_queue(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		if_exists = PG_GETARG_BOOL(1);
	Queue	   *queue;

	pgn_begin_write("pigeon.drop_queue()");
	if (if_exists && pgn_queue_find(name) == NULL)
		PG_RETURN_BOOL(false);
	check_own_queue(name);
	LockRelationOid(pgn_relation("queue"), ShareRowExclusiveLock);
	if (if_exists && pgn_queue_find(name) == NULL)
		PG_RETURN_BOOL(false);
	queue = open_own_queue(name, AccessExclusiveLock);
	SPI_connect();
	if (SPI_execute(psprintf("DROP TABLE pigeon.q_%d", queue->id), false, 0) < 0)
		elog(ERROR, "could not drop the table of queue \"%s\"", name);
	SPI_finish();
	/* The event trigger did this, unless somebody disabled it. */
	pgn_forget_queue(queue->id);
	pgn_activity_dropped(queue);
	PG_RETURN_BOOL(true);
}

/* Delete all deliveries that nobody holds; how many they were. */
static int64
delete_deliveries(Queue *queue)
{
	DeliveryTable deliveries;
	DeliveryScan scan;
	DeliveryVersion version;
	GroupSet	changed = {0};
	int64		n = 0;

	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (version.uncommitted || version.held ||
			pgn_delivery_delete(&deliveries, &version.tid, false) != TM_Ok)
			continue;
		if (queue->attributes.fifo)
			pgn_group_set_add(&changed, &version.row);
		n++;
	}
	pgn_scan_end(&scan);
	pgn_fifo_reschedule_groups(&deliveries, &changed, GetCurrentTimestamp());
	pgn_deliveries_close(&deliveries, NoLock);
	if (queue->attributes.fifo)
		(void) pgn_deduplication_expire(queue, PG_INT64_MAX, 0, MaxBlockNumber);
	return n;
}

/*
 * Lock what a FIFO queue has beside its deliveries in order to truncate it, or
 * return false.  That is done with all rights of the extension's owner, so the
 * tables are looked at: they have no triggers then.
 */
static bool
lock_side_tables(Queue *queue)
{
	Schedule	schedule;

	if (!pgn_schedule_try_open(&schedule, queue, AccessExclusiveLock))
		return false;
	if (!pgn_deduplication_lock_now(queue, AccessExclusiveLock))
	{
		pgn_schedule_close(&schedule, AccessExclusiveLock);
		return false;
	}
	pgn_table_unlock_indexes(&schedule.table, AccessExclusiveLock);
	pgn_schedule_close(&schedule, NoLock);
	return true;
}

/*
 * Lock the tables of a queue in order to truncate them, or return false.  A
 * standby hears of the locks that stop everybody and keeps them to the end of
 * the transaction, so a lesser one is tried before.
 */
static bool
lock_for_truncation(Queue *queue)
{
	bool		locked;

	if (!pgn_queue_lock_now(queue, ExclusiveLock))
		return false;
	locked = !queue->attributes.fifo || lock_side_tables(queue);
	if (locked && !pgn_queue_lock_now(queue, AccessExclusiveLock))
	{
		locked = false;
		if (queue->attributes.fifo)
		{
			pgn_schedule_unlock(queue, AccessExclusiveLock);
			pgn_deduplication_unlock(queue, AccessExclusiveLock);
		}
	}
	pgn_queue_unlock(queue, ExclusiveLock);
	return locked;
}

/*
 * Truncate the deliveries; how many they were.  The tables are locked
 * exclusively.  The right to truncate is the caller's own: the table belongs
 * to a user, so nothing may be run on it with more rights than the caller has.
 */
static int64
truncate_deliveries(Queue *queue)
{
	DeliveryTable deliveries;
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan;
	int64		n = 0;

	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	scan = table_beginscan(deliveries.table.rel, snapshot, 0, NULL);
	while (heap_getnext(scan, ForwardScanDirection) != NULL)
		n++;
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	pgn_deliveries_close(&deliveries, NoLock);

	SPI_connect();
	if (SPI_execute(psprintf("TRUNCATE ONLY pigeon.q_%d", queue->id), false, 0) < 0)
		elog(ERROR, "could not truncate the table of queue \"%s\"", queue->name);
	SPI_finish();
	if (queue->attributes.fifo)
		pgn_owner_run(psprintf("TRUNCATE ONLY pigeon.g_%d, ONLY pigeon.d_%d", queue->id, queue->id));
	queue->changed_in = pgn_local_transaction();
	return n;
}

/*
 * purge_queue(queue): by truncation if nobody uses the queue right now, row by
 * row otherwise; messages that an open transaction holds then stay.  In a
 * transaction block always row by row: the lock for truncating would be kept
 * to the end of the block, and all who use the queue would wait for that.  A FIFO
 * queue forgets its deduplication keys and the groups that are empty now.
 */
Datum
pgn_purge_queue(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Queue	   *queue;
	int64		n;

	pgn_begin_write("pigeon.purge_queue()");
	queue = pgn_queue_open(name, ACL_TRUNCATE, RowExclusiveLock);
	if (!IsTransactionBlock() && lock_for_truncation(queue))
		n = truncate_deliveries(queue);
	else
		n = delete_deliveries(queue);
	pgn_activity_count(queue, COUNT_PURGED, n);
	pgn_fair_forget(queue);
	PG_RETURN_INT64(n);
}
