/*
 * publish_trigger.c
 *		INSERT into a topic's view publishes.
 *
 * The view has two triggers with this one function: INSTEAD OF INSERT for each
 * row, which checks and numbers a message and keeps it, and AFTER INSERT for
 * each statement, which publishes what was kept, so that a bulk INSERT or COPY
 * runs at the speed of publish_batch.  What was kept is also published
 * whenever there is much of it.
 *
 * What is kept must never be forgotten, nor published by somebody whose
 * rollback would lose it.  So:
 *
 *	- It is kept for the subtransaction it belongs to.  While a statement
 *	  inserts, a function that it calls may insert into the same topic; the
 *	  end of that inner statement may publish what the outer one has inserted
 *	  so far, but not if the inner one runs in a subtransaction of its own.
 *
 *	- If the statement trigger is missing, each row is published at once.
 *	  (Triggers of views cannot be disabled.)
 *
 *	- It lives as long as the executor state of the statement that started it
 *	  (the memory context of the trigger's FmgrInfo): a statement that fails
 *	  takes it along.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "archive.h"
#include "arguments.h"
#include "message_id.h"
#include "publish.h"
#include "table.h"

PG_FUNCTION_INFO_V1(pgn_publish_rows);

/* How much is kept before it is published. */
#define MAX_KEPT_MESSAGES 1000
#define MAX_KEPT_BYTES (4 * 1024 * 1024)

/* What statements of one subtransaction have inserted into one topic. */
typedef struct Kept
{
	struct Kept *next;
	Oid			relid;			/* the topic's view */
	SubTransactionId subtransaction;
	TimestampTz time;			/* of the first message */
	MemoryContext context;		/* of this structure */
	MemoryContext messages_context; /* of what the messages point to */
	int			n;
	int64		bytes;
	Message		messages[MAX_KEPT_MESSAGES];
} Kept;

static Kept *kept_list = NULL;

/* Memory context callback: the statement has ended, one way or another. */
static void
forget(void *arg)
{
	for (Kept **p = &kept_list; *p; p = &(*p)->next)
	{
		if (*p == arg)
		{
			*p = (*p)->next;
			return;
		}
	}
}

/* What this subtransaction keeps for a topic, NULL if nothing. */
static Kept *
find_kept(Oid relid)
{
	SubTransactionId subtransaction = GetCurrentSubTransactionId();

	for (Kept *kept = kept_list; kept; kept = kept->next)
		if (kept->relid == relid && kept->subtransaction == subtransaction)
			return kept;
	return NULL;
}

/* Begin to keep messages for a topic, for as long as "parent" lives. */
static Kept *
begin_keeping(Oid relid, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "pigeon inserted messages",
												  ALLOCSET_DEFAULT_SIZES);
	Kept	   *kept = MemoryContextAlloc(context, sizeof(Kept));
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	kept->relid = relid;
	kept->subtransaction = GetCurrentSubTransactionId();
	kept->context = context;
	kept->messages_context = AllocSetContextCreate(context, "pigeon inserted messages data",
												   ALLOCSET_DEFAULT_SIZES);
	kept->n = 0;
	kept->bytes = 0;
	kept->next = kept_list;
	kept_list = kept;
	callback->func = forget;
	callback->arg = kept;
	MemoryContextRegisterResetCallback(context, callback);
	return kept;
}

/* The topic of a view, locked by the statement that inserts into it. */
static Topic *
topic_of_view(Relation rel)
{
	Topic	   *topic;

	pgn_topic_begin_publish();
	topic = pgn_topic_find_by_relid(RelationGetRelid(rel));
	if (topic == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is not the view of a topic", RelationGetRelationName(rel)),
				 errhint("Create topics with pigeon.create_topic().")));
	return topic;
}

/* Publish what is kept. */
static void
publish_kept(Kept *kept, Topic *topic)
{
	int			n = kept->n;

	kept->n = 0;
	kept->bytes = 0;
	(void) pgn_publish_messages(topic, kept->messages, n, kept->time);
	MemoryContextReset(kept->messages_context);
}

/* Does the statement trigger run at the end of the statement? */
static bool
ends_with_statement_trigger(const TriggerData *trigger)
{
	TriggerDesc *triggers = trigger->tg_relation->trigdesc;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *t = &triggers->triggers[i];

		if (t->tgfoid == trigger->tg_trigger->tgfoid && TRIGGER_FOR_AFTER(t->tgtype) &&
			!TRIGGER_FOR_ROW(t->tgtype) && TRIGGER_FOR_INSERT(t->tgtype) && t->tgqual == NULL)
			return true;
	}
	return false;
}

