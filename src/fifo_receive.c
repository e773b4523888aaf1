/*
 * fifo_receive.c
 *		Receiving from FIFO queues.
 *
 * A receive walks the entries of the schedule that are due and takes what each
 * group has to deliver, one group after the other; fifo.c says why the order
 * holds.  It never waits: an entry or a group that somebody is busy with is
 * passed over.
 *
 * After a look at a group its entry is moved to when the group will have
 * something to deliver again, or removed if nothing is left.  Where an open
 * transaction is in the way the entry stays as it is: early enough for
 * whatever that transaction comes to.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "activity.h"
#include "compat.h"
#include "dead_letter.h"
#include "delivery_scan.h"
#include "earlier.h"
#include "fifo.h"
#include "fifo_receive.h"
#include "frontier.h"
#include "message_group.h"

/* What ended the walk over a group. */
typedef enum WalkEnd
{
	WALK_EMPTY,					/* there is nothing more */
	WALK_NEXT,					/* a message that is not taken now */
	WALK_HELD					/* one that an open transaction is busy with */
} WalkEnd;

/* One look at a group. */
typedef struct Walk
{
	FifoReceive *receive;
	DeadLetters *letters;
	DeliveryScan groups;		/* between walks not in use */
	int			first;			/* of receive->rows that this walk took */
	int			cleared_before;
	Delivery	next;			/* the message that ended it, if WALK_NEXT */
} Walk;

/* Take a delivery.  False if somebody else was faster. */
static bool
claim(FifoReceive *receive, DeliveryVersion *version)
{
	Delivery   *row = &version->row;

	pgn_delivery_show(row, pgn_delivery_lease(row, receive->now, receive->visibility_timeout));
	row->lane = row->queue_receive_count == receive->deliveries->queue->attributes.max_receive_count ?
		PGN_LANE_FINAL : PGN_LANE_NORMAL;
	if (receive->pop ?
		pgn_delivery_delete(receive->deliveries, &version->tid, false) != TM_Ok :
		pgn_delivery_update(receive->deliveries, &version->tid, row, false) != TM_Ok)
		return false;
	receive->rows[receive->found++] = *row;
	return true;
}

/* What became of a message that must go. */
typedef enum Cleared
{
	CLEARED_NOT,				/* it need not go */
	CLEARED_DONE,
	CLEARED_HELD				/* it could not be moved just now */
} Cleared;

/* Remove a message that has expired, or move it if it is a dead letter. */
static Cleared
clear(Walk *walk, DeliveryVersion *version)
{
	FifoReceive *receive = walk->receive;
	Queue	   *queue = receive->deliveries->queue;

	if (pgn_delivery_expired(queue, &version->row, receive->now))
	{
		if (pgn_delivery_delete(receive->deliveries, &version->tid, false) != TM_Ok)
			return CLEARED_HELD;
		pgn_activity_count(queue, COUNT_EXPIRED, 1);
		return CLEARED_DONE;
	}
	if (version->row.visible_at > receive->now || !pgn_received_too_often(queue, &version->row))
		return CLEARED_NOT;
	switch (pgn_dead_letter(walk->letters, version, receive->now))
	{
		case DEAD_LETTER_MOVED:
			return CLEARED_DONE;
		case DEAD_LETTER_BUSY:
			return CLEARED_HELD;
		case DEAD_LETTER_MISSING:
		case DEAD_LETTER_DUPLICATE:
			break;
	}
	return CLEARED_NOT;
}

/* Is this a version that this walk has just written itself? */
static bool
is_own(const Walk *walk, const DeliveryVersion *version)
{
	const FifoReceive *receive = walk->receive;

	for (int i = receive->found - 1; i >= walk->first; i--)
	{
		if (receive->rows[i].message_id != version->row.message_id)
			return false;
		if (receive->rows[i].home == version->row.home)
			return true;
	}
	return false;
}

/*
 * Take what a group has to deliver from a message on, in order.  *deleted is
 * the last message that was deleted on the way, 0 if none was.
 */
