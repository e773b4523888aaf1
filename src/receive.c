/*
 * receive.c
 *		receive, pop and peek.
 *
 * A receive serves what is due in the retry lane first (messages that were
 * received twice and came back), then the normal lane, then that of noisy
 * tenants (see fair.c), each the longest due first; but before others of the
 * last two, what was received once and came back.  On its way it
 * deletes what has outlived the queue's retention and moves what was received
 * too often to the dead-letter queue.  Once it has found something it clears
 * only so many away, so that it returns soon; but "nothing" it answers only
 * when there is nothing, since a consumer may stop at that.
 *
 * It never waits: neither for another receiver nor for a sender, nor, when it
 * finds nothing, with any lock on the queue.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "activity.h"
#include "arguments.h"
#include "candidates.h"
#include "claims.h"
#include "compat.h"
#include "dead_letter.h"
#include "delivery.h"
#include "durability.h"
#include "envelope.h"
#include "fifo_receive.h"
#include "frontier.h"
#include "log.h"
#include "pigeon.h"
#include "receipt.h"
#include "receive_attempt.h"
#include "sleepers.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(pgn_receive);
PG_FUNCTION_INFO_V1(pgn_pop);
PG_FUNCTION_INFO_V1(pgn_peek);

#define MAX_MESSAGES 100000

/* How many expired messages and dead letters a receive that finds something clears away. */
#define MAX_CLEARED 1000

/* Columns of pigeon.message, in order. */
enum
{
	Anum_message_message_id = 1,
	Anum_message_receipt,
	Anum_message_body,
	Anum_message_attributes,
	Anum_message_receive_count,
	Anum_message_sent_at,
	Anum_message_first_received_at,
	Anum_message_visible_at,
	Anum_message_group_id,
	Anum_message_deduplication_id,
	Anum_message_sequence_number,
	Anum_message_sender,
	Anum_message_topic,
	Anum_message_subject,
	Anum_message_dead_letter_source,
	Anum_message_replayed_message_id,
	Natts_message = Anum_message_replayed_message_id
};

/*
 * Advancing the frontier costs a second look at the range that is skipped, so
 * a backend does it for so many messages at a time only.
 */
#define ADVANCE_AFTER 16
static int	received_since_advance = ADVANCE_AFTER;

/* For how long a lane need not be looked at if nothing falls due in it. */
#define LOOK_AHEAD (100 * INT64CONST(1000))

/* A receive of no more than this many takes candidates; for more a look at the index is cheap. */
#define FEW_MESSAGES 16

/* Deliveries in pages that are this near to each other are neighbours. */
#define MAX_GAP 4

/* One call of receive, pop or peek. */
typedef struct Receive
{
	ReturnSetInfo *rsinfo;		/* where the messages go */
	LogReader	reader;
	MemoryContext per_message;
	Claims	   *claims;			/* what is to be returned next */
	int			max_messages;
	int			found;			/* and returned */
	int			cleared;		/* expired or moved on the way */
	bool		pop;			/* delete what is received */
	int64		visibility_timeout; /* microseconds */
	text	   *attempt_id;		/* NULL: none */
	bool		knows;			/* sees all that others see, or may see again */
	bool		in_place;		/* lease in place what can be */
	bool		advance;		/* advance the frontier on the way; if so, it
								 * knows */
	TimestampTz changed_from;	/* the first place in the normal lane that it
								 * took aside of a scan */
} Receive;

