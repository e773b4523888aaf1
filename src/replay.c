/*
 * replay.c
 *		Replay tasks: delivering archived messages again.
 *
 * A replay publishes what a topic's archive has of some time anew, for one
 * subscription: a replayed message has a message_id of its own, and that of
 * the original beside it.  It passes the subscription's filter as it is now,
 * and goes the way of every other message, by the rights of the subscription's
 * owner and to the dead-letter queue if need be.
 *
 * A task is a row in pigeon.replay_task.  Like a redrive task it advances in
 * steps, each in a transaction of its own: the first within the call of
 * replay(), which is all there is for a small archive; the others by
 * maintenance.  The row says how far the task has come, so it goes on after a
 * crash, a restart or a restore.
 *
 * A step delivers what is committed when it passes.  So that nothing is passed
 * that is committed later, a task begins when the transactions that may have
 * published before it was made have ended.  Those that publish later do so
 * after the end of the replayed time, and see the subscription.
 *
 * A task that was restored from a dump has no such transactions to wait for,
 * but for everything it needs; see task.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "activity.h"
#include "archive.h"
#include "arguments.h"
#include "fan_out.h"
#include "message_id.h"
#include "owner.h"
#include "replay.h"
#include "subscription.h"
#include "task.h"
#include "transaction.h"

PG_FUNCTION_INFO_V1(pgn_replay);
PG_FUNCTION_INFO_V1(pgn_cancel_replay);

/* Archived messages that one step looks at, at the most, and how large they may be together. */
#define STEP_MESSAGES 1000
#define STEP_BYTES (16 * 1024 * 1024)

/* A running task. */
typedef struct Task
{
	int64		id;
	int32		subscription_id;
	int32		topic_id;
	TimestampTz to_time;
	int32		max_per_second; /* 0: as fast as it goes */
	TimestampTz position_time;	/* the last message that was looked at */
	int64		position_id;
	int64		replayed;
	int64		filtered_out;
	TimestampTz paid_until;		/* see pgn_task_budget */
	uint64		next_xid;		/* transactions before that may be older than
								 * the task */
	bool		restored;		/* from a dump */
	char	   *failure;		/* why the task cannot go on */
} Task;

/* What one step has read. */
typedef struct Batch
{
	Message    *messages;		/* those to deliver */
	int			n;
	int			looked_at;
	int64		bytes;
} Batch;

/* Read a running task and lock it; false if it is not running or in work. */
static bool
read_task(int64 task_id, Task *task)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(task_id)};
	Datum		row[11];
	bool		isnull[11];

	if (!pgn_owner_row("SELECT subscription_id, topic_id, to_time, coalesce(max_per_second, 0), position_time,"
					   " position_id, replayed, filtered_out, paid_until, next_xid, origin"
					   " FROM pigeon.replay_task WHERE id = $1 AND status = 'RUNNING'"
					   " FOR UPDATE SKIP LOCKED", 1, types, values, lengthof(row), row, isnull))
		return false;
	*task = (Task)
	{
		.id = task_id,
			.subscription_id = DatumGetInt32(row[0]),
			.topic_id = DatumGetInt32(row[1]),
			.to_time = DatumGetTimestampTz(row[2]),
			.max_per_second = DatumGetInt32(row[3]),
			.position_time = DatumGetTimestampTz(row[4]),
			.position_id = DatumGetInt64(row[5]),
			.replayed = DatumGetInt64(row[6]),
			.filtered_out = DatumGetInt64(row[7]),
			.paid_until = DatumGetTimestampTz(row[8]),
			.next_xid = U64FromFullTransactionId(DatumGetFullTransactionId(row[9])),
			.restored = DatumGetInt64(row[10]) != pgn_task_origin()
	};
	return true;
}

/* Write how far a task has come, if that is news. */
static void
write_task(const Task *task, const char *status)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8OID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT8OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {
		Int64GetDatum(task->id), CStringGetTextDatum(status), TimestampTzGetDatum(task->position_time),
		Int64GetDatum(task->position_id), Int64GetDatum(task->replayed), Int64GetDatum(task->filtered_out),
		task->failure ? CStringGetTextDatum(task->failure) : (Datum) 0,
		TimestampTzGetDatum(task->paid_until)
	};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("UPDATE pigeon.replay_task SET status = $2, position_time = $3, position_id = $4,"
					  " replayed = $5, filtered_out = $6, failure_reason = $7, paid_until = $8,"
					  " finished_at = CASE WHEN $2 = 'RUNNING' THEN NULL ELSE clock_timestamp() END"
					  " WHERE id = $1 AND (status, position_time, position_id, replayed, filtered_out, failure_reason)"
					  " IS DISTINCT FROM ($2, $3, $4, $5, $6, $7)",
					  lengthof(types), types, values, task->failure ? NULL : "      n ");
	pgn_owner_end(&as_owner);
}