static WalkEnd
walk_messages(Walk *walk, int64 group_key, int64 from_message_id, int64 *deleted)
{
	FifoReceive *receive = walk->receive;
	DeliveryVersion version;
	WalkEnd		end = WALK_EMPTY;

	*deleted = 0;
	pgn_group_scan_restart(&walk->groups, group_key, from_message_id);
	while (end == WALK_EMPTY && pgn_scan_next(&walk->groups, &version))
	{
		Cleared		cleared = CLEARED_HELD;

		if (is_own(walk, &version))
			continue;
		if (!version.uncommitted && !version.held)
			cleared = clear(walk, &version);
		if (cleared == CLEARED_HELD)
			end = WALK_HELD;
		else if (cleared == CLEARED_DONE)
			receive->cleared++;
		else if (version.row.visible_at > receive->now || receive->found == receive->max_messages)
		{
			walk->next = version.row;
			end = WALK_NEXT;
		}
		else if (claim(receive, &version))
			pgn_scan_skip_versions(&walk->groups);
		else
			end = WALK_HELD;
		if (end == WALK_EMPTY && (cleared == CLEARED_DONE || receive->pop))
			*deleted = version.row.message_id;
	}
	return end;
}

/*
 * Take what a group has to deliver, in order.
 *
 * A scan reads ahead in the index.  So one that deletes what it meets and comes
 * to the end says nothing of messages that were sent meanwhile, by senders
 * who saw the last one untouched and leave the rest to whoever deletes it; see
 * fifo.c.  The group is empty if a scan that deletes nothing says so.
 */
static WalkEnd
walk_group(Walk *walk, int64 group_key, int64 first_message_id)
{
	WalkEnd		end;
	int64		deleted;

	walk->first = walk->receive->found;
	walk->cleared_before = walk->receive->cleared;
	for (;;)
	{
		end = walk_messages(walk, group_key, first_message_id, &deleted);
		if (end != WALK_EMPTY || deleted == 0)
			return end;
		first_message_id = deleted + 1;
	}
}

/* Is there another entry that will do as well as this one? */
static bool
is_superfluous(Schedule *schedule, const ScheduleVersion *version, const ScheduleEntry *entry)
{
	ScheduleLookup lookup;

	pgn_schedule_lookup(schedule, entry->group_key, false, &lookup);
	return pgn_schedule_covers(&lookup, entry, &version->tid);
}

/* Look at the group of an entry, whose latch we have, and put the entry right. */
static void
visit_group(Walk *walk, Schedule *schedule, const ScheduleVersion *version)
{
	FifoReceive *receive = walk->receive;
	Queue	   *queue = receive->deliveries->queue;
	int64		group_key = version->row.group_key;
	WalkEnd		end = walk_group(walk, group_key, version->row.first_message_id);
	bool		leased = receive->found > walk->first && !receive->pop;
	const Delivery *head = leased ? &receive->rows[walk->first] : &walk->next;
	ScheduleEntry entry;
	bool		done;

	if (end == WALK_HELD && !leased)
		return;
	/* A sweep that found a message to be received. */
	if (end == WALK_NEXT && walk->next.visible_at <= receive->now &&
		receive->found == walk->first && receive->cleared == walk->cleared_before)
		return;
	if (end == WALK_EMPTY && !leased)
		done = pgn_schedule_remove(schedule, version);
	else
	{
		entry.group_key = group_key;
		entry.first_message_id = head->message_id;
		entry.visible_at = pgn_later(pgn_fifo_available_at(queue, head), receive->now + 1);
		entry.final = pgn_received_too_often(queue, head);
		if (receive->found == walk->first && is_superfluous(schedule, version, &entry))
			done = pgn_schedule_remove(schedule, version);
		else
			done = pgn_schedule_move(schedule, version, &entry);
	}
	receive->rescheduled += receive->found == walk->first;

	/*
	 * Nobody of us changes an entry without the latch, but an owner may lock
	 * it.
	 */
	if (!done)
	{
		pgn_fifo_reschedule(&walk->groups, schedule, group_key, receive->now);
		/* The new entry may be met by this walk. */
		CommandCounterIncrement();
	}
}

