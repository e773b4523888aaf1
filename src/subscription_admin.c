/*
 * subscription_admin.c
 *		subscribe, alter_subscription and unsubscribe.
 *
 * A subscription is a row in the registry.  It belongs to the role that made
 * it, and deliveries are made with that role's rights.  Subscribing needs the
 * right to subscribe to the topic and ownership of the queue (and of the
 * dead-letter queue), so nobody can fill somebody else's queue.
 *
 * The queue is known by its name: a subscription outlives its queue, and goes
 * on when the queue is created again.  If that was by another role, the old
 * owner's rights do not reach into the new queue; its owner may take the
 * subscription over by subscribing again.
 *
 * Numbers are taken from the sequence of queues; see fan_out.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "admin.h"
#include "arguments.h"
#include "dropped.h"
#include "owner.h"
#include "registry.h"
#include "subscription.h"
#include "table.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_subscribe);
PG_FUNCTION_INFO_V1(pgn_alter_subscription);
PG_FUNCTION_INFO_V1(pgn_unsubscribe);

/* What can be set of a subscription; pointers are NULL for SQL NULLs. */
typedef struct Options
{
	Jsonb	   *filter_policy;
	char	   *filter_scope;
	bool		raw_delivery;
	char	   *dead_letter_queue;
} Options;

/* A subscription as the registry has it. */
typedef struct Row
{
	int32		id;
	int32		topic_id;
	char	   *queue;
	char	   *owner;
	Options		options;
} Row;

/*
 * Read the subscription that a condition with one or two parameters finds;
 * false if there is none.
 */
static bool
read_row(const char *condition, int nargs, Oid *types, Datum *values, Row *row)
{
	MemoryContext caller = CurrentMemoryContext;
	PgnOwner	as_owner;
	bool		found;

	pgn_owner_begin(&as_owner);
	pgn_owner_execute(psprintf("SELECT * FROM pigeon.subscription WHERE %s", condition),
					  nargs, types, values, NULL);
	found = SPI_processed == 1;
	if (found)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext spi = MemoryContextSwitchTo(caller);
		bool		isnull;
		Datum		value;

#define COLUMN(attnum) (value = SPI_getbinval(tuple, desc, attnum, &isnull))
		row->id = DatumGetInt32(COLUMN(Anum_subscription_id));
		row->topic_id = DatumGetInt32(COLUMN(Anum_subscription_topic_id));
		row->queue = TextDatumGetCString(COLUMN(Anum_subscription_queue));
		row->owner = pstrdup(NameStr(*DatumGetName(COLUMN(Anum_subscription_owner))));
		COLUMN(Anum_subscription_filter_policy);
		row->options.filter_policy = isnull ? NULL : DatumGetJsonbPCopy(value);
		row->options.filter_scope = TextDatumGetCString(COLUMN(Anum_subscription_filter_scope));
		row->options.raw_delivery = DatumGetBool(COLUMN(Anum_subscription_raw_delivery));
		COLUMN(Anum_subscription_dead_letter_queue);
		row->options.dead_letter_queue = isnull ? NULL : TextDatumGetCString(value);
#undef COLUMN
		MemoryContextSwitchTo(spi);
	}
	pgn_owner_end(&as_owner);
	return found;
}

/* The subscription with this number; an error if there is none. */
static Row
read_subscription(int32 id)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};
	Row			row;

	if (!read_row("id = $1", 1, types, values, &row))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("subscription %d does not exist", id)));
	return row;
}