/* A column of an archived row, copied; NULL if it is null. */
static void *
column(TupleTableSlot *slot, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, attnum, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

/* The message to publish anew. */
static Message
message_of_slot(TupleTableSlot *slot)
{
	Message		message = {0};
	bool		isnull;

	message.body = column(slot, Anum_archive_body);
	message.subject = column(slot, Anum_archive_subject);
	message.attributes = column(slot, Anum_archive_attributes);
	message.group_id = column(slot, Anum_archive_group_id);
	message.deduplication_id = column(slot, Anum_archive_deduplication_id);
	message.replayed_message_id = DatumGetInt64(slot_getattr(slot, Anum_archive_message_id, &isnull));
	message.published_at = DatumGetTimestampTz(slot_getattr(slot, Anum_archive_published_at, &isnull));
	message.sender = palloc(sizeof(NameData));
	namestrcpy(message.sender, NameStr(*DatumGetName(slot_getattr(slot, Anum_archive_publisher, &isnull))));
	message.size = VARSIZE_ANY_EXHDR(message.body) + pgn_attributes_size(message.attributes);
	return message;
}

/* Does the message pass the subscription's filter? */
static bool
passes(const Subscription *subscription, const Message *message, MemoryContext context)
{
	bool		passes;

	if (subscription->filter_policy == NULL)
		return true;
	passes = pgn_filter_match(subscription->filter_policy,
							  pgn_filter_input(message->attributes, VARDATA_ANY(message->body),
											   VARSIZE_ANY_EXHDR(message->body), context)) == PGN_FILTER_MATCHED;
	MemoryContextReset(context);
	return passes;
}

/*
 * Has the message what the topic needs of groups?  An archive is a table of
 * the topic's owner, so there may be anything in it.
 */
static bool
has_group(const Topic *topic, const Message *message)
{
	const text *group = message->group_id;

	return !topic->attributes.fifo ||
		(group != NULL && pgn_is_id(VARDATA_ANY(group), VARSIZE_ANY_EXHDR(group)));
}

/* Read the next messages; advances the task.  True if there may be more. */
static bool
read_batch(Task *task, const Topic *topic, const Subscription *subscription, Batch *batch)
{
	int			budget = pgn_task_budget(&task->paid_until, task->max_per_second, STEP_MESSAGES);
	MemoryContext match_context = AllocSetContextCreate(CurrentMemoryContext, "pigeon filter input",
														ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ArchiveScan scan;
	TupleTableSlot *slot = NULL;

	batch->messages = palloc(STEP_MESSAGES * sizeof(Message));
	pgn_archive_scan_begin(&scan, topic, task->position_time, snapshot);
	while (batch->n < budget && batch->looked_at < STEP_MESSAGES && batch->bytes < STEP_BYTES &&
		   (slot = pgn_archive_scan_next(&scan)) != NULL)
	{
		bool		isnull;
		TimestampTz time = DatumGetTimestampTz(slot_getattr(slot, Anum_archive_published_at, &isnull));
		int64		id = DatumGetInt64(slot_getattr(slot, Anum_archive_message_id, &isnull));
		Message		message;

		CHECK_FOR_INTERRUPTS();
		if (time == task->position_time && id <= task->position_id)
			continue;
		if (time > task->to_time)
		{
			slot = NULL;
			break;
		}
		message = message_of_slot(slot);
		if (!has_group(topic, &message))
		{
			task->failure = psprintf("message " INT64_FORMAT " was archived without a message group", id);
			break;
		}
		if (passes(subscription, &message, match_context))
		{
			batch->messages[batch->n++] = message;
			batch->bytes += message.size;
		}
		else
			task->filtered_out++;
		batch->looked_at++;
		task->position_time = time;
		task->position_id = id;
	}
	pgn_archive_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(match_context);
	task->replayed += batch->n;
	pgn_task_pay(&task->paid_until, task->max_per_second, batch->n);
	return slot != NULL || budget == 0;
}

/* The task's subscription, in the topic's cache; NULL if it has ended. */
static const Subscription *
find_subscription(const Topic *topic, int32 id)
{
	for (int i = 0; i < topic->nsubscriptions; i++)
		if (topic->subscriptions[i].id == id)
			return &topic->subscriptions[i];
	return NULL;
}

/* Deliver messages to the subscription; they have passed its filter. */
static void
deliver(Topic *topic, Subscription subscription, Batch *batch)
{
	FanOut	   *out;

	subscription.filter_policy = NULL;
	out = pgn_fan_out_begin(topic, &subscription, 1, batch->messages, batch->n);
	pgn_number_messages(batch->messages, batch->n);
	pgn_fan_out(out, batch->messages, batch->n, GetCurrentTimestamp());
	pgn_fan_out_end(out);
}

/*
 * May a transaction be open that published to the topic before the task was
 * made?  It has a lock on the topic, and one of the older numbers.
 */
static bool
publishers_open(const Task *task, const Topic *topic)
{
	LOCKTAG		tag;
	int			n;

	if (task->restored || task->position_id != 0)
		return false;
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, topic->relid);
	(void) GetLockConflicts(&tag, ShareLock, &n);
	return n > 0 && pgn_oldest_running_xid() < task->next_xid;
}

/* Has any message a number yet?  In a dump that is being restored the sequence comes after the tables. */
static bool
any_message_number(void)
{
	return pgn_owner_row("SELECT FROM pigeon.message_id_seq WHERE is_called", 0, NULL, NULL, 0, NULL, NULL);
}

/* What keeps a task from going on; finds its subscription.  NULL if nothing does. */
static char *
find_obstacle(const Task *task, Topic *topic, const Subscription **subscription)
{
	if (topic == NULL)
		return "topic does not exist any more";
	*subscription = find_subscription(topic, task->subscription_id);
	if (*subscription == NULL)
		return "subscription does not exist any more";
	if (topic->attributes.archive_retention == 0)
		return "topic has no archive any more";
	if (task->restored && !any_message_number())
		return "the sequence of message numbers is not restored yet";

	/*
	 * A message that the subscriber cannot get would be lost, or a dead
	 * letter, which it need not be while a dump is being restored.
	 */
	if ((task->restored || (*subscription)->dead_letter_queue == NULL) &&
		!pgn_fan_out_reaches(topic, *subscription, task->restored))
		return "the owner of the subscription cannot get messages to its queue";
	return NULL;
}

/*
 * Advance a task by one step.  True if another step can follow right away;
 * false if the task has ended, or has to wait for its rate, for publishers,
 * for somebody who changes the topic, or for the rest of a dump.
 */
bool
pgn_replay_step(int64 task_id)
{
	Task		task;
	Batch		batch = {0};
	Topic	   *topic;
	const Subscription *subscription = NULL;
	bool		more = false;

	if (!read_task(task_id, &task))
		return false;
	topic = pgn_topic_find_by_id(task.topic_id);
	if (topic != NULL && !pgn_topic_lock_now(topic, RowExclusiveLock))
		return false;
	task.failure = find_obstacle(&task, topic, &subscription);
	if (task.failure == NULL)
	{
		if (publishers_open(&task, topic))
			return false;
		more = read_batch(&task, topic, subscription, &batch);
		if (batch.n > 0)
			deliver(topic, *subscription, &batch);
	}
	write_task(&task, pgn_task_status(task.restored, task.failure != NULL, more));
	return more && (batch.looked_at == STEP_MESSAGES || batch.bytes >= STEP_BYTES);
}

/* The topic that has the archive, locked. */
static Topic *
open_archive(int32 topic_id)
{
	Topic	   *topic;

	do
		topic = pgn_topic_find_by_id(topic_id);
	while (topic != NULL && !pgn_topic_lock(topic, RowExclusiveLock));
	if (topic == NULL)
		elog(ERROR, "topic %d does not exist", topic_id);
	pgn_topic_check_rights(topic, PGN_ACL_SUBSCRIBE, GetUserId());
	if (topic->attributes.archive_retention == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" has no archive", topic->name),
				 errhint("Set archive_retention with pigeon.alter_topic().")));
	return topic;
}

