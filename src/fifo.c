/*
 * fifo.c
 *		FIFO queues: the deliveries of message groups, and their schedule.
 *
 * Order.  A sender takes the send locks of its groups before it takes
 * message_ids (see message_group.c), so within a group message_ids rise in the
 * order of commits: the message_id is the sequence number.  (A message that is
 * dead-lettered or redriven keeps its number; it is moved only while nobody
 * else is sending to the group, who could have a lower one.)  A receiver walks
 * the deliveries of a group in this order and takes those that are available,
 * up to the first that is not: because it is leased or delayed, or because an
 * open transaction is inserting, leasing or deleting it.  This one rule is all
 * there is to blocking: a leased message hides what comes after it, a released
 * one is offered again although later ones are still leased, and when all that
 * were received are deleted the group is free.
 *
 * Taking is an update without waiting, as in standard queues.  But a walk must
 * not miss a row, since it would then go on to the next and break the order;
 * and it could miss one that moves to another page while it passes.  So rows
 * are given new versions only under the latch of their group, and looked at
 * under the latch: what a walk finds in the index is then complete, and the
 * end of other transactions while it lasts can only turn what it would call
 * "held by somebody" into something that is as good as skipped or stops it.
 * (Plain deletions and insertions need no latch: a deleted row may be missed,
 * and a new one comes after all others of its group, or, dead-lettered and
 * redriven, has no place in the order yet.)
 *
 * The schedule (schedule.c) has an entry for each group.  The rule there is
 * that whoever changes what a group has to deliver makes sure of a good entry
 * afterwards.  The latch makes these looks take turns, so of any two
 * transactions one comes second, and sees with its dirty snapshot what the
 * first did, committed or not:
 *
 *	- A sender has inserted its rows before it looks at the schedule; a deleter
 *	  has deleted its rows before it looks for others.  If the sender is
 *	  second, it finds the entry gone or going and adds its own.  If the
 *	  deleter is second, it finds the sender's rows, and leaves an entry for
 *	  them, which is of no use, but no harm, if the sender rolls back.
 *
 *	- A sender need not look at the schedule at all, nor take the latch, if the
 *	  message before its own in the group is committed and nobody is touching
 *	  it.  The sender first inserts its row, then looks at the one before; who
 *	  deletes that one does so first, and then looks for others.  Page locks
 *	  order these steps: if the sender saw the message untouched, the deleter
 *	  comes later and will find the sender's row.
 *
 * How a look decides what entry a group needs is in find_head(): a row that an
 * open transaction is changing may be gone, or be as it was, or be visible at
 * another time, so it counts with the earliest of these and the next row
 * counts as well.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "compat.h"
#include "delivery_scan.h"
#include "earlier.h"
#include "fifo.h"
#include "message_group.h"

/* Uncertain rows after which find_head() stops and takes the safe side. */
#define MAX_UNCERTAIN 100

/* When a delivery is available to a receiver: visible, or expired. */
TimestampTz
pgn_fifo_available_at(const Queue *queue, const Delivery *row)
{
	return pgn_earlier(row->visible_at, pgn_delivery_kept_until(queue, row));
}

/*
 * What entry a group needs, looking at messages from "from_message_id" on.
 * False if there is none.
 */
static bool
find_head(DeliveryScan *groups, int64 group_key, int64 from_message_id,
		  TimestampTz now, ScheduleEntry *entry)
{
	const Queue *queue = groups->deliveries->queue;
	DeliveryVersion version;
	int			rows = 0;

	pgn_group_scan_restart(groups, group_key, from_message_id);
	while (pgn_scan_next(groups, &version))
	{
		TimestampTz available_at = pgn_fifo_available_at(queue, &version.row);

		if (rows++ == 0)
			*entry = (ScheduleEntry)
		{
			.group_key = group_key,
				.first_message_id = version.row.message_id,
				.visible_at = available_at,
				.final = pgn_received_too_often(queue, &version.row)
		};
		entry->visible_at = Min(entry->visible_at, available_at);
		if (rows == MAX_UNCERTAIN)
			entry->visible_at = now;
		if (!(version.uncommitted || version.held) || rows == MAX_UNCERTAIN)
			break;
	}
	if (rows == 0)
		return false;
	/* Groups are served in the order in which they became available. */
	entry->visible_at = Max(entry->visible_at, now);
	return true;
}