/* Write a subscription: a new row, or its new state. */
static void
write_row(bool is_new, int32 id, const Topic *topic, const char *queue, const char *owner, const Options *options)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, INT4OID, TEXTOID, NAMEOID, JSONBOID, TEXTOID, BOOLOID, TEXTOID};
	NameData	owner_name;
	Datum		values[] = {
		Int32GetDatum(id), Int32GetDatum(topic->id), CStringGetTextDatum(queue), NameGetDatum(&owner_name),
		PointerGetDatum(options->filter_policy), CStringGetTextDatum(options->filter_scope),
		BoolGetDatum(options->raw_delivery),
		options->dead_letter_queue ? CStringGetTextDatum(options->dead_letter_queue) : (Datum) 0
	};
	char		nulls[] = "        ";

	namestrcpy(&owner_name, owner);
	if (options->filter_policy == NULL)
		nulls[Anum_subscription_filter_policy - 1] = 'n';
	if (options->dead_letter_queue == NULL)
		nulls[Anum_subscription_dead_letter_queue - 1] = 'n';
	pgn_owner_begin(&as_owner);
	pgn_owner_execute(is_new ?
					  "INSERT INTO pigeon.subscription VALUES ($1, $2, $3, $4, $5, $6, $7, $8)" :
					  "UPDATE pigeon.subscription SET topic_id = $2, queue = $3, owner = $4,"
					  " filter_policy = $5, filter_scope = $6, raw_delivery = $7, dead_letter_queue = $8,"
					  " altered_at = now() WHERE id = $1",
					  lengthof(values), types, values, nulls);
	pgn_owner_end(&as_owner);
	CacheInvalidateRelcacheByRelid(topic->relid);
}

/* Fail unless the current user may deliver messages of the topic to the queue. */
static void
check_queue(const Topic *topic, const char *name)
{
	Queue	   *queue = pgn_queue_find(name);

	if (queue == NULL)
		pgn_unknown(PGN_QUEUE, name);
	pgn_queue_check_owner(queue);
	if (queue->attributes.fifo && !topic->attributes.fifo)
		pgn_bad_attribute("a FIFO queue cannot subscribe to a standard topic",
						  "Create the topic with fifo => true, or subscribe a standard queue.");
}

/* Fail unless the current user may send dead letters of the queue's subscription there. */
static void
check_dead_letter_queue(const char *queue_name, const char *name)
{
	Queue	   *queue = pgn_queue_find(queue_name);
	Queue	   *target = pgn_queue_find(name);

	if (strcmp(queue_name, name) == 0)
		pgn_bad_attribute("a queue cannot be the dead-letter queue of its own subscription", NULL);
	if (target == NULL)
		pgn_unknown(PGN_QUEUE, name);
	pgn_queue_check_owner(target);
	if (queue && queue->attributes.fifo != target->attributes.fifo)
		pgn_bad_attribute("a dead-letter queue must be of the same kind as the subscribed queue",
						  "The dead-letter queue of a FIFO queue is a FIFO queue.");
}

/* Fail unless the options can be those of a subscription. */
static void
check_options(const Topic *topic, const char *queue, const Options *options)
{
	FilterScope scope = pgn_filter_scope(options->filter_scope);

	if (options->filter_policy)
		pgn_filter_free(pgn_filter_compile(options->filter_policy, scope, CurrentMemoryContext));
	check_queue(topic, queue);
	if (options->dead_letter_queue)
		check_dead_letter_queue(queue, options->dead_letter_queue);
}

/* Is the policy empty, or the JSON null? */
static bool
lets_everything_pass(Jsonb *policy)
{
	JsonbValue	scalar;

	return (JB_ROOT_IS_OBJECT(policy) && JB_ROOT_COUNT(policy) == 0) ||
		(JsonbExtractScalar(&policy->root, &scalar) && scalar.type == jbvNull);
}

/*
 * Change options to what the arguments from "first" on say; NULL keeps one.  A
 * policy that is null or empty, and a dead-letter queue without a name, remove
 * it.
 */