/* The arguments of replay that say what is to be replayed, checked. */
static TimestampTz
to_time_argument(FunctionCallInfo fcinfo)
{
	TimestampTz to_time = PG_ARGISNULL(2) ? GetCurrentTimestamp() : PG_GETARG_TIMESTAMPTZ(2);

	if (PG_ARGISNULL(1))
		pgn_null_argument("from_time");
	if (to_time < PG_GETARG_TIMESTAMPTZ(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_time must not be before from_time")));
	return to_time;
}

/* replay(subscription_id, from_time, to_time, max_per_second) */
Datum
pgn_replay(PG_FUNCTION_ARGS)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, NAMEOID, XID8OID,
	INT8OID};
	Datum		values[lengthof(types)];
	NameData	role;
	int32		subscription_id;
	int64		task_id;

	pgn_begin_write("pigeon.replay()");
	subscription_id = pgn_subscription_argument(fcinfo);
	values[1] = Int32GetDatum(subscription_id);
	values[4] = TimestampTzGetDatum(to_time_argument(fcinfo));
	values[3] = PG_GETARG_DATUM(1);
	values[5] = PG_ARGISNULL(3) ? (Datum) 0 : PG_GETARG_DATUM(3);
	if (!PG_ARGISNULL(3) && PG_GETARG_INT32(3) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_per_second must be at least 1")));
	values[2] = Int32GetDatum(open_archive(pgn_check_subscription_owner(subscription_id))->id);

	task_id = nextval_internal(pgn_relation("replay_task_id_seq"), false);
	values[0] = Int64GetDatum(task_id);
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	values[6] = NameGetDatum(&role);
	values[7] = FullTransactionIdGetDatum(ReadNextFullTransactionId());
	values[8] = Int64GetDatum(pgn_task_origin());
	pgn_owner_begin(&as_owner);
	pgn_owner_execute("INSERT INTO pigeon.replay_task (id, subscription_id, topic_id, from_time, to_time,"
					  " max_per_second, started_by, position_time, position_id, status, started_at, next_xid, origin, paid_until)"
					  " VALUES ($1, $2, $3, $4, $5, $6, $7, $4, 0, 'RUNNING', clock_timestamp(), $8, $9, clock_timestamp() - interval '1 s')"
					  " ON CONFLICT DO NOTHING",
					  lengthof(types), types, values, PG_ARGISNULL(3) ? "     n   " : NULL);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a replay task of subscription %d is already running", subscription_id),
				 errhint("Wait for it, or stop it with pigeon.cancel_replay().")));
	pgn_tasks_forget("replay_task", "subscription_id", subscription_id);
	pgn_owner_end(&as_owner);
	CommandCounterIncrement();
	(void) pgn_replay_step(task_id);
	pgn_activity_job(JOB_REPLAY);
	PG_RETURN_INT64(task_id);
}