/*
 * Make sure of a good entry for a group after changing its deliveries, with a
 * walk over groups that is not in use.  The caller has the group's latch.
 */
void
pgn_fifo_reschedule(DeliveryScan *groups, Schedule *schedule, int64 group_key, TimestampTz now)
{
	ScheduleLookup lookup;
	ScheduleEntry entry;

	/* What this command has written before it can change only as a new one. */
	CommandCounterIncrement();
	pgn_schedule_lookup(schedule, group_key, true, &lookup);
	if (find_head(groups, group_key, pgn_schedule_first_message(&lookup), now, &entry))
		pgn_schedule_ensure(schedule, &lookup, &entry, now);
	else
		pgn_schedule_clear(schedule, &lookup);
}

/* Remember that a delivery was changed. */
void
pgn_group_set_add(GroupSet *set, const Delivery *row)
{
	if (set->n > 0 && set->keys[set->n - 1] == row->group_key)
		return;
	if (set->n == set->size)
	{
		set->size = Max(16, set->size * 2);
		set->keys = set->keys ? repalloc_huge(set->keys, set->size * sizeof(int64)) :
			palloc(set->size * sizeof(int64));
	}
	set->keys[set->n++] = row->group_key;
}

/* Order of group keys. */
static int
compare_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Make sure of good entries after changing deliveries of these groups. */
void
pgn_fifo_reschedule_groups(DeliveryTable *deliveries, GroupSet *set, TimestampTz now)
{
	Schedule	schedule;
	DeliveryScan groups;

	if (set->n == 0)
		return;
	qsort(set->keys, set->n, sizeof(int64), compare_keys);
	pgn_schedule_open(&schedule, deliveries->queue, RowExclusiveLock);
	pgn_group_scan_begin(&groups, deliveries);
	for (int i = 0; i < set->n; i++)
	{
		if (i > 0 && set->keys[i] == set->keys[i - 1])
			continue;
		CHECK_FOR_INTERRUPTS();
		pgn_group_latch(deliveries->queue, set->keys[i]);
		pgn_fifo_reschedule(&groups, &schedule, set->keys[i], now);
		pgn_group_unlatch(deliveries->queue, set->keys[i]);
	}
	pgn_scan_end(&groups);
	pgn_schedule_close(&schedule, NoLock);
}

/*
 * Replace a version that nobody is known to hold by version->row; answers as
 * pgn_delivery_update.  The group must be rescheduled afterwards.
 */
TM_Result
pgn_fifo_update(DeliveryTable *deliveries, DeliveryVersion *version)
{
	TM_Result	result;

	pgn_group_latch(deliveries->queue, version->row.group_key);
	result = pgn_delivery_update(deliveries, &version->tid, &version->row, false);
	pgn_group_unlatch(deliveries->queue, version->row.group_key);

	/*
	 * Somebody was faster, and will be found to hold it; or has locked it
	 * only.
	 */
	if (result == TM_BeingModified)
		pg_usleep(1000);
	return result;
}

/*
 * Apply a new delay of the queue to messages that are there and were not
 * received yet.  Those that somebody is just sending or receiving keep theirs.
 */
