/*
 * send.c
 *		send and send_batch.
 *
 * Everything is checked before anything is written: a batch is accepted or
 * refused whole.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "activity.h"
#include "arguments.h"
#include "delivery.h"
#include "fifo_send.h"
#include "log.h"
#include "send.h"

PG_FUNCTION_INFO_V1(pgn_send);
PG_FUNCTION_INFO_V1(pgn_send_jsonb);
PG_FUNCTION_INFO_V1(pgn_send_batch);
PG_FUNCTION_INFO_V1(pgn_send_batch_jsonb);

/* Delay argument: not given, so the queue's counts. */
#define QUEUE_DELAY (-1)

/* Fail unless the queue can take the message; find its size. */
static void
check_message(const Queue *queue, Message *message)
{
	pgn_check_body(message->body);
	pgn_check_attribute_count(message->attributes);
	message->size = VARSIZE_ANY_EXHDR(message->body) + pgn_attributes_size(message->attributes);
	pgn_check_size(message->size, queue->attributes.max_message_size, queue->name);
	if (message->group_id)
		pgn_check_id(message->group_id, "group_id");
	if (queue->attributes.fifo)
		pgn_fifo_check_message(queue, message);
	if (message->deduplication_id)
	{
		pgn_check_id(message->deduplication_id, "deduplication_id");
		if (!queue->attributes.fifo)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("queue \"%s\" is not a FIFO queue and takes no deduplication_id", queue->name),
					 errhint("Leave it out; only FIFO queues deduplicate.")));
	}
}

/*
 * Write messages, already checked, to the log and make a delivery of each for
 * the queue.  "delay" is in microseconds, or QUEUE_DELAY.
 */
void
pgn_send_messages(Queue *queue, Message *messages, int n, int64 delay)
{
	TimestampTz now = GetCurrentTimestamp();
	DeliveryTable deliveries;
	Delivery   *rows;

	if (queue->attributes.fifo)
	{
		pgn_fifo_send(queue, messages, n, delay > 0);
		return;
	}
	rows = palloc(n * sizeof(Delivery));
	if (delay == QUEUE_DELAY)
		delay = queue->attributes.delay;
	(void) pgn_timestamp_plus(now, delay);

	pgn_log_append(messages, n, now);
	for (int i = 0; i < n; i++)
	{
		rows[i] = pgn_delivery_make(queue, &messages[i], now, delay);
		/* One after the other, so that the index keeps them in order. */
		pgn_delivery_show(&rows[i], rows[i].visible_at - (n - 1 - i));
		pgn_activity_count(queue, COUNT_SENT_BYTES, messages[i].size);
	}
	pgn_activity_count(queue, COUNT_SENT, n);
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_deliveries_insert(&deliveries, rows, n, NULL);
	pgn_deliveries_close(&deliveries, NoLock);
	pfree(rows);
}

/* The queue named by the first argument, ready for sending. */
static Queue *
open_queue(FunctionCallInfo fcinfo, const char *function)
{
	pgn_begin_write(function);
	if (PG_ARGISNULL(0))
		pgn_null_argument("queue");
	return pgn_queue_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), ACL_INSERT, RowExclusiveLock);
}

/* The delay argument. */
static int64
delay_argument(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(3) ? QUEUE_DELAY : pgn_interval(PG_GETARG_INTERVAL_P(3), "delay");
}

/* Send one message with this body, the other arguments being those of the call. */
static int64
send_one(FunctionCallInfo fcinfo, Queue *queue, text *body)
{
	Message		message = {0};
	int64		delay = delay_argument(fcinfo);

	message.body = body;
	message.attributes = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	message.group_id = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	message.deduplication_id = PG_ARGISNULL(5) ? NULL : PG_GETARG_TEXT_PP(5);
	check_message(queue, &message);
	pgn_send_messages(queue, &message, 1, delay);
	return message.message_id;
}

/* send(queue, body text, ...) */
Datum
pgn_send(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.send()");

	if (PG_ARGISNULL(1))
		pgn_null_argument("body");
	PG_RETURN_INT64(send_one(fcinfo, queue, PG_GETARG_TEXT_PP(1)));
}

/* send(queue, body jsonb, ...) */
Datum
pgn_send_jsonb(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.send()");

	if (PG_ARGISNULL(1))
		pgn_null_argument("body");
	PG_RETURN_INT64(send_one(fcinfo, queue, pgn_jsonb_body(PG_GETARG_JSONB_P(1))));
}

/* Send all messages of the arrays; "is_jsonb" tells what the bodies are. */
static void
send_batch(FunctionCallInfo fcinfo, bool is_jsonb)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.send_batch()");
	int64		delay = delay_argument(fcinfo);
	static const MessageArguments where = {.bodies = 1,.attributes = 2,.group_ids = 4,.deduplication_ids = 5};
	Datum	   *bodies;
	int			n;
	Message    *messages = pgn_messages_argument(fcinfo, &where, &bodies, &n);

	for (int i = 0; i < n; i++)
	{
		messages[i].body = is_jsonb ? pgn_jsonb_body(DatumGetJsonbP(bodies[i])) : DatumGetTextPP(bodies[i]);
		check_message(queue, &messages[i]);
	}
	if (n > 0)
		pgn_send_messages(queue, messages, n, delay);
	pgn_return_message_ids(fcinfo, messages, n);
}

/* send_batch(queue, bodies text[], ...) */
Datum
pgn_send_batch(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
		send_batch(fcinfo, false);
	return pgn_next_message_id(fcinfo);
}

/* send_batch(queue, bodies jsonb[], ...) */
Datum
pgn_send_batch_jsonb(PG_FUNCTION_ARGS)
{
	if (SRF_IS_FIRSTCALL())
		send_batch(fcinfo, true);
	return pgn_next_message_id(fcinfo);
}