/* Look at a range that receives skip, and lower the frontier to what they would not see; true if there was something. */
static bool
look_at_skipped(Schedule *schedule, TimestampTz from, TimestampTz until)
{
	Queue	   *queue = schedule->queue;
	ScheduleScan scan;
	ScheduleVersion version;
	bool		found = false;

	pgn_schedule_scan_begin(&scan, schedule, from, until);
	while (!found && pgn_schedule_scan_next(&scan, &version))
	{
		TimestampTz at = version.row.visible_at;

		found = !pgn_frontier_covers(queue, PGN_LANE_NORMAL, at, at);
		if (found)
			pgn_frontier_lower(queue, PGN_LANE_NORMAL, at);
	}
	pgn_schedule_scan_end(&scan);
	return found;
}

/* The same of a range that they skip from now on: step R3 of frontier.c. */
static void
look_again(Schedule *schedule, TimestampTz from, TimestampTz until)
{
	FrontierPlace begin = {schedule->queue, PGN_LANE_NORMAL, from};

	PG_ENSURE_ERROR_CLEANUP(pgn_frontier_lower_in_cleanup, PointerGetDatum(&begin));
	(void) look_at_skipped(schedule, from, until);
	PG_END_ENSURE_ERROR_CLEANUP(pgn_frontier_lower_in_cleanup, PointerGetDatum(&begin));
}

/* Advance the frontier to the first entry that a walk met, leaving behind those that somebody has held for long. */
static void
advance_frontier(Schedule *schedule, const Frontier *frontier, const FrontierMet *met, TimestampTz now)
{
	TimestampTz to = pgn_frontier_reach(frontier, met, now);

	if (to > frontier->at &&
		pgn_frontier_advance(schedule->queue, PGN_LANE_NORMAL, now, frontier, to, met, NULL))
		look_again(schedule, frontier->at, to - 1);
}

/*
 * Where the last walk of this (sub)transaction found the first entry that is
 * not dead.  What the transaction has moved or removed itself is dead to it
 * only, so the frontier cannot advance over that; but the next receive of the
 * same transaction need not pass it again.
 */
static struct
{
	Oid			relid;
	LocalTransactionId transaction;
	SubTransactionId subtransaction;
	TimestampTz first;
}			last_walk;

/*
 * Where to begin.  Others may have added entries below that, so who finds
 * nothing must look again, from the frontier on.
 */
static TimestampTz
begin_of_walk(const Queue *queue, const Frontier *frontier)
{
	if (last_walk.relid == queue->relid && last_walk.transaction == pgn_local_transaction() &&
		last_walk.subtransaction == GetCurrentSubTransactionId())
		return Max(frontier->at, last_walk.first);
	return frontier->at;
}

/* Remember where a walk found the first entry. */
static void
remember_walk(const Queue *queue, TimestampTz first)
{
	last_walk.relid = queue->relid;
	last_walk.transaction = pgn_local_transaction();
	last_walk.subtransaction = GetCurrentSubTransactionId();
	last_walk.first = first;
}

/* Is this as much as one receive returns, or clears away beside; or as a sweep clears away at a time? */
static bool
has_enough(const FifoReceive *receive, bool final_only)
{
	return (receive->found >= receive->max_messages && !final_only) ||
		((receive->found > 0 || final_only) && receive->cleared >= receive->max_cleared);
}

/*
 * Visit the groups that are due in a range until there is enough;
 * "final_only": only those whose head may be a dead letter.
 */
