/*
 * standard_receive.c
 *		Receiving from standard queues.
 *
 * A receive serves what is due in the retry lane first (messages that were
 * received twice and came back), then the normal lane, then those of noisy
 * tenants (see fair.c), each the longest due first; but in all but the first
 * before others what was received once and came back.  On its way it
 * deletes what has outlived the queue's retention and moves what was received
 * too often to the dead-letter queue.  Once it has found something it clears
 * only so many away, so that it returns soon; but "nothing" it answers only
 * when there is nothing, since a consumer may stop at that.
 *
 * It never waits: neither for another receiver nor for a sender, nor, when it
 * finds nothing, with any lock on the queue.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"

#include "activity.h"
#include "candidates.h"
#include "compat.h"
#include "dead_letter.h"
#include "delivery_scan.h"
#include "fair.h"
#include "frontier.h"
#include "sleepers.h"
#include "standard_receive.h"

/* For how long a lane need not be looked at if nothing falls due in it. */
#define LOOK_AHEAD (100 * INT64CONST(1000))

/* A receive of no more than this many takes candidates; for more a look at the index is cheap. */
#define FEW_MESSAGES 16

/* Deliveries in pages that are this near to each other are neighbours. */
#define MAX_GAP 4

/* Is this a lane in which receives look for those who have woken up? */
static bool
has_sleepers(int16 lane)
{
	return lane == PGN_LANE_NORMAL || lane >= PGN_LANE_NOISY;
}

/* Is this the first lease of a delivery, and not the last one allowed?  Then it can keep its place; see delivery.c. */
static bool
can_sleep(const Queue *queue, const Delivery *row)
{
	return row->queue_receive_count == 0 && queue->attributes.max_receive_count != 1 &&
		has_sleepers(row->lane);
}

/*
 * Collect a delivery, to be leased, or deleted if this is a pop, unless somebody
 * else is faster.  "now" is the time up to which the scan looks; a
 * new visibility is always later, so the scan does not meet the row again.
 */
static void
claim(StandardReceive *receive, Queue *queue, DeliveryVersion *version, TimestampTz now)
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
return_claimed(StandardReceive *receive)
{
	Claims	   *claims = receive->claims;
	Queue	   *queue = claims->deliveries->queue;

	pgn_claims_complete(claims);
	receive->taken += claims->n;
	for (int i = 0; i < claims->n; i++)
	{
		const Delivery *row = &claims->rows[i];

		if (!receive->pop)
			pgn_activity_received(queue, row);
		else if (row->queue_receive_count > 1)
			pgn_activity_gone(queue, row);
		pgn_result_add_received(receive->result, queue, row, receive->pop);
	}
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
	FrontierMet met;
	SleeperList asleep;			/* all that sleep */
	SleeperList awake;			/* all others that are not dead */
	BlockNumber awake_block;	/* where the last of those was */
} ScanResult;

/* Nothing was met yet. */
static void
init_result(ScanResult *result, TimestampTz known_until)
{
	result->known_until = known_until;
	pgn_frontier_met_nothing(&result->met);
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

	if (!version->uncommitted && has_sleepers(version->row.lane) && pgn_is_asleep(&version->row, now))
	{
		Sleepers	sleeper = {.from = at,.to = at,.until = version->row.visible_at};

		/* Ours or not, others must look there again. */
		if (at < result->known_until)
			pgn_sleepers_add(&result->asleep, &sleeper, now);
		else
			note_awake(result, version, now);
		return;
	}
	note_awake(result, version, now);
	pgn_frontier_meet(&result->met, at, version->uncommitted || version->held);
}

/* Is this as much as one receive returns, or clears away beside? */
static bool
has_enough(const StandardReceive *receive)
{
	return receive->result->n >= receive->max_messages ||
		(receive->result->n > 0 && receive->cleared >= receive->max_cleared);
}

/* Is it time to return what was claimed? */
static bool
has_claimed_enough(const StandardReceive *receive)
{
	int			n = receive->claims->n;

	return n == receive->claims->limit || receive->result->n + n >= receive->max_messages ||
		(n > 0 && receive->cleared >= receive->max_cleared);
}