/* A column of the inserted row as a pointer, NULL if it is null. */
static void *
column(HeapTuple tuple, TupleDesc desc, AttrNumber attnum)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, desc, &isnull);

	return isnull ? NULL : PG_DETOAST_DATUM_COPY(value);
}

/* The message that is inserted. */
static Message
message_of_row(HeapTuple tuple, TupleDesc desc)
{
	Message		message = {0};

	for (AttrNumber attnum = Anum_archive_message_id; attnum <= Natts_archive; attnum++)
		if (!heap_attisnull(tuple, attnum, NULL))
			ereport(ERROR,
					(errcode(ERRCODE_GENERATED_ALWAYS),
					 errmsg("cannot insert a value into column \"%s\"",
							NameStr(TupleDescAttr(desc, attnum - 1)->attname)),
					 errdetail("The topic gives the column its value.")));
	message.body = column(tuple, desc, Anum_archive_body);
	if (message.body == NULL)
		pgn_null_argument("message body");
	message.subject = column(tuple, desc, Anum_archive_subject);
	message.attributes = column(tuple, desc, Anum_archive_attributes);
	message.group_id = column(tuple, desc, Anum_archive_group_id);
	message.deduplication_id = column(tuple, desc, Anum_archive_deduplication_id);
	message.sender = palloc(sizeof(NameData));
	namestrcpy(message.sender, GetUserNameFromId(GetUserId(), false));
	return message;
}

/* The row as INSERT ... RETURNING shows it. */
static HeapTuple
row_of_message(HeapTuple tuple, TupleDesc desc, const Message *message, TimestampTz time)
{
	int			columns[] = {Anum_archive_message_id, Anum_archive_published_at, Anum_archive_publisher};
	Datum		values[] = {Int64GetDatum(message->message_id), TimestampTzGetDatum(time),
	NameGetDatum(message->sender)};
	bool		isnull[lengthof(columns)] = {0};

	return heap_modify_tuple_by_cols(tuple, desc, lengthof(columns), columns, values, isnull);
}

/* Publish one message now; the row to return. */
static HeapTuple
publish_row(const TriggerData *trigger, Topic *topic)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Message		message = message_of_row(trigger->tg_trigtuple, desc);
	TimestampTz time;

	pgn_check_publish(topic, &message);
	time = pgn_publish_messages(topic, &message, 1, 0);
	return row_of_message(trigger->tg_trigtuple, desc, &message, time);
}

/* Keep one message, for as long as the statement lasts at the most; the row to return. */
static HeapTuple
keep_row(const TriggerData *trigger, Topic *topic, MemoryContext statement_context)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	Kept	   *kept = find_kept(topic->relid);
	MemoryContext old;
	Message    *message;
	HeapTuple	row;

	if (kept == NULL)
		kept = begin_keeping(topic->relid, statement_context);
	if (kept->n == 0)
		kept->time = GetCurrentTimestamp();

	message = &kept->messages[kept->n];
	old = MemoryContextSwitchTo(kept->messages_context);
	*message = message_of_row(trigger->tg_trigtuple, desc);
	pgn_check_publish(topic, message);
	message->message_id = pgn_take_message_id();
	MemoryContextSwitchTo(old);
	row = row_of_message(trigger->tg_trigtuple, desc, message, kept->time);

	kept->n++;
	kept->bytes += message->size;
	if (kept->n == MAX_KEPT_MESSAGES || kept->bytes >= MAX_KEPT_BYTES)
		publish_kept(kept, topic);
	return row;
}

/* INSTEAD OF INSERT: a FIFO topic has its duplicates found at once. */
static HeapTuple
insert_row(const TriggerData *trigger, MemoryContext statement_context)
{
	Topic	   *topic = topic_of_view(trigger->tg_relation);

	pgn_archive_check_view(trigger->tg_relation);
	if (topic->attributes.fifo || !ends_with_statement_trigger(trigger))
		return publish_row(trigger, topic);
	return keep_row(trigger, topic, statement_context);
}

/* The trigger function of both triggers. */
Datum
pgn_publish_rows(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "publish_rows")));
	if (TRIGGER_FIRED_INSTEAD(trigger->tg_event) && TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		PG_RETURN_POINTER(insert_row(trigger, fcinfo->flinfo->fn_mcxt));
	if (TRIGGER_FIRED_AFTER(trigger->tg_event) && TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
	{
		Kept	   *kept = find_kept(RelationGetRelid(trigger->tg_relation));

		if (kept && kept->n > 0)
			publish_kept(kept, topic_of_view(trigger->tg_relation));
		PG_RETURN_POINTER(NULL);
	}
	ereport(ERROR,
			(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			 errmsg("function \"%s\" must be fired by the triggers of a topic's view", "publish_rows")));
}