static void
visit_groups(Walk *walk, Schedule *schedule, TimestampTz from, TimestampTz until, bool final_only, FrontierMet *met)
{
	Queue	   *queue = walk->receive->deliveries->queue;
	ScheduleScan scan;
	ScheduleVersion version;

	pgn_frontier_met_nothing(met);
	pgn_schedule_scan_begin(&scan, schedule, from, until);
	while (!has_enough(walk->receive, final_only) && pgn_schedule_scan_next(&scan, &version))
	{
		bool		held = TransactionIdIsValid(version.inserter) || TransactionIdIsValid(version.changer);

		CHECK_FOR_INTERRUPTS();
		pgn_frontier_meet(met, version.row.visible_at, held);
		if (held || (final_only && !version.row.final) ||
			!pgn_group_latch_now(queue, version.row.group_key))
			continue;
		if (pgn_schedule_is_free(schedule, &version))
			visit_group(walk, schedule, &version);
		pgn_group_unlatch(queue, version.row.group_key);
	}
	pgn_schedule_scan_end(&scan);
}

/*
 * Visit the groups that a frontier has left behind; forget the places where
 * there is nothing any more.  What is changed there, entries of the groups
 * elsewhere included, is dead to this transaction only, so that ends the
 * forgetting and the frontier's advance.
 */
static void
visit_stragglers(Walk *walk, Schedule *schedule, const Frontier *frontier, bool final_only)
{
	FifoReceive *receive = walk->receive;
	FrontierMet met;

	for (int i = 0; i < frontier->nstragglers && !has_enough(receive, final_only); i++)
	{
		TimestampTz place = frontier->stragglers[i];

		visit_groups(walk, schedule, place, place, final_only, &met);
		receive->advance = receive->advance && receive->found + receive->cleared + receive->rescheduled == 0;
		if (receive->advance && met.first == DT_NOEND &&
			pgn_frontier_forget(schedule->queue, PGN_LANE_NORMAL, receive->now, place, NULL))
			look_again(schedule, place, place);
	}
}

/* Visit the groups that are due from the frontier on, and advance it if it can be. */
static void
visit_from_frontier(Walk *walk, Schedule *schedule, const Frontier *frontier, bool final_only)
{
	FifoReceive *receive = walk->receive;
	Queue	   *queue = schedule->queue;
	TimestampTz from = final_only ? frontier->at : begin_of_walk(queue, frontier);
	int			found_before = receive->found;
	FrontierMet met;

	visit_groups(walk, schedule, from, receive->now, final_only, &met);
	if (receive->found == found_before && from > frontier->at)
		visit_groups(walk, schedule, frontier->at, receive->now, final_only, &met);
	if (!final_only)
		remember_walk(queue, Min(met.first, receive->now));
	if (receive->advance && from == frontier->at)
		advance_frontier(schedule, frontier, &met, receive->now);
}

/* Visit the groups that are due, or (final_only) those whose head may be a dead letter, until there is enough. */
static void
visit_due_groups(FifoReceive *receive, bool final_only)
{
	Queue	   *queue = receive->deliveries->queue;
	Frontier	frontier;
	Schedule	schedule;
	DeadLetters letters;
	Walk		walk = {.receive = receive,.letters = &letters};

	pgn_schedule_open(&schedule, queue, RowExclusiveLock);
	pgn_dead_letters_begin(&letters, receive->deliveries);
	pgn_group_scan_begin(&walk.groups, receive->deliveries);
	pgn_frontier_read(queue, PGN_LANE_NORMAL, receive->now, &frontier);
	visit_stragglers(&walk, &schedule, &frontier, final_only);
	if (!has_enough(receive, final_only))
		visit_from_frontier(&walk, &schedule, &frontier, final_only);
	pgn_scan_end(&walk.groups);
	receive->rescheduled += letters.changed;
	pgn_dead_letters_end(&letters);
	pgn_schedule_close(&schedule, receive->found + receive->cleared + receive->rescheduled > 0 ?
					   NoLock : RowExclusiveLock);
}

/*
 * Receive what is due now; receive->rows is allocated by the first call.  May
 * be called again after it found nothing.
 */
void
pgn_fifo_receive(FifoReceive *receive)
{
	if (receive->rows == NULL)
		receive->rows = palloc(receive->max_messages * sizeof(Delivery));
	visit_due_groups(receive, false);
}