/* Claim a delivery, or clear it away if its time is over, unless somebody is busy with it. */
static void
take_version(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
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
			pgn_activity_gone(queue, &version->row);
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
receive_version(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
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
receive_candidates(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters, TimestampTz now)
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
			if (!version.uncommitted && !version.held)
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
receive_range(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
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
		until = version.row.due_at;
	pgn_scan_end(&scan);
	return until;
}

/*
 * Look at a part of a lane that receives skip, and lower the frontier to what
 * should not be skipped.  True if there was such.
 */
static bool
look_at_skipped(DeliveryTable *deliveries, int16 lane, TimestampTz from, TimestampTz to)
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

/* The same of a part that they skip from now on: step R3 of frontier.c. */
static void
look_again(DeliveryTable *deliveries, int16 lane, TimestampTz from, TimestampTz to)
{
	FrontierPlace begin = {deliveries->queue, lane, from};

	PG_ENSURE_ERROR_CLEANUP(pgn_frontier_lower_in_cleanup, PointerGetDatum(&begin));
	(void) look_at_skipped(deliveries, lane, from, to);
	PG_END_ENSURE_ERROR_CLEANUP(pgn_frontier_lower_in_cleanup, PointerGetDatum(&begin));
}

/* Look below the frontiers; true if there was something to see, and they are lower now. */
bool
pgn_standard_look_below(DeliveryTable *deliveries)
{
	bool		found = false;

	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		Frontier	frontier;

		pgn_frontier_read(deliveries->queue, lane, 0, &frontier);
		if (frontier.at > PG_INT64_MIN)
			found |= look_at_skipped(deliveries, lane, PG_INT64_MIN, frontier.at - 1);
	}
	return found;
}

/* Receive what has come back from its first lease to its place in a lane, until there is enough. */
static void
receive_sleepers(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
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

/* Receive what is due in one lane at the stragglers and from the frontier on, until there is enough. */
static void
receive_awake(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
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
		/* What this transaction has changed is dead to it only. */
		if (receive->advance && result.met.first == DT_NOEND &&
			(lane != PGN_LANE_NORMAL || place < receive->changed_from) &&
			pgn_frontier_forget(queue, lane, now, place, &result.asleep))
			look_again(deliveries, lane, place, place);
	}

	/* Nor may the frontier advance over what was not looked at. */
	if (has_enough(receive) || frontier.at > now)
		return;
	receive_range(receive, deliveries, letters, lane, frontier.at, now, now, true, &result);
	to = pgn_frontier_reach(&frontier, &result.met, now);
	/* In the normal lane senders would bring the frontier back all the time. */
	if (receive->advance && result.met.first == DT_NOEND && lane != PGN_LANE_NORMAL)
		to = nothing_due_until(deliveries, lane, now);
	if (lane == PGN_LANE_NORMAL)
		to = Min(to, receive->changed_from);
	if (receive->advance && to > frontier.at &&
		pgn_frontier_advance(queue, lane, now, &frontier, to, &result.met, &result.asleep))
		look_again(deliveries, lane, frontier.at, to - 1);
}

/* To look again where this call has looked already: what it has taken or cleared away there may come back. */
static void
look_anew(StandardReceive *receive)
{
	receive->knows = receive->knows && receive->cleared + receive->taken == 0;
	receive->advance = receive->advance && receive->knows;
	receive->in_place = receive->in_place && receive->knows;
}

/*
 * Receive what is due in one lane, until there is enough.  Those who sleep
 * were looked at before.  If the frontier has passed somebody since, he was
 * among them then, and may have woken up: who finds nothing looks at them again.
 */
static void
receive_lane(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters,
			 int16 lane, TimestampTz now)
{
	receive_awake(receive, deliveries, letters, lane, now);
	if (receive->result->n > 0 || !has_sleepers(lane))
		return;
	look_anew(receive);
	receive_sleepers(receive, deliveries, letters, lane, now);
}

/* Receive from the lanes of noisy tenants. */
static void
receive_noisy(StandardReceive *receive, DeliveryTable *deliveries, DeadLetters *letters, TimestampTz now)
{
	int16		lanes[PGN_NOISY_LANES];

	if (has_enough(receive))
		return;
	pgn_fair_noisy_lanes(deliveries->queue, now, lanes);
	for (int i = 0; i < PGN_NOISY_LANES; i++)
	{
		receive_sleepers(receive, deliveries, letters, lanes[i], now);
		receive_lane(receive, deliveries, letters, lanes[i], now);
	}
}

/* Receive what is due now.  The queue is locked. */
void
pgn_standard_receive(StandardReceive *receive, Queue *queue)
{
	bool		noisy_first = pgn_fair_noisy_first(queue);
	TimestampTz now = GetCurrentTimestamp();
	DeliveryTable deliveries;
	DeadLetters letters;
	Claims		claims;

	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_dead_letters_begin(&letters, &deliveries);
	pgn_claims_begin(&claims, &deliveries, receive->pop);
	receive->claims = &claims;
	receive->knows = queue->changed_in != pgn_local_transaction();
	/* Who does not know cannot advance the frontier over those who sleep. */
	receive->in_place = !receive->pop && receive->knows && pgn_sleepers_expected(queue, receive->visibility_timeout);
	receive->changed_from = PG_INT64_MAX;
	receive->advance = receive->advance && receive->knows;
	for (;;)
	{
		receive_lane(receive, &deliveries, &letters, PGN_LANE_FINAL, now);
		receive_lane(receive, &deliveries, &letters, PGN_LANE_RETRY, now);
		if (noisy_first)
			receive_noisy(receive, &deliveries, &letters, now);
		receive_sleepers(receive, &deliveries, &letters, PGN_LANE_NORMAL, now);
		/* The end of a lease of our own nobody has heard of yet. */
		if (receive->max_messages <= FEW_MESSAGES && receive->knows)
			receive_candidates(receive, &deliveries, &letters, now);
		receive_lane(receive, &deliveries, &letters, PGN_LANE_NORMAL, now);
		if (!noisy_first)
			receive_noisy(receive, &deliveries, &letters, now);
		if (receive->result->n > 0 || !pgn_frontier_doubt(queue, now) || !pgn_standard_look_below(&deliveries))
			break;
		look_anew(receive);
		receive->advance = receive->knows;
	}
	if (receive->result->n == 0)
		pgn_fair_backlog_cleared(queue, now);
	receive->claims = NULL;
	pgn_dead_letters_end(&letters);
	/* Who found nothing keeps no lock, least of all while waiting for more. */
	pgn_deliveries_close(&deliveries, receive->taken + receive->cleared > 0 ? NoLock : RowExclusiveLock);
}