static void
apply_options(FunctionCallInfo fcinfo, int first, Options *options)
{
	if (!PG_ARGISNULL(first))
	{
		options->filter_policy = PG_GETARG_JSONB_P(first);
		/* The scope is gone with the policy. */
		if (lets_everything_pass(options->filter_policy))
		{
			options->filter_policy = NULL;
			options->filter_scope = "attributes";
		}
	}
	if (!PG_ARGISNULL(first + 1))
		options->filter_scope = text_to_cstring(PG_GETARG_TEXT_PP(first + 1));
	if (!PG_ARGISNULL(first + 2))
		options->raw_delivery = PG_GETARG_BOOL(first + 2);
	if (!PG_ARGISNULL(first + 3))
	{
		options->dead_letter_queue = text_to_cstring(PG_GETARG_TEXT_PP(first + 3));
		if (options->dead_letter_queue[0] == '\0')
			options->dead_letter_queue = NULL;
	}
}

/* Are two strings, or NULLs, the same? */
static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Fail if the existing subscription is not what the caller wants. */
static void
check_same(const Topic *topic, const Row *existing, const Options *wanted)
{
	const Jsonb *old = existing->options.filter_policy;
	const Jsonb *new = wanted->filter_policy;
	const char *differs = NULL;

	if (!same_text(existing->options.dead_letter_queue, wanted->dead_letter_queue))
		differs = "dead_letter_queue";
	if (existing->options.raw_delivery != wanted->raw_delivery)
		differs = "raw_delivery";
	if (!same_text(existing->options.filter_scope, wanted->filter_scope))
		differs = "filter_scope";
	if (old == NULL || new == NULL ? old != new :
		compareJsonbContainers(unconstify(JsonbContainer *, &old->root),
							   unconstify(JsonbContainer *, &new->root)) != 0)
		differs = "filter_policy";
	if (differs)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("subscription of queue \"%s\" to topic \"%s\" already exists with another %s",
						existing->queue, topic->name, differs),
				 errhint("Change it with pigeon.alter_subscription(%d, ...).", existing->id)));
}

/* May the current user do what the subscription's owner may? */
static bool
owns_subscription(const Row *row)
{
	Oid			owner = get_role_oid(row->owner, true);

	return superuser() || (OidIsValid(owner) && has_privs_of_role(GetUserId(), owner));
}

/* subscribe(topic, queue, filter_policy, filter_scope, raw_delivery, dead_letter_queue) */
Datum
pgn_subscribe(PG_FUNCTION_ARGS)
{
	Options		options = {.filter_scope = "attributes",.raw_delivery = true};
	Oid			types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	Topic	   *topic;
	char	   *queue;
	char	   *user = GetUserNameFromId(GetUserId(), false);
	Row			existing;

	pgn_begin_write("pigeon.subscribe()");
	if (PG_ARGISNULL(0))
		pgn_null_argument("topic");
	if (PG_ARGISNULL(1))
		pgn_null_argument("queue");
	topic = pgn_topic_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), PGN_ACL_SUBSCRIBE, AccessShareLock);
	queue = text_to_cstring(PG_GETARG_TEXT_PP(1));
	apply_options(fcinfo, 2, &options);
	check_options(topic, queue, &options);
	LockRelationOid(pgn_relation("subscription"), ShareRowExclusiveLock);

	values[0] = Int32GetDatum(topic->id);
	values[1] = PG_GETARG_DATUM(1);
	if (read_row("topic_id = $1 AND queue = $2", 2, types, values, &existing))
	{
		/*
		 * Who has the queue now, and cannot alter the subscription, takes it
		 * over as he wants it.
		 */
		if (owns_subscription(&existing))
			check_same(topic, &existing, &options);
		if (strcmp(existing.owner, user) != 0)
			write_row(false, existing.id, topic, queue, user, &options);
		PG_RETURN_INT64(existing.id);
	}
	existing.id = pgn_new_id();
	write_row(true, existing.id, topic, queue, user, &options);
	PG_RETURN_INT64(existing.id);
}

