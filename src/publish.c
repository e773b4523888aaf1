/*
 * publish.c
 *		publish and publish_batch.
 *
 * Everything is checked before anything is written: a batch is accepted or
 * refused whole.  What subscribers then do not take is no concern of the
 * publisher; see fan_out.c.  The third way to publish, INSERT into the topic's
 * view, is in publish_trigger.c.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "archive.h"
#include "arguments.h"
#include "deduplication.h"
#include "fan_out.h"
#include "message_id.h"
#include "publish.h"
#include "table.h"

PG_FUNCTION_INFO_V1(pgn_publish);
PG_FUNCTION_INFO_V1(pgn_publish_jsonb);
PG_FUNCTION_INFO_V1(pgn_publish_batch);
PG_FUNCTION_INFO_V1(pgn_publish_batch_jsonb);

#define MAX_SUBJECT 100

/* The protocol of our subscribers, by which a message structure addresses them. */
#define PROTOCOL "sqs"

/*
 * Does a control character or line break begin here, or (in UTF-8) what no
 * message may have: U+0080 to U+009F, U+2028, U+2029, U+FFFE, U+FFFF?
 */
static bool
is_control(const char *text, int len)
{
	const unsigned char *p = (const unsigned char *) text;

	if (*p < ' ' || *p == 0x7F)
		return true;
	if (GetDatabaseEncoding() != PG_UTF8)
		return false;
	return (len >= 2 && p[0] == 0xC2 && p[1] < 0xA0) ||
		(len >= 3 && p[0] == 0xE2 && p[1] == 0x80 && (p[2] == 0xA8 || p[2] == 0xA9)) ||
		(len >= 3 && p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE);
}

/* Fail unless the text can be the subject of a message. */
static void
check_subject(const text *subject)
{
	const char *p = VARDATA_ANY(subject);
	int			len = VARSIZE_ANY_EXHDR(subject);
	int			chars = pg_mbstrlen_with_len(p, len);
	bool		good = chars > 0 && chars <= MAX_SUBJECT;

	for (int i = 0; good && i < len; i += pg_mblen(&p[i]))
		good = !is_control(&p[i], len - i);
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid subject"),
				 errdetail("It must have 1 to %d characters, no line breaks and no control characters.",
						   MAX_SUBJECT)));
}

/* Fail unless the message has what the topic needs of groups and deduplication. */
static void
check_ids(const Topic *topic, const Message *message)
{
	const TopicAttributes *a = &topic->attributes;

	if (message->group_id)
		pgn_check_id(message->group_id, "group_id");
	else if (a->fifo)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" is a FIFO topic and needs a group_id", topic->name),
				 errhint("Messages of one group are received in the order in which they were published.")));
	if (message->deduplication_id)
	{
		pgn_check_id(message->deduplication_id, "deduplication_id");
		if (!a->fifo)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("topic \"%s\" is not a FIFO topic and takes no deduplication_id", topic->name)));
	}
	else if (a->fifo && !a->content_based_deduplication)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("topic \"%s\" needs a deduplication_id", topic->name),
				 errhint("Pass one, or set content_based_deduplication with pigeon.alter_topic().")));
}

/* Fail unless the topic can take the message.  Fills in its size. */
void
pgn_check_publish(const Topic *topic, Message *message)
{
	pgn_check_body(message->body);
	message->size = VARSIZE_ANY_EXHDR(message->body) + pgn_attributes_size(message->attributes);
	pgn_check_size(message->size, topic->attributes.max_message_size, topic->name);
	if (message->subject)
		check_subject(message->subject);
	check_ids(topic, message);
}

/* Archive and deliver messages that are numbered. */
static void
publish_numbered(Topic *topic, FanOut *out, Message *messages, int n, TimestampTz now)
{
	for (int i = 0; i < n; i++)
		pgn_activity_count(&topic->queue, COUNT_SENT_BYTES, messages[i].size);
	pgn_activity_count(&topic->queue, COUNT_SENT, n);
	if (topic->attributes.archive_retention > 0 && n > 0)
		pgn_archive_append(topic, messages, n, now);
	pgn_fan_out(out, messages, n, now);
}

/*
 * Prepare for delivering messages, and decide when they count as published
 * ("time", unless that is given): with the groups locked, so that times of a
 * group rise too.  Who has subscribed by that time gets them, also if we had
 * to wait for locks: a replay brings him what was published until then only.
 */
static FanOut *
begin_fan_out(Topic **topic, const Message *messages, int n, TimestampTz *time)
{
	bool		now = *time == 0 || (*topic)->attributes.fifo;

	for (;;)
	{
		Oid			relid = (*topic)->relid;
		FanOut	   *out = pgn_fan_out_begin(*topic, (*topic)->subscriptions, (*topic)->nsubscriptions, messages, n);

		if (now)
			*time = GetCurrentTimestamp();
		AcceptInvalidationMessages();
		if ((*topic)->valid)
			return out;
		pgn_fan_out_end(out);
		*topic = pgn_topic_find_by_relid(relid);
		if (*topic == NULL)
			elog(ERROR, "topic with view %u does not exist", relid);
	}
}

/*
 * Publish messages, already checked, to a topic that is locked.  Gives each
 * its message_id; those of a standard topic may have one already.  A duplicate
 * in a FIFO topic gets the message_id of the message it repeats.  "time" is
 * when messages of a standard topic count as published, or 0 for now; the time
 * that it came to is returned.
 */
