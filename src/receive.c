/*
 * receive.c
 *		receive, pop and peek.
 *
 * How a queue is received from is in standard_receive.c and fifo_receive.c;
 * here are the functions that users call, and waiting for messages.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "activity.h"
#include "arguments.h"
#include "compat.h"
#include "delivery_scan.h"
#include "durability.h"
#include "fifo_receive.h"
#include "frontier.h"
#include "message_result.h"
#include "pigeon.h"
#include "receive_attempt.h"
#include "standard_receive.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(pgn_receive);
PG_FUNCTION_INFO_V1(pgn_pop);
PG_FUNCTION_INFO_V1(pgn_peek);

#define MAX_MESSAGES 100000

/* How many expired messages and dead letters a receive that finds something clears away. */
#define MAX_CLEARED 1000

/*
 * Advancing the frontier costs a second look at the range that is skipped, so
 * a backend does it for so many messages of a queue at a time only.
 */
#define ADVANCE_AFTER 16

/* One call of receive or pop. */
typedef struct Receive
{
	MessageResult result;
	int			max_messages;
	bool		pop;			/* delete what is received */
	int64		visibility_timeout; /* microseconds */
	text	   *attempt_id;		/* NULL: none */
	bool		changed;		/* the last look has received, or otherwise
								 * changed, something */
} Receive;

/* The max_messages argument, checked; the default if it is NULL. */
static int
max_messages_argument(FunctionCallInfo fcinfo, int otherwise)
{
	int			n = PG_ARGISNULL(1) ? otherwise : PG_GETARG_INT32(1);

	if (n < 1 || n > MAX_MESSAGES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_messages must be between 1 and %d", MAX_MESSAGES)));
	return n;
}

/* The queue argument as a string. */
static char *
queue_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		pgn_null_argument("queue");
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/*
 * Serve a receive that may be the repetition of an earlier one; true if it
 * was, or if somebody else is serving it.
 */
static bool
repeat_attempt(Receive *receive, Queue *queue)
{
	DeliveryTable deliveries;
	Delivery   *rows;
	TimestampTz expires_at;
	int			n;

	if (!pgn_attempt_begin(queue, receive->attempt_id))
		return true;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	rows = pgn_attempt_repeat(&deliveries, receive->attempt_id, GetCurrentTimestamp(),
							  receive->visibility_timeout, &n, &expires_at);
	/* Who found nothing keeps no lock while waiting for more. */
	pgn_deliveries_close(&deliveries, n > 0 ? NoLock : RowExclusiveLock);
	for (int i = 0; i < n; i++)
		pgn_result_add_received(&receive->result, queue, &rows[i], receive->pop);
	if (n > 0)
		pgn_attempt_record(queue, receive->attempt_id, rows, n, expires_at);
	receive->changed = n > 0;
	return n > 0;
}

/* Receive what is due now from a FIFO queue.  "advance": it is time to advance the frontier; true if that was tried. */
static bool
receive_fifo(Receive *receive, Queue *queue, bool advance)
{
	bool		advances = advance && queue->changed_in != pgn_local_transaction();
	DeliveryTable deliveries;
	FifoReceive fifo = {
		.deliveries = &deliveries,
		.now = GetCurrentTimestamp(),
		.visibility_timeout = receive->visibility_timeout,
		.pop = receive->pop,
		.advance = advances,
		.max_messages = receive->max_messages,
		.max_cleared = MAX_CLEARED
	};

	if (receive->attempt_id && repeat_attempt(receive, queue))
		return false;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_fifo_receive(&fifo);
	if (fifo.found == 0 && pgn_frontier_doubt(queue, fifo.now) && pgn_fifo_look_below(queue))
	{
		fifo.advance = false;
		pgn_fifo_receive(&fifo);
	}
	receive->changed = fifo.found + fifo.cleared + fifo.rescheduled > 0;
	pgn_deliveries_close(&deliveries, receive->changed ? NoLock : RowExclusiveLock);
	for (int i = 0; i < fifo.found; i++)
		pgn_result_add_received(&receive->result, queue, &fifo.rows[i], receive->pop);
	if (receive->attempt_id && fifo.found > 0)
		pgn_attempt_record(queue, receive->attempt_id, fifo.rows, fifo.found, fifo.now + PGN_ATTEMPT_LIFETIME);
	/* Who waits comes here at each message that somebody else gets. */
	pfree(fifo.rows);
	return advances;
}

/* Receive what is due now from a standard queue; like receive_fifo. */
static bool
receive_standard(Receive *receive, Queue *queue, bool advance)
{
	StandardReceive standard = {
		.result = &receive->result,
		.max_messages = receive->max_messages,
		.max_cleared = MAX_CLEARED,
		.pop = receive->pop,
		.visibility_timeout = receive->visibility_timeout,
		.advance = advance
	};

	pgn_standard_receive(&standard, queue);
	receive->changed = standard.taken + standard.cleared > 0;
	return standard.advance;
}

/* Receive what is due now.  The queue is locked. */
static void
receive_due(Receive *receive, Queue *queue)
{
	bool		advance = queue->until_advance <= 0;

	receive->changed = false;
	if (queue->attributes.fifo)
		advance = receive_fifo(receive, queue, advance);
	else
		advance = receive_standard(receive, queue, advance);
	queue->until_advance = advance ? ADVANCE_AFTER : queue->until_advance - receive->result.n - 1;
}

/* The visibility timeout of a receive: the argument, or else the queue's. */
static int64
visibility_timeout(FunctionCallInfo fcinfo, int argno, const Queue *queue)
{
	int64		timeout;

	if (PG_ARGISNULL(argno))
		return queue->attributes.visibility_timeout;
	timeout = pgn_interval(PG_GETARG_INTERVAL_P(argno), "visibility_timeout");
	if (timeout > pgn_max_visibility * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout must not be longer than %d seconds", pgn_max_visibility),
				 errhint("The limit is the setting pigeon.max_visibility.")));
	return timeout;
}