void
pgn_fifo_change_delay(Queue *queue, int64 delay)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		longest = Max(delay, queue->attributes.delay);
	DeliveryTable deliveries;
	DeliveryScan scan;
	DeliveryVersion version;
	GroupSet	changed = {0};

	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (pgn_scan_next(&scan, &version))
	{
		Delivery   *row = &version.row;
		TimestampTz visible_at = row->enqueued_at + delay;

		CHECK_FOR_INTERRUPTS();
		if (version.uncommitted || version.held || row->received_at != PGN_NEVER ||
			row->visible_at == visible_at || row->enqueued_at + longest < now)
			continue;
		pgn_delivery_show(row, visible_at);
		if (pgn_fifo_update(&deliveries, &version) == TM_Ok)
			pgn_group_set_add(&changed, row);
	}
	pgn_scan_end(&scan);
	/* In the order in which they were sent. */
	pgn_fifo_reschedule_groups(&deliveries, &changed, PG_INT64_MIN);
	pgn_deliveries_close(&deliveries, NoLock);
}

/* Become the only sender to the groups of these messages; before message_ids are taken. */
void
pgn_fifo_lock_groups(const Queue *queue, const Message *messages, int n)
{
	int64	   *keys = palloc(n * sizeof(int64));

	for (int i = 0; i < n; i++)
		keys[i] = pgn_group_key(messages[i].group_id);
	pgn_groups_lock_for_send(queue, keys, n);
	pfree(keys);
}

/*
 * Is the message at this place one of the group before another, committed and
 * nobody touching it?
 */
static bool
is_settled_at(DeliveryScan *scan, ItemPointerData place, int64 group_key, int64 before_message_id)
{
	SnapshotData dirty;
	bool		again = false;
	bool		settled;

	if (!ItemPointerIsValid(&place))
		return false;
	InitDirtySnapshot(dirty);
	settled = table_index_fetch_tuple(scan->scan->xs_heapfetch, &place, &dirty, scan->slot, &again, NULL) &&
		!TransactionIdIsValid(dirty.xmin) && !TransactionIdIsValid(dirty.xmax);
	if (settled)
	{
		bool		isnull;

		/* Since the place was seen another row may have come there. */
		settled = DatumGetInt64(slot_getattr(scan->slot, Anum_delivery_group_key, &isnull)) == group_key &&
			DatumGetInt64(slot_getattr(scan->slot, Anum_delivery_message_id, &isnull)) < before_message_id;
	}
	ExecClearTuple(scan->slot);
	return settled;
}

/*
 * Is the message before this one in its group committed and nobody touching
 * it?  Looks at the versions of one message only, dead ones included, so that
 * it costs the same whatever the group has been through; false if in doubt.
 */