/* The first argument as the number of a subscription; an error if none can have it. */
int32
pgn_subscription_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		pgn_null_argument("subscription_id");
	if (PG_GETARG_INT64(0) < 1 || PG_GETARG_INT64(0) > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("subscription " INT64_FORMAT " does not exist", PG_GETARG_INT64(0))));
	return PG_GETARG_INT64(0);
}

/* Complain that a subscription belongs to somebody else. */
static void
not_owner(const Row *row)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of subscription %d", row->id)));
}

/* Fail unless the current user owns the subscription; return its topic's number. */
int32
pgn_check_subscription_owner(int32 subscription_id)
{
	Row			row = read_subscription(subscription_id);

	if (!owns_subscription(&row))
		not_owner(&row);
	return row.topic_id;
}

/* Fail unless the owner of a subscription may send to its dead-letter queue; else messages would be lost. */
static void
check_dead_letter_right(const Options *options, Oid owner)
{
	Queue	   *queue = options->dead_letter_queue ? pgn_queue_find(options->dead_letter_queue) : NULL;

	if (queue && !pgn_has_right(queue->relid, ACL_INSERT, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the owner of the subscription may not send to queue \"%s\"", queue->name),
				 errhint("Grant \"%s\" the right with pigeon.grant_access().", GetUserNameFromId(owner, false))));
}

/* alter_subscription(subscription_id, filter_policy, filter_scope, raw_delivery, dead_letter_queue) */
Datum
pgn_alter_subscription(PG_FUNCTION_ARGS)
{
	int32		id = pgn_subscription_argument(fcinfo);
	Row			row;
	Topic	   *topic;
	Oid			owner;

	pgn_begin_write("pigeon.alter_subscription()");
	/* Only who may change one can make others wait. */
	(void) pgn_check_subscription_owner(id);
	LockRelationOid(pgn_relation("subscription"), ShareRowExclusiveLock);
	row = read_subscription(id);
	if (!owns_subscription(&row))
		not_owner(&row);
	/* It stays its owner's, if he is still there. */
	owner = get_role_oid(row.owner, true);
	if (!OidIsValid(owner))
		owner = GetUserId();
	topic = pgn_topic_find_by_id(row.topic_id);
	if (topic == NULL)
		elog(ERROR, "topic %d of subscription %d does not exist", row.topic_id, id);
	apply_options(fcinfo, 1, &row.options);
	check_options(topic, row.queue, &row.options);
	check_dead_letter_right(&row.options, owner);
	write_row(false, id, topic, row.queue, GetUserNameFromId(owner, false), &row.options);
	PG_RETURN_VOID();
}

/*
 * Read the subscription with this number, which the current user may end; its
 * topic is NULL if that is gone.  False if there is none.
 */
static bool
read_own_subscription(int32 id, Row *row, Topic **topic)
{
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};

	if (!read_row("id = $1", 1, types, values, row))
		return false;
	*topic = pgn_topic_find_by_id(row->topic_id);
	if (!owns_subscription(row))
	{
		if (*topic == NULL)
			not_owner(row);
		pgn_topic_check_owner(*topic);
	}
	return true;
}

/* unsubscribe(subscription_id) */
Datum
pgn_unsubscribe(PG_FUNCTION_ARGS)
{
	Row			row;
	Topic	   *topic;

	pgn_begin_write("pigeon.unsubscribe()");
	if (PG_GETARG_INT64(0) < 1 || PG_GETARG_INT64(0) > PG_INT32_MAX ||
		!read_own_subscription(PG_GETARG_INT64(0), &row, &topic))
		PG_RETURN_BOOL(false);
	/* Only who may end one can make others wait. */
	LockRelationOid(pgn_relation("subscription"), ShareRowExclusiveLock);
	if (!read_own_subscription(PG_GETARG_INT64(0), &row, &topic))
		PG_RETURN_BOOL(false);
	pgn_forget_subscription(row.id);
	if (topic)
		CacheInvalidateRelcacheByRelid(topic->relid);
	PG_RETURN_BOOL(true);
}
