/*
 * dropped.c
 *		Taking what was dropped out of the registry.
 *
 * drop_queue, drop_topic and unsubscribe do it themselves; for who drops a queue's table or
 * a topic's view by hand, an event trigger does.  A topic takes its
 * subscriptions along; a queue does not, so that it can be dropped and created
 * anew while its subscriptions wait for it; but a FIFO queue takes along its
 * tables of groups and deduplication keys.  So does a queue whose table was
 * renamed or moved away, when another queue takes its name.  Redrives and
 * replays of what was dropped end, unless a step is under way: that one ends
 * its task itself, the next time.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

#include "activity.h"
#include "dropped.h"
#include "owner.h"
#include "queue.h"
#include "task.h"

PG_FUNCTION_INFO_V1(pgn_forget_dropped_tables);

/*
 * Drop the tables of groups and deduplication keys of FIFO queues and topics;
 * "ids" is an array of their numbers.  Others have no such tables: what may
 * bear their names is not ours.
 */
static void
drop_side_tables(Datum ids)
{
	static const char *const prefixes[] = {"g", "d"};
	ArrayIterator iterator = array_create_iterator(DatumGetArrayTypeP(ids), 0, NULL);
	Datum		id;
	bool		isnull;

	while (array_iterate(iterator, &id, &isnull))
	{
		for (int i = 0; i < lengthof(prefixes); i++)
		{
			char	   *name = psprintf("%s_%d", prefixes[i], DatumGetInt32(id));

			if (OidIsValid(pgn_relation(name)))
				pgn_owner_run(psprintf("DROP TABLE pigeon.%s CASCADE", name));
		}
	}
}

/* Run a statement that forgets what has the numbers in the array "ids" and returns those of FIFO queues or topics. */
static void
forget(const char *sql, Datum ids)
{
	Oid			types[] = {INT4ARRAYOID};
	Datum		fifo;
	bool		none;

	(void) pgn_owner_row(sql, 1, types, &ids, 1, &fifo, &none);
	if (!none)
		drop_side_tables(fifo);
	pgn_activity_job(JOB_REGISTRY);
}

/* Forget queues; "ids" is an array of their numbers. */
static void
forget_queues(Datum ids)
{
	forget("WITH attempts AS (DELETE FROM pigeon.receive_attempt WHERE queue_id = ANY ($1)),"
		   " notes AS (DELETE FROM pigeon.processed WHERE queue_id = ANY ($1)),"
		   " queues AS (DELETE FROM pigeon.queue WHERE id = ANY ($1) RETURNING id, fifo)"
		   " SELECT array_agg(id) FROM queues WHERE fifo", ids);
	pgn_tasks_end("redrive_task", "queue_id", ids, "dead-letter queue does not exist any more");
}

/* Forget topics and their subscriptions; "ids" is an array of the topics' numbers. */
static void
forget_topics(Datum ids)
{
	forget("WITH subscriptions AS (DELETE FROM pigeon.subscription WHERE topic_id = ANY ($1)),"
		   " topics AS (DELETE FROM pigeon.topic WHERE id = ANY ($1) RETURNING id, fifo)"
		   " SELECT array_agg(id) FROM topics WHERE fifo", ids);
	pgn_tasks_end("replay_task", "topic_id", ids, "topic does not exist any more");
}

/* An array of one number. */
static Datum
array_of_one(int32 id)
{
	Datum		element = Int32GetDatum(id);

	return PointerGetDatum(construct_array(&element, 1, INT4OID, 4, true, TYPALIGN_INT));
}

/* Forget one queue. */
void
pgn_forget_queue(int32 id)
{
	forget_queues(array_of_one(id));
}

/* Forget one topic. */
void
pgn_forget_topic(int32 id)
{
	forget_topics(array_of_one(id));
}

/* Forget one subscription. */
void
pgn_forget_subscription(int32 id)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(id)};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("DELETE FROM pigeon.subscription WHERE id = $1", 1, types, values, NULL);
	pgn_owner_end(&as_owner);
	pgn_tasks_end("replay_task", "subscription_id", array_of_one(id), "subscription does not exist any more");
}

/* Event trigger on sql_drop. */
Datum
pgn_forget_dropped_tables(PG_FUNCTION_ARGS)
{
	Datum		queues,
				topics;
	bool		no_queues,
				no_topics;

	/* Nothing to do when the extension itself is going. */
	if (!OidIsValid(get_namespace_oid("pigeon", true)) || !OidIsValid(pgn_relation("queue")))
		PG_RETURN_NULL();

	SPI_connect();
	if (SPI_execute("SELECT array_agg(substr(object_name, 3)::integer) FILTER (WHERE object_type = 'table'),"
					" array_agg(substr(object_name, 3)::integer) FILTER (WHERE object_type = 'view')"
					" FROM pg_event_trigger_dropped_objects()"
					" WHERE schema_name = 'pigeon' AND object_name ~"
					" CASE object_type WHEN 'table' THEN '^q_[1-9][0-9]{0,8}$' WHEN 'view' THEN '^t_[1-9][0-9]{0,8}$' END",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the dropped tables");
	queues = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &no_queues);
	topics = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &no_topics);
	if (!no_queues)
		forget_queues(queues);
	if (!no_topics)
		forget_topics(topics);
	SPI_finish();
	PG_RETURN_NULL();
}