static bool
follows_settled_message(DeliveryScan *scan, int64 group_key, int64 message_id)
{
	Relation	rel = scan->deliveries->table.rel;
	SnapshotData dirty;
	int64		previous = 0;
	bool		settled = false;

	InitDirtySnapshot(dirty);
	pgn_group_scan_back_restart(scan, group_key, message_id - 1);
	while (!settled && index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
	{
		bool		isnull;
		int64		id = DatumGetInt64(slot_getattr(scan->slot, Anum_delivery_message_id, &isnull));

		if (previous != 0 && id != previous)
			break;
		previous = id;
		settled = table_tuple_satisfies_snapshot(rel, scan->slot, &dirty) &&
			!TransactionIdIsValid(dirty.xmin) && !TransactionIdIsValid(dirty.xmax);
	}
	ExecClearTuple(scan->slot);
	return settled;
}

/* Order of deliveries by group and message. */
static int
compare_deliveries(const void *a, const void *b)
{
	const Delivery *x = *(const Delivery *const *) a;
	const Delivery *y = *(const Delivery *const *) b;

	if (x->group_key != y->group_key)
		return x->group_key < y->group_key ? -1 : 1;
	return x->message_id < y->message_id ? -1 : x->message_id > y->message_id;
}

/*
 * Add new messages, whose groups the caller has locked for sending, to a FIFO
 * queue.
 */
void
pgn_fifo_insert(DeliveryTable *deliveries, const Delivery *rows, int n, TimestampTz now)
{
	const Delivery **sorted = palloc(n * sizeof(Delivery *));
	ItemPointerData *before = palloc(n * sizeof(ItemPointerData));
	DeliveryScan scan;
	DeliveryScan groups;
	Schedule	schedule;

	pgn_deliveries_insert(deliveries, rows, n, before);
	for (int i = 0; i < n; i++)
		sorted[i] = &rows[i];
	qsort(sorted, n, sizeof(Delivery *), compare_deliveries);

	pgn_schedule_open(&schedule, deliveries->queue, RowExclusiveLock);
	pgn_group_scan_back_begin(&scan, deliveries);
	pgn_group_scan_begin(&groups, deliveries);
	for (int i = 0; i < n; i++)
	{
		int64		group_key = sorted[i]->group_key;

		if ((i > 0 && group_key == sorted[i - 1]->group_key) ||
			is_settled_at(&scan, before[sorted[i] - rows], group_key, sorted[i]->message_id) ||
			follows_settled_message(&scan, group_key, sorted[i]->message_id))
			continue;
		CHECK_FOR_INTERRUPTS();
		pgn_group_latch(deliveries->queue, group_key);
		pgn_fifo_reschedule(&groups, &schedule, group_key, Min(now, sorted[i]->visible_at));
		pgn_group_unlatch(deliveries->queue, group_key);
	}
	pgn_scan_end(&groups);
	pgn_scan_end(&scan);
	pgn_schedule_close(&schedule, NoLock);
	pfree(before);
	pfree(sorted);
}

/*
 * Is a message of the group in flight that comes after this one?  Messages are
 * received in order, so where one that was never received is met the rest was
 * not either.  The caller has the group's latch.
 */
static bool
later_in_flight(DeliveryTable *deliveries, int64 group_key, int64 message_id, TimestampTz now)
{
	DeliveryScan groups;
	DeliveryVersion version;
	bool		received = true;
	bool		in_flight = false;

	pgn_group_scan_begin(&groups, deliveries);
	pgn_group_scan_restart(&groups, group_key, message_id);
	while (received && !in_flight && pgn_scan_next(&groups, &version))
	{
		received = version.row.received_at != PGN_NEVER;
		in_flight = version.held || (received && version.row.visible_at > now);
	}
	pgn_scan_end(&groups);
	return in_flight;
}

/*
 * Take a delivery out of one FIFO queue and put it into another as *row says.
 * False, and nothing done, if somebody else holds it or is busy with the group
 * it would go to; "patient": also if a message that it would come before is in
 * flight there.  The group it leaves must be rescheduled by the caller.
 * *changed becomes true if something was written, also if the answer is false.
 */
bool
pgn_fifo_move(DeliveryTable *from, const DeliveryVersion *version,
			  DeliveryTable *to, const Delivery *row, TimestampTz now, bool patient, bool *changed)
{
	Schedule	schedule;
	DeliveryScan groups;
	bool		moved;

	if (!pgn_group_latch_now(to->queue, row->group_key))
		return false;
	pgn_schedule_open(&schedule, to->queue, RowExclusiveLock);
	moved = !(patient && later_in_flight(to, row->group_key, row->message_id, now)) &&
		pgn_group_has_no_other_sender(to->queue, row->group_key) &&
		pgn_schedule_lower(&schedule, row->group_key, row->message_id, changed) &&
		pgn_delivery_move(from, version, to, row);
	*changed |= moved;
	if (moved)
	{
		pgn_group_scan_begin(&groups, to);
		pgn_fifo_reschedule(&groups, &schedule, row->group_key, now);
		pgn_scan_end(&groups);
		/* Until this transaction ends nothing of the group can be received. */
		pgn_activity_claimed(to->queue, 1);
	}
	pgn_schedule_close(&schedule, *changed ? NoLock : RowExclusiveLock);
	pgn_group_unlatch(to->queue, row->group_key);
	return moved;
}