/* The receive_attempt_id argument, checked; NULL if there is none. */
static text *
attempt_argument(FunctionCallInfo fcinfo, const Queue *queue)
{
	text	   *attempt_id;

	if (PG_ARGISNULL(4))
		return NULL;
	attempt_id = PG_GETARG_TEXT_PP(4);
	pgn_check_id(attempt_id, "receive_attempt_id");
	if (!queue->attributes.fifo)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" is not a FIFO queue and takes no receive_attempt_id", queue->name),
				 errhint("Leave it out; only receives from FIFO queues can be repeated.")));
	return attempt_id;
}

/* receive(queue, max_messages, visibility_timeout, wait_time, receive_attempt_id) */
Datum
pgn_receive(PG_FUNCTION_ARGS)
{
	char	   *name = queue_argument(fcinfo);
	TimestampTz wait_until = 0;
	Receive		receive = {0};

	pgn_begin_write("pigeon.receive()");
	receive.max_messages = max_messages_argument(fcinfo, 1);
	pgn_result_begin(&receive.result, fcinfo);
	for (;;)
	{
		Queue	   *queue = pgn_queue_open(name, ACL_UPDATE, RowExclusiveLock);
		bool		enough;

		receive.visibility_timeout = visibility_timeout(fcinfo, 2, queue);
		receive.attempt_id = attempt_argument(fcinfo, queue);
		if (wait_until == 0)
			wait_until = pgn_timestamp_plus(GetCurrentTimestamp(),
											PG_ARGISNULL(3) ? queue->attributes.wait_time :
											pgn_interval(PG_GETARG_INTERVAL_P(3), "wait_time"));
		pgn_lease_begin();
		receive_due(&receive, queue);
		pgn_lease_end();

		/*
		 * What was changed on the way, dead letters that were moved say,
		 * takes effect with the caller's commit, so it must not wait.
		 */
		enough = receive.changed || GetCurrentTimestamp() >= wait_until;
		if (enough && receive.result.n == 0)
			pgn_activity_count_now(queue, COUNT_EMPTY_RECEIVES);
		if (!receive.changed)
			pgn_queue_unlock(queue, RowExclusiveLock);
		if (enough)
			break;
		pgn_wait_for_messages(queue, wait_until);
	}
	pgn_wait_end();
	pgn_result_end(&receive.result);
	return (Datum) 0;
}

/* pop(queue, max_messages) */
Datum
pgn_pop(PG_FUNCTION_ARGS)
{
	Receive		receive = {0};
	Queue	   *queue;

	pgn_begin_write("pigeon.pop()");
	receive.max_messages = max_messages_argument(fcinfo, 1);
	pgn_result_begin(&receive.result, fcinfo);
	queue = pgn_queue_open(queue_argument(fcinfo), ACL_UPDATE | ACL_DELETE, RowExclusiveLock);
	receive.pop = true;
	receive_due(&receive, queue);
	pgn_result_end(&receive.result);
	return (Datum) 0;
}

/* peek(queue, max_messages): in the order of message_id */
Datum
pgn_peek(PG_FUNCTION_ARGS)
{
	int			max_messages = max_messages_argument(fcinfo, 10);
	MessageResult result;
	TimestampTz now = GetCurrentTimestamp();
	Queue	   *queue;
	DeliveryTable deliveries;
	DeliveryScan scan;
	DeliveryVersion version;
	Delivery	last;
	bool		any = false;

	pgn_result_begin(&result, fcinfo);
	queue = pgn_queue_open(queue_argument(fcinfo), ACL_SELECT, AccessShareLock);
	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (result.n < max_messages && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (version.uncommitted || (any && pgn_same_delivery(&last, &version.row)))
			continue;
		any = true;
		last = version.row;
		if (!pgn_delivery_expired(queue, &version.row, now))
			pgn_result_add(&result, queue, &version.row, NULL);
	}
	pgn_scan_end(&scan);
	pgn_deliveries_close(&deliveries, AccessShareLock);
	pgn_result_end(&result);
	return (Datum) 0;
}