/* The max_messages argument, checked. */
static int
max_messages_argument(FunctionCallInfo fcinfo)
{
	int			n = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

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

/* Prepare for returning messages. */
static void
begin_receive(Receive *receive, FunctionCallInfo fcinfo)
{
	pgn_keep_memory();
	InitMaterializedSRF(fcinfo, 0);
	receive->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	receive->max_messages = max_messages_argument(fcinfo);
	receive->found = receive->cleared = 0;
	receive->per_message = AllocSetContextCreate(CurrentMemoryContext, "pigeon message",
												 ALLOCSET_DEFAULT_SIZES);
	pgn_log_reader_open(&receive->reader);
}

/* Give back what is not needed after the last message. */
static void
end_receive(Receive *receive)
{
	pgn_log_reader_close(&receive->reader);
	MemoryContextDelete(receive->per_message);
}

/* A timestamp for the result, NULL for PGN_NEVER. */
static Datum
time_or_null(TimestampTz time, bool *isnull)
{
	*isnull = time == PGN_NEVER;
	return TimestampTzGetDatum(time);
}

/*
 * Read the message of a delivery and add it to the result.  "receipt" is NULL
 * when there is none to give.
 */
static void
return_message(Receive *receive, const Queue *queue, const Delivery *row, Receipt *receipt)
{
	MemoryContext old = MemoryContextSwitchTo(receive->per_message);
	LogEntry	entry;
	Datum		values[Natts_message] = {0};
	bool		isnull[Natts_message];

	if (!pgn_log_read(&receive->reader, row->message_id, row->log_key,
					  pgn_log_place(row->log_block, row->segment, row->log_offset), &entry))
	{
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message " INT64_FORMAT " of queue \"%s\" is not in the message log",
						row->message_id, queue->name)));
		MemoryContextSwitchTo(old);
		return;
	}

	memset(isnull, true, sizeof(isnull));