TimestampTz
pgn_publish_messages(Topic *topic, Message *messages, int n, TimestampTz time)
{
	FanOut	   *out;

	PreventCommandIfReadOnly("publishing");
	out = begin_fan_out(&topic, messages, n, &time);
	if (topic->attributes.fifo)
	{
		Message    *fresh = palloc(n * sizeof(Message));
		int			nfresh = pgn_deduplicate(&topic->queue, messages, n, time, fresh);

		pgn_activity_count(&topic->queue, COUNT_DEDUPLICATED, n - nfresh);
		publish_numbered(topic, out, fresh, nfresh, time);
		pfree(fresh);
	}
	else
	{
		pgn_number_messages(messages, n);
		publish_numbered(topic, out, messages, n, time);
	}
	pgn_fan_out_end(out);
	return time;
}

/* The topic named by the first argument, ready for publishing. */
static Topic *
open_topic(FunctionCallInfo fcinfo)
{
	pgn_begin_write("pigeon.publish()");
	if (PG_ARGISNULL(0))
		pgn_null_argument("topic");
	pgn_topic_begin_publish();
	return pgn_topic_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), PGN_ACL_PUBLISH, RowExclusiveLock);
}

/* Does the argument say that bodies hold one text for each protocol? */
static bool
message_structure(FunctionCallInfo fcinfo, int argno)
{
	char	   *structure;

	if (PG_ARGISNULL(argno))
		return false;
	structure = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(structure, "json") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid message_structure \"%s\"", structure),
				 errhint("It is \"json\" or not given.")));
	return true;
}

/* A member of an object, if it is there and a string. */
static JsonbValue *
string_member(Jsonb *object, const char *key)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&object->root, key, strlen(key), NULL);

	return value != NULL && value->type == jbvString ? value : NULL;
}

/*
 * The text for our subscribers in a body that has one for each protocol: that
 * of the key "sqs" if it is a string, otherwise that of "default".
 */
static text *
body_of_structure(Jsonb *structure)
{
	JsonbValue *otherwise = JB_ROOT_IS_OBJECT(structure) ? string_member(structure, "default") : NULL;
	JsonbValue *value;

	if (otherwise == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid message structure"),
				 errdetail("The body must be a JSON object with a string \"default\".")));
	value = string_member(structure, PROTOCOL);
	if (value == NULL)
		value = otherwise;
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

/* A body as it was given, as the text to publish. */
static text *
make_body(Datum body, bool is_jsonb, bool is_structure)
{
	if (is_structure && !is_jsonb)
		body = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(body)));
	if (is_structure)
		return body_of_structure(DatumGetJsonbP(body));
	return is_jsonb ? pgn_jsonb_body(DatumGetJsonbP(body)) : DatumGetTextPP(body);
}

/* publish(topic, body, subject, attributes, group_id, deduplication_id, message_structure) */
static Datum
publish_one(FunctionCallInfo fcinfo, bool is_jsonb)
{
	Topic	   *topic = open_topic(fcinfo);
	Message		message = {0};

	if (PG_ARGISNULL(1))
		pgn_null_argument("body");
	message.body = make_body(PG_GETARG_DATUM(1), is_jsonb, message_structure(fcinfo, 6));
	message.subject = PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2);
	message.attributes = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	message.group_id = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	message.deduplication_id = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	pgn_check_publish(topic, &message);
	(void) pgn_publish_messages(topic, &message, 1, 0);
	PG_RETURN_INT64(message.message_id);
}

/* publish(topic, body text, ...) */
Datum
pgn_publish(PG_FUNCTION_ARGS)
{
	return publish_one(fcinfo, false);
}

/* publish(topic, body jsonb, ...) */
Datum
pgn_publish_jsonb(PG_FUNCTION_ARGS)
{
	return publish_one(fcinfo, true);
}

/* publish_batch(topic, bodies, subjects, attributes, group_ids, deduplication_ids, message_structure) */
static void
publish_batch(FunctionCallInfo fcinfo, bool is_jsonb)
{
	Topic	   *topic = open_topic(fcinfo);
	bool		is_structure = message_structure(fcinfo, 6);
	static const MessageArguments where = {
		.bodies = 1,.subjects = 2,.attributes = 3,.group_ids = 4,.deduplication_ids = 5
	};
	Datum	   *bodies;
	int			n;
	Message    *messages = pgn_messages_argument(fcinfo, &where, &bodies, &n);

	for (int i = 0; i < n; i++)
	{
		messages[i].body = make_body(bodies[i], is_jsonb, is_structure);
		pgn_check_publish(topic, &messages[i]);
	}
	if (n > 0)
		(void) pgn_publish_messages(topic, messages, n, 0);
	pgn_return_message_ids(fcinfo, messages, n);
}

/* publish_batch(topic, bodies text[], ...) */
Datum
pgn_publish_batch(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
		publish_batch(fcinfo, false);
	return pgn_next_message_id(fcinfo);
}

/* publish_batch(topic, bodies jsonb[], ...) */
Datum
pgn_publish_batch_jsonb(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
		publish_batch(fcinfo, true);
	return pgn_next_message_id(fcinfo);
}