/* Look below the frontier; true if there was something to see, and it is lower now. */
bool
pgn_fifo_look_below(Queue *queue)
{
	Frontier	frontier;
	Schedule	schedule;
	bool		found;

	pgn_frontier_read(queue, PGN_LANE_NORMAL, 0, &frontier);
	if (frontier.at == PG_INT64_MIN)
		return false;
	pgn_schedule_open(&schedule, queue, AccessShareLock);
	found = look_at_skipped(&schedule, PG_INT64_MIN, frontier.at - 1);
	pgn_schedule_close(&schedule, AccessShareLock);
	return found;
}

/* Move the heads of groups that came back from their last allowed receive.  True if there may be more of them than "most". */
bool
pgn_fifo_sweep(DeliveryTable *deliveries, TimestampTz now, int most)
{
	FifoReceive receive = {
		.deliveries = deliveries,
		.now = now,
		.max_cleared = most
	};

	visit_due_groups(&receive, true);
	return receive.cleared >= most;
}

/* The first time in a range at which a group may have something to deliver. */
TimestampTz
pgn_fifo_first_due(Queue *queue, TimestampTz from, TimestampTz until)
{
	TimestampTz first = PG_INT64_MAX;
	Schedule	schedule;
	ScheduleScan scan;
	ScheduleVersion version;

	pgn_schedule_open(&schedule, queue, AccessShareLock);
	pgn_schedule_scan_begin(&scan, &schedule, from, until);
	if (pgn_schedule_scan_next(&scan, &version))
		first = version.row.visible_at;
	pgn_schedule_scan_end(&scan);
	pgn_schedule_close(&schedule, AccessShareLock);
	return first;
}

/* From when on a receive would return the head of a group; never if somebody is busy with it. */
static TimestampTz
head_available_at(DeliveryScan *groups, const ScheduleEntry *entry)
{
	DeliveryVersion version;

	pgn_group_scan_restart(groups, entry->group_key, entry->first_message_id);
	if (!pgn_scan_next(groups, &version) || version.uncommitted || version.held)
		return PG_INT64_MAX;
	return pgn_fifo_available_at(groups->deliveries->queue, &version.row);
}

/* The same for all groups in a range of the schedule, until one is found that is available. */
static TimestampTz
available_in_range(Schedule *schedule, DeliveryScan *groups, TimestampTz from, TimestampTz until, TimestampTz now)
{
	ScheduleScan scan;
	ScheduleVersion version;
	TimestampTz first = PG_INT64_MAX;

	pgn_schedule_scan_begin(&scan, schedule, from, until);
	while (first > now && pgn_schedule_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (!TransactionIdIsValid(version.inserter) && !TransactionIdIsValid(version.changer))
			first = pgn_earlier(first, head_available_at(groups, &version.row));
	}
	pgn_schedule_scan_end(&scan);
	return first;
}

/*
 * From when on there is something to receive from the groups that are due: now
 * or earlier if there is already.  It may be later, since an entry may come too
 * early.  Dead letters and expired messages count too.
 */
TimestampTz
pgn_fifo_available(DeliveryTable *deliveries, TimestampTz now)
{
	Frontier	frontier;
	Schedule	schedule;
	DeliveryScan groups;
	TimestampTz first = PG_INT64_MAX;

	pgn_schedule_open(&schedule, deliveries->queue, AccessShareLock);
	pgn_group_scan_begin(&groups, deliveries);
	pgn_frontier_read(deliveries->queue, PGN_LANE_NORMAL, now, &frontier);
	for (int i = 0; i < frontier.nstragglers && first > now; i++)
		first = pgn_earlier(first, available_in_range(&schedule, &groups, frontier.stragglers[i],
													  frontier.stragglers[i], now));
	if (first > now)
		first = pgn_earlier(first, available_in_range(&schedule, &groups, frontier.at, now, now));
	pgn_scan_end(&groups);
	pgn_schedule_close(&schedule, AccessShareLock);
	return first;
}