#define SET(column, value) \
	(values[Anum_message_##column - 1] = (value), isnull[Anum_message_##column - 1] = false)
#define COPY(column) \
	(values[Anum_message_##column - 1] = entry.values[Anum_log_##column - 1], \
	 isnull[Anum_message_##column - 1] = entry.isnull[Anum_log_##column - 1])
	SET(message_id, Int64GetDatum(row->message_id));
	if (receipt)
		SET(receipt, PointerGetDatum(receipt));
	if (pgn_in_envelope(row))
		SET(body, PointerGetDatum(pgn_envelope(&entry, queue->attributes.fifo)));
	else
	{
		COPY(body);
		COPY(attributes);
	}
	SET(receive_count, Int32GetDatum(row->receive_count));
	SET(sent_at, TimestampTzGetDatum(row->enqueued_at));
	values[Anum_message_first_received_at - 1] =
		time_or_null(row->first_received_at, &isnull[Anum_message_first_received_at - 1]);
	SET(visible_at, TimestampTzGetDatum(row->visible_at));
	/* A standard queue gets neither of the two from a FIFO topic. */
	if (row->group_key != 0)
	{
		COPY(group_id);
		COPY(deduplication_id);
	}
	if (queue->attributes.fifo && row->source != 0)
		SET(deduplication_id, CStringGetTextDatum(psprintf(INT64_FORMAT, row->message_id)));
	if (queue->attributes.fifo)
		SET(sequence_number, Int64GetDatum(row->message_id));
	COPY(sender);
	COPY(topic);
	COPY(subject);
	if (row->source != 0)
	{
		Queue	   *source = pgn_queue_find_by_id(row->source);

		if (source)
			SET(dead_letter_source, CStringGetTextDatum(source->name));
	}
	COPY(replayed_message_id);
#undef SET
#undef COPY
	tuplestore_putvalues(receive->rsinfo->setResult, receive->rsinfo->setDesc, values, isnull);
	receive->found++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(receive->per_message);
}

/* Return a message that was received. */
static void
return_received(Receive *receive, Queue *queue, const Delivery *row)
{
	Receipt		receipt = {
		.message_id = row->message_id,
		.queue_id = queue->id,
		.home = row->home,
		.lease = row->lease
	};

	return_message(receive, queue, row, receive->pop ? NULL : &receipt);
	pgn_activity_claimed(queue);
	pgn_activity_count(queue, COUNT_RECEIVED, 1);
	if (receive->pop)
		pgn_activity_count(queue, COUNT_DELETED, 1);
}

/* Is this the first lease of a delivery, and not the last one allowed?  Then it can keep its place; see delivery.c. */
static bool
can_sleep(const Queue *queue, const Delivery *row)
{
	return row->queue_receive_count == 0 && queue->attributes.max_receive_count != 1 &&
		(row->lane == PGN_LANE_NORMAL || row->lane == PGN_LANE_NOISY);
}

/*
 * Collect a delivery, to be leased, or deleted if this is a pop, unless somebody
 * else is faster.  "now" is the time up to which the scan looks; a
 * new visibility is always later, so the scan does not meet the row again.
 */
static void
claim(Receive *receive, Queue *queue, DeliveryVersion *version, TimestampTz now)
{
	Delivery   *row = &version->row;
	bool		in_place = receive->in_place && can_sleep(queue, row);
	TimestampTz visible_at = pgn_delivery_lease(row, now, receive->visibility_timeout);

	if (in_place)
		row->visible_at = visible_at;
	else
		pgn_delivery_return(queue, row, visible_at);
	pgn_claim(receive->claims, &version->tid, row);
}

/* Return what was claimed. */
static void
return_claimed(Receive *receive)
{
	Claims	   *claims = receive->claims;

	pgn_claims_complete(claims);
	for (int i = 0; i < claims->n; i++)
		return_received(receive, claims->deliveries->queue, &claims->rows[i]);
	claims->n = 0;
}

/*
 * What a scan met, and what before the first delivery that was free for the
 * taking.  Places that were not met are at infinity.
 */
typedef struct ScanResult
{
	TimestampTz known_until;	/* behind that our own leases look like those
								 * of others */
	TimestampTz first;			/* the first that is neither dead nor asleep */
	TimestampTz first_free;		/* the first of those that nobody holds */
	int			nheld;
	TimestampTz held[PGN_STRAGGLERS];	/* those before first_free */
	SleeperList asleep;			/* all that sleep */
	SleeperList awake;			/* all others that are not dead */
	BlockNumber awake_block;	/* where the last of those was */
} ScanResult;

/* Nothing was met yet. */
static void
init_result(ScanResult *result, TimestampTz known_until)
{
	result->known_until = known_until;
	result->first = result->first_free = DT_NOEND;
	result->nheld = 0;
	pgn_sleepers_init(&result->asleep);
	pgn_sleepers_init(&result->awake);
	result->awake_block = InvalidBlockNumber;
}

/*
 * Note one that does not sleep, where receives must look again.  There are no
 * gaps within a range of those: who holds a delivery for long must not make
 * others walk over what has come and gone behind it.
 */
static void
note_awake(ScanResult *result, const DeliveryVersion *version, TimestampTz now)
{
	BlockNumber block = ItemPointerGetBlockNumber(&version->tid);
	bool		follows = BlockNumberIsValid(result->awake_block) && block >= result->awake_block &&
	block - result->awake_block <= MAX_GAP;

	pgn_sleepers_extend(&result->awake, version->row.due_at, Min(version->row.visible_at, now), follows);
	result->awake_block = block;
}

/* Note one delivery that a scan returned. */
static void
note_delivery(ScanResult *result, const DeliveryVersion *version, TimestampTz now)
{
	TimestampTz at = version->row.due_at;

	if (!version->uncommitted && pgn_is_asleep(&version->row, now))
	{
		Sleepers	sleeper = {.from = at,.to = at,.until = version->row.visible_at};

		if (at < result->known_until)
			pgn_sleepers_add(&result->asleep, &sleeper, now);
		return;
	}
	note_awake(result, version, now);
	if (result->first == DT_NOEND)
		result->first = at;
	if (result->first_free != DT_NOEND)
		return;
	if (!version->uncommitted && !version->held)
		result->first_free = at;
	else if (result->nheld > 0 && result->held[result->nheld - 1] == at)
		return;
	else if (result->nheld < PGN_STRAGGLERS)
		result->held[result->nheld++] = at;
	else
		result->first_free = at;
}

/* Is this as much as one receive returns, or clears away beside? */
static bool
has_enough(const Receive *receive)
{
	return receive->found >= receive->max_messages ||
		(receive->found > 0 && receive->cleared >= MAX_CLEARED);
}

/* Is it time to return what was claimed? */
static bool
has_claimed_enough(const Receive *receive)
{
	int			n = receive->claims->n;

	return n == receive->claims->limit || receive->found + n >= receive->max_messages ||
		(n > 0 && receive->cleared >= MAX_CLEARED);
}

/* Claim a delivery, or clear it away if its time is over, unless somebody is busy with it. */
static void
take_version(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters,
			 DeliveryVersion *version, TimestampTz now)
{
	Queue	   *queue = deliveries->queue;

	if (version->uncommitted || version->held || pgn_is_asleep(&version->row, now))
		return;
	if (pgn_delivery_expired(queue, &version->row, now))
	{
		if (pgn_delivery_delete(deliveries, &version->tid, false) == TM_Ok)
		{
			pgn_activity_count(queue, COUNT_EXPIRED, 1);
			receive->cleared++;
		}
		return;
	}
	if (pgn_received_too_often(queue, &version->row))
	{
		DeadLetterResult dead_letter = pgn_dead_letter(letters, version, now);

		receive->cleared += dead_letter == DEAD_LETTER_MOVED;
		if (dead_letter == DEAD_LETTER_MOVED || dead_letter == DEAD_LETTER_BUSY)
			return;
	}
	claim(receive, queue, version, now);
}

/* The same, and return what is claimed once there is enough. */
static void
receive_version(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters,
				DeliveryVersion *version, TimestampTz now)
{
	take_version(receive, deliveries, letters, version, now);
	if (has_claimed_enough(receive))
		return_claimed(receive);
}

/*
 * Receive from the candidates, until there is enough; see candidates.c.  To a
 * scan that follows, what was taken is dead or asleep, though not to others: it
 * must not advance the frontier beyond that.
 */
static void
receive_candidates(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters, TimestampTz now)
{
	Oid			file = deliveries->table.rel->rd_rel->relfilenode;
	bool		begun = false;
	DeliveryScan scan;
	DeliveryVersion version;
	ItemPointerData place;

	while (!has_enough(receive) && pgn_candidates_take(deliveries->queue, file, now, &place))
	{
		CHECK_FOR_INTERRUPTS();
		if (!begun)
			pgn_place_scan_begin(&scan, deliveries);
		begun = true;
		/* Others may have collected it again while it was not leased yet. */
		if (!pgn_is_claimed(receive->claims, &place) && pgn_scan_place(&scan, &place, &version) &&
			version.row.lane == PGN_LANE_NORMAL && version.row.visible_at <= now)
		{
			receive->changed_from = Min(receive->changed_from, version.row.due_at);
			receive_version(receive, deliveries, letters, &version, now);
		}
	}
	if (begun)
		pgn_scan_end(&scan);
	return_claimed(receive);
}

/* Leave what a scan of the normal lane would come to next to others. */
static void
collect_candidates(DeliveryScan *scan, TimestampTz now, const SleeperList *asleep)
{
	DeliveryTable *deliveries = scan->deliveries;
	ItemPointerData places[PGN_CANDIDATES];
	TimestampTz until;
	int			n;

	if (!pgn_candidates_wanted(deliveries->queue))
		return;
	n = pgn_scan_ahead(scan, places, PGN_CANDIDATES, &until);
	pgn_candidates_offer(deliveries->queue, deliveries->table.rel->rd_rel->relfilenode, now,
						 pgn_sleepers_first(asleep, now), until, places, n);
}

/*
 * Receive what is due in a part of a lane, until there is enough.  "collect":
 * leave candidates to others.
 */
static void
receive_range(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters,
			  int16 lane, TimestampTz from, TimestampTz to, TimestampTz now, bool collect, ScanResult *result)
{
	DeliveryScan scan;
	DeliveryVersion version;

	init_result(result, lane == PGN_LANE_NORMAL ? receive->changed_from : PG_INT64_MAX);
	pgn_due_scan_begin(&scan, deliveries, lane, from, to);
	while (!has_enough(receive) && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		note_delivery(result, &version, now);
		receive_version(receive, deliveries, letters, &version, now);
	}
	return_claimed(receive);
	if (collect && lane == PGN_LANE_NORMAL && receive->max_messages <= FEW_MESSAGES && has_enough(receive))
		collect_candidates(&scan, now, &result->asleep);
	pgn_scan_end(&scan);
}

/*
 * In a lane nothing is due.  Until when does it stay so?  We do not look far,
 * since a delivery that falls due earlier brings the frontier back.
 */
static TimestampTz
nothing_due_until(DeliveryTable *deliveries, int16 lane, TimestampTz now)
{
	TimestampTz until = now + LOOK_AHEAD;
	DeliveryScan scan;
	DeliveryVersion version;

	pgn_due_scan_begin(&scan, deliveries, lane, now, until);
	if (pgn_scan_next(&scan, &version))
		until = version.row.visible_at;
	pgn_scan_end(&scan);
	return until;
}

/*
 * Look again at a part of a lane that receives skip from now on, and lower the
 * frontier to what should not be skipped; step R3 of frontier.c.  True if there
 * was such.
 */
static bool
look_again(DeliveryTable *deliveries, int16 lane, TimestampTz from, TimestampTz to)
{
	DeliveryScan scan;
	DeliveryVersion version;
	bool		found = false;

	pgn_due_scan_begin(&scan, deliveries, lane, from, to);
	while (!found && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		found = !pgn_frontier_covers(deliveries->queue, lane, version.row.due_at, version.row.visible_at);
		if (found)
			pgn_frontier_lower(deliveries->queue, lane, version.row.due_at);
	}
	pgn_scan_end(&scan);
	return found;
}

/* Look below the frontiers; true if there was something to see, and they are lower now. */
static bool
look_below(DeliveryTable *deliveries)
{
	bool		found = false;

	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		Frontier	frontier;

		pgn_frontier_read(deliveries->queue, lane, 0, &frontier);
		if (frontier.at > PG_INT64_MIN)
			found |= look_again(deliveries, lane, PG_INT64_MIN, frontier.at - 1);
	}
	return found;
}

/* Receive what has come back from its first lease to its place in a lane, until there is enough. */
static void
receive_sleepers(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters,
				 int16 lane, TimestampTz now)
{
	Sleepers	due[PGN_SLEEPERS];
	int			n = pgn_sleepers_due(deliveries->queue, lane, now, due);
	ScanResult	result;

	for (int i = 0; i < n && !has_enough(receive); i++)
	{
		receive_range(receive, deliveries, letters, lane, due[i].from, due[i].to, now, false, &result);
		/* What was not walked over. */
		if (has_enough(receive))
			pgn_sleepers_extend(&result.awake, due[i].to, due[i].until, true);
		if (receive->knows)
			pgn_sleepers_replace(deliveries->queue, lane, now, &due[i], &result.asleep, &result.awake);
	}
}

/* Receive what is due in one lane, until there is enough. */
static void
receive_lane(Receive *receive, DeliveryTable *deliveries, DeadLetters *letters,
			 int16 lane, TimestampTz now)
{
	Queue	   *queue = deliveries->queue;
	Frontier	frontier;
	ScanResult	result;
	TimestampTz to;

	if (has_enough(receive))
		return;
	pgn_frontier_read(queue, lane, now, &frontier);
	for (int i = 0; i < frontier.nstragglers; i++)
	{
		TimestampTz place = frontier.stragglers[i];

		if (has_enough(receive))
			return;
		receive_range(receive, deliveries, letters, lane, place, place, now, false, &result);
		if (receive->advance && result.first == DT_NOEND &&
			pgn_frontier_forget(queue, lane, now, place, &result.asleep))
			(void) look_again(deliveries, lane, place, place);
	}

	/* Nor may the frontier advance over what was not looked at. */
	if (has_enough(receive) || frontier.at > now)
		return;
	receive_range(receive, deliveries, letters, lane, frontier.at, now, now, true, &result);
	to = Min(now, frontier.stuck ? result.first_free : result.first);
	/* In the other lanes senders would bring the frontier back all the time. */
	if (receive->advance && result.first == DT_NOEND && (lane == PGN_LANE_FINAL || lane == PGN_LANE_RETRY))
		to = nothing_due_until(deliveries, lane, now);
	if (lane == PGN_LANE_NORMAL)
		to = Min(to, receive->changed_from);
	if (receive->advance && to > frontier.at &&
		pgn_frontier_advance(queue, lane, now, &frontier, to, result.held,
							 frontier.stuck ? result.nheld : 0, &result.asleep))
		(void) look_again(deliveries, lane, frontier.at, to - 1);
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
	int			n;

	if (!pgn_attempt_begin(queue, receive->attempt_id))
		return true;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	rows = pgn_attempt_repeat(&deliveries, receive->attempt_id, GetCurrentTimestamp(),
							  receive->visibility_timeout, &n);
	pgn_deliveries_close(&deliveries, NoLock);
	for (int i = 0; i < n; i++)
		return_received(receive, queue, &rows[i]);
	if (n > 0)
		pgn_attempt_record(queue, receive->attempt_id, rows, n, GetCurrentTimestamp());
	return n > 0;
}

/* Receive what is due now from a FIFO queue, which is locked. */
static void
receive_fifo(Receive *receive, Queue *queue)
{
	bool		may_advance = queue->changed_in != pgn_local_transaction();
	DeliveryTable deliveries;
	FifoReceive fifo = {
		.deliveries = &deliveries,
		.now = GetCurrentTimestamp(),
		.visibility_timeout = receive->visibility_timeout,
		.pop = receive->pop,
		.advance = may_advance && received_since_advance >= ADVANCE_AFTER,
		.max_messages = receive->max_messages,
		.max_cleared = MAX_CLEARED
	};

	if (receive->attempt_id && repeat_attempt(receive, queue))
		return;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_fifo_receive(&fifo);
	if (fifo.found == 0 && pgn_frontier_doubt(queue, fifo.now))
	{
		pgn_frontier_lower(queue, PGN_LANE_NORMAL, PG_INT64_MIN);
		fifo.advance = may_advance;
		pgn_fifo_receive(&fifo);
	}
	pgn_deliveries_close(&deliveries, fifo.found + fifo.cleared + fifo.rescheduled > 0 ? NoLock : RowExclusiveLock);
	for (int i = 0; i < fifo.found; i++)
		return_received(receive, queue, &fifo.rows[i]);
	if (receive->attempt_id && fifo.found > 0)
		pgn_attempt_record(queue, receive->attempt_id, fifo.rows, fifo.found, fifo.now);
	receive->cleared += fifo.cleared + fifo.rescheduled;
	received_since_advance = fifo.advance ? 0 : received_since_advance + receive->found + 1;
}

/* Receive what is due now.  The queue is locked. */
static void
receive_due(Receive *receive, Queue *queue)
{
	TimestampTz now = GetCurrentTimestamp();
	DeliveryTable deliveries;
	DeadLetters letters;
	Claims		claims;

	if (queue->attributes.fifo)
	{
		receive_fifo(receive, queue);
		return;
	}
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_dead_letters_begin(&letters, &deliveries);
	pgn_claims_begin(&claims, &deliveries, receive->pop);
	receive->claims = &claims;
	receive->knows = queue->changed_in != pgn_local_transaction();
	/* Who does not know cannot advance the frontier over those who sleep. */
	receive->in_place = !receive->pop && receive->knows && pgn_sleepers_expected(queue, receive->visibility_timeout);
	receive->changed_from = PG_INT64_MAX;
	receive->advance = receive->knows && received_since_advance >= ADVANCE_AFTER;
	for (;;)
	{
		receive_lane(receive, &deliveries, &letters, PGN_LANE_FINAL, now);
		receive_lane(receive, &deliveries, &letters, PGN_LANE_RETRY, now);
		receive_sleepers(receive, &deliveries, &letters, PGN_LANE_NORMAL, now);
		/* The end of a lease of our own nobody has heard of yet. */
		if (receive->max_messages <= FEW_MESSAGES && receive->knows)
			receive_candidates(receive, &deliveries, &letters, now);
		receive_lane(receive, &deliveries, &letters, PGN_LANE_NORMAL, now);
		receive_sleepers(receive, &deliveries, &letters, PGN_LANE_NOISY, now);
		receive_lane(receive, &deliveries, &letters, PGN_LANE_NOISY, now);
		if (receive->found > 0 || !pgn_frontier_doubt(queue, now) || !look_below(&deliveries))
			break;
		/* What was cleared away in this call may come back. */
		receive->knows = receive->advance = receive->knows && receive->cleared == 0;
		receive->in_place = receive->in_place && receive->knows;
	}
	receive->claims = NULL;
	pgn_dead_letters_end(&letters);
	/* Who found nothing keeps no lock, least of all while waiting for more. */
	pgn_deliveries_close(&deliveries, receive->found + receive->cleared > 0 ? NoLock : RowExclusiveLock);
	received_since_advance = receive->advance ? 0 : received_since_advance + receive->found + 1;
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
	begin_receive(&receive, fcinfo);
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
		enough = receive.found > 0 || GetCurrentTimestamp() >= wait_until;
		if (enough)
			pgn_activity_count(queue, COUNT_EMPTY_RECEIVES, receive.found == 0);
		if (receive.found + receive.cleared == 0)
			pgn_queue_unlock(queue, RowExclusiveLock);
		if (enough)
			break;
		receive.cleared = 0;
		pgn_wait_for_messages(queue, wait_until);

		/*
		 * What was written before the wait can change only as a new
		 * command's.
		 */
		CommandCounterIncrement();
	}
	pgn_wait_end();
	end_receive(&receive);
	return (Datum) 0;
}

/* pop(queue, max_messages) */
Datum
pgn_pop(PG_FUNCTION_ARGS)
{
	Receive		receive = {0};
	Queue	   *queue;

	pgn_begin_write("pigeon.pop()");
	begin_receive(&receive, fcinfo);
	queue = pgn_queue_open(queue_argument(fcinfo), ACL_UPDATE | ACL_DELETE, RowExclusiveLock);
	receive.pop = true;
	receive_due(&receive, queue);
	end_receive(&receive);
	return (Datum) 0;
}

/* peek(queue, max_messages): in the order of message_id */
Datum
pgn_peek(PG_FUNCTION_ARGS)
{
	Receive		receive = {0};
	TimestampTz now = GetCurrentTimestamp();
	Queue	   *queue;
	DeliveryTable deliveries;
	DeliveryScan scan;
	DeliveryVersion version;
	Delivery	last;
	bool		any = false;

	begin_receive(&receive, fcinfo);
	queue = pgn_queue_open(queue_argument(fcinfo), ACL_SELECT, AccessShareLock);
	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (receive.found < receive.max_messages && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (version.uncommitted || (any && pgn_same_delivery(&last, &version.row)))
			continue;
		any = true;
		last = version.row;
		if (!pgn_delivery_expired(queue, &version.row, now))
			return_message(&receive, queue, &version.row, NULL);
	}
	pgn_scan_end(&scan);
	pgn_deliveries_close(&deliveries, AccessShareLock);
	end_receive(&receive);
	return (Datum) 0;
}
