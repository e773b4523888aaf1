/*
 * envelope.c
 *		The envelope in which a topic's messages come if delivery is not raw.
 *
 * It is the JSON document that SNS puts around a message: Type, MessageId,
 * TopicArn (the topic's name), Subject, Message, Timestamp, MessageAttributes,
 * and SequenceNumber for a FIFO queue.  A replayed message has the MessageId
 * of the original, and says that it was Replayed.  There are no signature
 * fields; what comes out of the database needs none.
 *
 * It is rendered at receive from the log row, which all subscribers share, so
 * it costs nothing to store.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "envelope.h"
#include "json_out.h"

/* Append a member of the document, a string from a column of the log. */
static void
append_column(StringInfo json, const char *name, const LogEntry *entry, AttrNumber attnum)
{
	text	   *value;

	if (entry->isnull[attnum - 1])
		return;
	value = DatumGetTextPP(entry->values[attnum - 1]);
	appendStringInfo(json, ", \"%s\": ", name);
	pgn_json_text(json, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
}

/* Append the type and the value of an attribute. */
static void
append_attribute(StringInfo json, JsonbValue *value)
{
	JsonbValue *binary;

	switch (value->type)
	{
		case jbvString:
			appendStringInfoString(json, "{\"Type\": \"String\", \"Value\": ");
			pgn_json_text(json, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			appendStringInfo(json, "{\"Type\": \"Number\", \"Value\": \"%s\"",
							 DatumGetCString(DirectFunctionCall1(numeric_out,
																 NumericGetDatum(value->val.numeric))));
			break;
		default:
			Assert(value->type == jbvBinary);
			if (JsonContainerIsArray(value->val.binary.data))
			{
				appendStringInfoString(json, "{\"Type\": \"String.Array\", \"Value\": ");
				escape_json(json, JsonbToCString(NULL, value->val.binary.data, value->val.binary.len));
				break;
			}
			binary = getKeyJsonValueFromContainer(value->val.binary.data, "binary", strlen("binary"), NULL);
			appendStringInfoString(json, "{\"Type\": \"Binary\", \"Value\": ");
			pgn_json_text(json, binary->val.string.val, binary->val.string.len);
	}
	appendStringInfoChar(json, '}');
}

/* Append the member with the message's attributes, if it has any. */
static void
append_attributes(StringInfo json, Jsonb *attributes)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		first = true;

	if (JB_ROOT_COUNT(attributes) == 0)
		return;
	appendStringInfoString(json, ", \"MessageAttributes\": {");
	it = JsonbIteratorInit(&attributes->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			if (!first)
				appendStringInfoString(json, ", ");
			first = false;
			pgn_json_text(json, value.val.string.val, value.val.string.len);
			appendStringInfoString(json, ": ");
		}
		else if (token == WJB_VALUE)
			append_attribute(json, &value);
	}
	appendStringInfoChar(json, '}');
}

/* The envelope of a message, as the body of a message. */
text *
pgn_envelope(const LogEntry *entry, bool fifo)
{
	int64		message_id = DatumGetInt64(entry->values[Anum_log_message_id - 1]);
	bool		replayed = !entry->isnull[Anum_log_replayed_message_id - 1];
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfo(&json, "{\"Type\": \"Notification\", \"MessageId\": \"" INT64_FORMAT "\"",
					 replayed ? DatumGetInt64(entry->values[Anum_log_replayed_message_id - 1]) : message_id);
	if (fifo)
		appendStringInfo(&json, ", \"SequenceNumber\": \"%020lld\"", (long long) message_id);
	append_column(&json, "TopicArn", entry, Anum_log_topic);
	append_column(&json, "Subject", entry, Anum_log_subject);
	append_column(&json, "Message", entry, Anum_log_body);
	appendStringInfoString(&json, ", \"Timestamp\": ");
	pgn_json_time(&json, DatumGetTimestampTz(entry->values[Anum_log_sent_at - 1]), 3);
	if (!entry->isnull[Anum_log_attributes - 1])
		append_attributes(&json, DatumGetJsonbP(entry->values[Anum_log_attributes - 1]));
	if (replayed)
		appendStringInfoString(&json, ", \"Replayed\": true");
	appendStringInfoChar(&json, '}');
	return cstring_to_text_with_len(json.data, json.len);
}