/* cancel_replay(task_id) */
Datum
pgn_cancel_replay(PG_FUNCTION_ARGS)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8OID, NAMEOID};
	NameData	role;
	Datum		values[] = {PG_GETARG_DATUM(0), NameGetDatum(&role)};
	Datum		row[4];
	bool		isnull[4];

	pgn_begin_write("pigeon.cancel_replay()");
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	if (!pgn_owner_row("SELECT subscription_id, status = 'RUNNING', replayed,"
					   " EXISTS (SELECT FROM pg_roles r WHERE r.rolname = started_by AND pg_has_role($2, r.oid, 'USAGE'))"
					   " FROM pigeon.replay_task WHERE id = $1 FOR UPDATE",
					   lengthof(types), types, values, lengthof(row), row, isnull))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("replay task " INT64_FORMAT " does not exist", PG_GETARG_INT64(0))));
	if (!DatumGetBool(row[1]))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replay task " INT64_FORMAT " is not running", PG_GETARG_INT64(0))));
	if (!DatumGetBool(row[3]) && !superuser())
		(void) pgn_check_subscription_owner(DatumGetInt32(row[0]));
	pgn_owner_begin(&as_owner);
	pgn_owner_execute("UPDATE pigeon.replay_task SET status = 'CANCELLED', finished_at = clock_timestamp()"
					  " WHERE id = $1", 1, types, values, NULL);
	pgn_owner_end(&as_owner);
	PG_RETURN_INT64(DatumGetInt64(row[2]));
}
