/*
 * acknowledge.c
 *		delete and change_visibility: what a worker says of a message it received.
 *
 * Both find the delivery by the receipt.  If its lease has been superseded (the
 * visibility timeout passed and somebody else received the message), the
 * worker has lost it: change_visibility answers false.  delete still deletes
 * from a standard queue, since the work was done, unless the new lease is of a
 * transaction that is still open: that is another worker's business, so the
 * answer is false and nobody waits for it.  In a FIFO queue both need the
 * current lease, before it has ended, since the group may have gone on.  A
 * message that came to the queue after the receipt was given (dead-lettered
 * and redriven) and was not received since, the receipt says nothing of.
 *
 * A row held for any other reason (a heartbeat of the same lease, another
 * delete) is waited for.  Batches go through their receipts in the order of
 * the messages, so that two batches cannot wait for each other.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "activity.h"
#include "arguments.h"
#include "compat.h"
#include "delivery_scan.h"
#include "durability.h"
#include "fifo.h"
#include "page_change.h"
#include "pigeon.h"
#include "receipt.h"

PG_FUNCTION_INFO_V1(pgn_delete);
PG_FUNCTION_INFO_V1(pgn_delete_batch);
PG_FUNCTION_INFO_V1(pgn_change_visibility);
PG_FUNCTION_INFO_V1(pgn_change_visibility_batch);

/* Walks over messages that follow one another; see delete_in_walk. */
#define MIN_WALK 4
#define MAX_WALK 1000
#define MAX_STEP 4

/* Deliveries that are deleted together. */
#define MAX_TOGETHER 128

/* What is to be done with the deliveries. */
typedef struct Action
{
	bool		is_delete;
	int64		visibility_timeout; /* if not */
	TimestampTz now;
} Action;

/* A receipt and its place in the caller's array. */
typedef struct Entry
{
	Receipt		receipt;
	int			position;
} Entry;

/* Looks for deliveries: where they are known to be, or in the index. */
typedef struct Lookup
{
	DeliveryTable *deliveries;
	DeliveryScan places;
	DeliveryScan messages;
	bool		has_messages;	/* that one was begun */
	bool		known;			/* the last delivery was where it was known to
								 * be */
} Lookup;

/* Start without having looked for anything. */
static void
begin_lookup(Lookup *lookup, DeliveryTable *deliveries)
{
	lookup->deliveries = deliveries;
	lookup->has_messages = lookup->known = false;
	pgn_place_scan_begin(&lookup->places, deliveries);
}

/* The walk over the index of messages. */
static DeliveryScan *
message_scan(Lookup *lookup)
{
	if (!lookup->has_messages)
		pgn_message_scan_begin(&lookup->messages, lookup->deliveries, 0, 0, NULL);
	lookup->has_messages = true;
	return &lookup->messages;
}

/* Give back what was used. */
static void
end_lookup(Lookup *lookup)
{
	pgn_scan_end(&lookup->places);
	if (lookup->has_messages)
		pgn_scan_end(&lookup->messages);
}

/*
 * Find the current version of a receipt's delivery.  False if there is none,
 * or if an open transaction is giving it another lease.
 *
 * An update that commits while we look can hide the row, so we look twice.
 * That two updates in a row hide it in both looks is possible; the answer is
 * then false although the message is there.  It does no harm: a caller who is
 * told "gone or lease lost" must reckon with another delivery anyway, and the
 * message is delivered again when its timeout ends.
 */
static bool
find_delivery(Lookup *lookup, const Receipt *receipt, DeliveryVersion *version)
{
	DeliveryScan *scan;

	lookup->known = pgn_scan_known(&lookup->places, receipt->message_id, receipt->home, version);
	if (lookup->known)
		return true;
	scan = message_scan(lookup);
	for (int look = 0; look < 2; look++)
	{
		DeliveryVersion v;
		bool		found = false,
					taken = false;

		pgn_message_scan_restart(scan, receipt->message_id, receipt->home);
		while (pgn_scan_next(scan, &v))
		{
			if (v.uncommitted)
			{
				taken = v.row.lease != receipt->lease;
				continue;
			}
			*version = v;
			found = true;
			if (!v.held)
				return true;
		}
		if (found)
			return !taken;
	}
	return false;
}

/* Fail if a message would stay invisible for too long after its receive. */
static void
check_total_visibility(const Delivery *row, TimestampTz visible_at)
{
	if (visible_at - row->received_at > pgn_max_visibility * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message would stay invisible for longer than %d seconds after its receive",
						pgn_max_visibility),
				 errhint("The limit is the setting pigeon.max_visibility.")));
}

/*
 * Has this transaction leased the delivery?  Then nobody else can have received
 * it since, even if its timeout is over (of a receive without one it is at once).
 */
static bool
is_ours(const DeliveryVersion *version)
{
	return TransactionIdIsCurrentTransactionId(version->writer) &&
		version->row.visible_at > version->row.received_at + 1;
}

/*
 * May the holder of the receipt do this to the delivery?  In a FIFO queue not
 * when its timeout is over, since others may have gone on with the group.
 */
static bool
is_allowed(const Queue *queue, const DeliveryVersion *version, const Receipt *receipt, const Action *action)
{
	const Delivery *row = &version->row;
	bool		leased = row->lease == receipt->lease;

	if (row->lease == PGN_NO_LEASE)
		return false;
	if (queue->attributes.fifo)
		return leased && (row->visible_at > action->now || is_ours(version));
	return action->is_delete || leased;
}

/*
 * Give a delivery a new version that is visible from that time on; answers as
 * pgn_delivery_update.  "release": the receipt ends with that, which it does
 * otherwise in a FIFO queue only when the time has passed.
 */
static TM_Result
update(DeliveryTable *deliveries, DeliveryVersion *version, TimestampTz visible_at, bool release)
{
	if (deliveries->queue->attributes.fifo)
	{
		if (release)
			version->row.lease = PGN_NO_LEASE;
		pgn_delivery_show(&version->row, visible_at);
		return pgn_fifo_update(deliveries, version);
	}
	pgn_delivery_return(deliveries->queue, &version->row, visible_at);
	return pgn_delivery_update(deliveries, &version->tid, &version->row, true);
}

/* Act on one receipt; false when the message is gone or the lease is lost.  Brings the time up to date if it waits. */
static bool
acknowledge(Lookup *lookup, const Receipt *receipt, Action *action, GroupSet *changed)
{
	DeliveryTable *deliveries = lookup->deliveries;
	DeliveryVersion version;

	while (find_delivery(lookup, receipt, &version))
	{
		Delivery   *row = &version.row;
		TM_Result	result;

		if (!is_allowed(deliveries->queue, &version, receipt, action))
			return false;
		if (version.held)
		{
			/*
			 * In a FIFO queue the lease may have ended when we come back; a
			 * new timeout counts from then.
			 */
			XactLockTableWait(version.holder, deliveries->table.rel, &version.tid, XLTW_Update);
			action->now = GetCurrentTimestamp();
			continue;
		}
		if (action->is_delete)
			result = pgn_delivery_delete(deliveries, &version.tid, true);
		else
		{
			TimestampTz visible_at = pgn_timestamp_plus(action->now, action->visibility_timeout);

			if (action->visibility_timeout > 0)
				check_total_visibility(row, visible_at);
			result = update(deliveries, &version, visible_at, action->visibility_timeout == 0);
		}
		if (result == TM_Ok)
		{
			if (deliveries->queue->attributes.fifo)
				pgn_group_set_add(changed, row);
			if (action->is_delete)
				pgn_activity_gone(deliveries->queue, row);
			pgn_activity_count(deliveries->queue, COUNT_DELETED, action->is_delete);
			return true;
		}
		CHECK_FOR_INTERRUPTS();
	}
	return false;
}

/* Order entries by message, so that everybody locks in the same order. */
static int
compare_entries(const void *a, const void *b)
{
	const Receipt *x = &((const Entry *) a)->receipt;
	const Receipt *y = &((const Entry *) b)->receipt;

	if (x->message_id != y->message_id)
		return x->message_id < y->message_id ? -1 : 1;
	return x->home < y->home ? -1 : x->home > y->home;
}

/* A walk over messages, in order. */
typedef struct Walk
{
	DeliveryScan *scan;
	bool		going;
	int64		until;			/* the last message of its range */
	bool		at_end;
	DeliveryVersion version;	/* where it is, unless at the end */
	bool		deleted;		/* that version has been deleted */
} Walk;

/* Go to the next version. */
static void
walk_on(Walk *walk)
{
	walk->at_end = !pgn_scan_next(walk->scan, &walk->version);
	walk->deleted = false;
}

/* Start a walk over what follows the first of n entries closely; not for too few. */
static void
start_walk(Walk *walk, Lookup *lookup, const Entry *entries, int n)
{
	int			length = 1;

	while (length < n && length < MAX_WALK &&
		   entries[length].receipt.message_id - entries[length - 1].receipt.message_id <= MAX_STEP)
		length++;
	walk->going = length >= MIN_WALK;
	if (!walk->going)
		return;
	walk->scan = message_scan(lookup);
	walk->until = entries[length - 1].receipt.message_id;
	pgn_message_scan_range(walk->scan, entries[0].receipt.message_id, walk->until);
	walk_on(walk);
}

/* Does the version come before the delivery of the receipt? */
static bool
is_before(const Delivery *row, const Receipt *receipt)
{
	return row->message_id < receipt->message_id ||
		(row->message_id == receipt->message_id && row->home < receipt->home);
}

/* Walk on to the delivery of a receipt; false if it is not met. */
static bool
walk_to(Walk *walk, const Receipt *receipt)
{
	const Delivery *row = &walk->version.row;

	while (!walk->at_end && (walk->deleted || is_before(row, receipt)))
		walk_on(walk);
	return !walk->at_end && row->message_id == receipt->message_id && row->home == receipt->home;
}

/* Is nobody busy with the delivery that a walk has come to, and may the holder of the receipt delete it? */
static bool
is_free(const Walk *walk, DeliveryTable *deliveries, const Receipt *receipt, const Action *action)
{
	const DeliveryVersion *version = &walk->version;

	return !version->uncommitted && !version->held &&
		is_allowed(deliveries->queue, version, receipt, action);
}

/* Delete the delivery that a walk has come to; false, and nothing done, if that is not plain. */
static bool
delete_here(Walk *walk, DeliveryTable *deliveries, const Receipt *receipt, const Action *action)
{
	walk->deleted = is_free(walk, deliveries, receipt, action) &&
		pgn_delivery_delete(deliveries, &walk->version.tid, false) == TM_Ok;
	if (walk->deleted)
		pgn_activity_count(deliveries->queue, COUNT_DELETED, 1);
	return walk->deleted;
}

/* Delete the versions at n places of a page; how many, from the first on, could be deleted at once. */
static int
delete_versions(DeliveryTable *deliveries, ItemPointerData *tids, int n)
{
	int			done = 0;

	while (done < n)
	{
		int			together = pgn_deliveries_delete_in_page(deliveries, &tids[done], n - done);

		done += together;
		if (together > 0)
			continue;
		if (pgn_delivery_delete(deliveries, &tids[done], false) != TM_Ok)
			break;
		done++;
	}
	pgn_activity_count(deliveries->queue, COUNT_DELETED, done);
	return done;
}

/*
 * Delete the deliveries of the first of n entries from a standard queue in a
 * walk: messages that were received together mostly were sent one after
 * another, and to walk over them costs less than to look for each.  Those that
 * are met in one page are deleted together.
 *
 * The answer is how many entries that was done for.  Whatever is not plain (a
 * delivery that somebody holds, that is not met, or that must not be deleted)
 * is left to acknowledge(), before anything further is deleted: the order must
 * stay.  The walk is over then, since both use the same scan.
 */
static int
delete_in_walk(Walk *walk, Lookup *lookup, const Entry *entries, int n, const Action *action)
{
	DeliveryTable *deliveries = lookup->deliveries;
	ItemPointerData tids[MAX_TOGETHER];
	Delivery	rows[MAX_TOGETHER];
	int			most = pgn_snapshots_keep_rows() ? MAX_TOGETHER : 1;
	int			found = 0,
				done;

	if (!walk->going || entries[0].receipt.message_id > walk->until)
		start_walk(walk, lookup, entries, n);
	while (walk->going && found < Min(n, most))
	{
		const Receipt *receipt = &entries[found].receipt;

		walk->going = receipt->message_id <= walk->until && walk_to(walk, receipt) &&
			is_free(walk, deliveries, receipt, action);
		if (!walk->going)
			break;
		tids[found] = walk->version.tid;
		if (pgn_page_run(tids, found + 1) <= found)
			break;
		rows[found] = walk->version.row;
		walk->deleted = true;
		found++;
	}
	done = delete_versions(deliveries, tids, found);
	for (int i = 0; i < done; i++)
		pgn_activity_gone(deliveries->queue, &rows[i]);
	if (done < found)
		walk->going = false;
	return done;
}

/* A walk over a message group of a FIFO queue. */
typedef struct GroupWalk
{
	DeliveryScan scan;
	Walk		walk;
	int64		last_group;		/* of the message that was deleted last */
} GroupWalk;

/* End the walk over a group, if there is one. */
static void
end_group_walk(GroupWalk *group)
{
	if (group->walk.going)
		pgn_scan_end(&group->scan);
	group->walk.going = false;
}

/*
 * A message was deleted, whose place was not known, and "left" receipts are.
 * If it is the first, or the second in a row of its group, the others probably
 * are of the same one, too: walk over it.
 */
static void
start_group_walk(GroupWalk *group, DeliveryTable *deliveries, int64 group_key, int64 message_id, int left)
{
	bool		likely = group->last_group == 0 || group->last_group == group_key;

	group->last_group = group_key;
	if (!likely || left < MIN_WALK)
		return;
	end_group_walk(group);
	pgn_group_scan_begin(&group->scan, deliveries);
	pgn_group_scan_restart(&group->scan, group_key, message_id);
	group->walk.scan = &group->scan;
	group->walk.going = true;
	walk_on(&group->walk);
}

/*
 * Delete the delivery of a receipt from a FIFO queue, if the walk over a group
 * comes to it; see delete_in_walk.
 */
static bool
delete_in_group(GroupWalk *group, DeliveryTable *deliveries, const Receipt *receipt,
				const Action *action, GroupSet *changed)
{
	if (!group->walk.going || !walk_to(&group->walk, receipt))
		return false;
	if (delete_here(&group->walk, deliveries, receipt, action))
	{
		pgn_group_set_add(changed, &group->walk.version.row);
		return true;
	}
	end_group_walk(group);
	return false;
}

/* Act on n receipts, each answer in its place in "answers". */
static void
acknowledge_all(Queue *queue, Entry *entries, int n, Action *action, Datum *answers)
{
	DeliveryTable deliveries;
	Lookup		lookup;
	GroupSet	changed = {0};
	Walk		walk = {0};
	GroupWalk	group = {0};
	bool		fifo = queue->attributes.fifo;
	int			i = 0;

	for (int j = 0; j < n; j++)
		if (entries[j].receipt.queue_id != queue->id)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("receipt is not of queue \"%s\"", queue->name),
					 errhint("Pass the name of the queue the message was received from.")));

	qsort(entries, n, sizeof(Entry), compare_entries);
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	begin_lookup(&lookup, &deliveries);
	while (i < n)
	{
		const Receipt *receipt = &entries[i].receipt;
		int			together = 0;
		bool		done;

		/* The same message twice: let the second see what the first did. */
		if (i > 0 && compare_entries(&entries[i - 1], &entries[i]) == 0)
			CommandCounterIncrement();
		if (action->is_delete && !fifo)
			together = delete_in_walk(&walk, &lookup, &entries[i], n - i, action);
		for (int j = 0; j < together; j++)
			answers[entries[i++].position] = BoolGetDatum(true);
		if (together > 0)
			continue;
		done = action->is_delete && fifo && delete_in_group(&group, &deliveries, receipt, action, &changed);
		if (!done)
		{
			done = acknowledge(&lookup, receipt, action, &changed);
			if (done && fifo && action->is_delete && !lookup.known)
				start_group_walk(&group, &deliveries, changed.keys[changed.n - 1],
								 receipt->message_id + 1, n - i - 1);
		}
		answers[entries[i++].position] = BoolGetDatum(done);
	}
	end_group_walk(&group);
	end_lookup(&lookup);
	pgn_fifo_reschedule_groups(&deliveries, &changed, action->now);
	pgn_deliveries_close(&deliveries, NoLock);
}

/* The queue argument, ready for the action. */
static Queue *
open_queue(FunctionCallInfo fcinfo, const char *function, AclMode right)
{
	pgn_begin_write(function);
	if (PG_ARGISNULL(0))
		pgn_null_argument("queue");
	return pgn_queue_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), right, RowExclusiveLock);
}

/* Act on the one receipt of the call. */
static Datum
acknowledge_one(FunctionCallInfo fcinfo, Queue *queue, Action *action)
{
	Entry		entry = {0};
	Datum		answer;

	if (PG_ARGISNULL(1))
		pgn_null_argument("receipt");
	entry.receipt = *PG_GETARG_RECEIPT(1);
	acknowledge_all(queue, &entry, 1, action, &answer);
	return answer;
}

/*
 * Act on the array of receipts of the call.  No array is none: that is what
 * array_agg() makes of a receive that returned nothing.
 */
static Datum
acknowledge_batch(FunctionCallInfo fcinfo, Queue *queue, Action *action)
{
	Datum	   *values;
	bool	   *nulls;
	int			n = pgn_array_argument(fcinfo, 1, "receipts", -1, &values, &nulls);
	Entry	   *entries = palloc(n * sizeof(Entry));
	Datum	   *answers = palloc(n * sizeof(Datum));

	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			pgn_null_argument("receipt");
		entries[i].receipt = *DatumGetReceipt(values[i]);
		entries[i].position = i;
	}
	acknowledge_all(queue, entries, n, action, answers);
	return PointerGetDatum(construct_array(answers, n, BOOLOID, 1, true, TYPALIGN_CHAR));
}

/* The action of a delete. */
static Action
delete_action(void)
{
	return (Action)
	{
		.is_delete = true,.now = GetCurrentTimestamp()
	};
}

/* The action of a change_visibility. */
static Action
visibility_action(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(2))
		pgn_null_argument("visibility_timeout");
	return (Action)
	{
		.visibility_timeout = pgn_interval(PG_GETARG_INTERVAL_P(2), "visibility_timeout"),
			.now = GetCurrentTimestamp()
	};
}

/* delete(queue, receipt) */
Datum
pgn_delete(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.delete()", ACL_DELETE);
	Action		action = delete_action();

	return acknowledge_one(fcinfo, queue, &action);
}

/* delete(queue, receipts) */
Datum
pgn_delete_batch(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.delete()", ACL_DELETE);
	Action		action = delete_action();

	return acknowledge_batch(fcinfo, queue, &action);
}

/* change_visibility(queue, receipt, visibility_timeout) */
Datum
pgn_change_visibility(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.change_visibility()", ACL_UPDATE);
	Action		action = visibility_action(fcinfo);
	Datum		answer;

	pgn_lease_begin();
	answer = acknowledge_one(fcinfo, queue, &action);
	pgn_lease_end();
	return answer;
}

/* change_visibility(queue, receipts, visibility_timeout) */
Datum
pgn_change_visibility_batch(PG_FUNCTION_ARGS)
{
	Queue	   *queue = open_queue(fcinfo, "pigeon.change_visibility()", ACL_UPDATE);
	Action		action = visibility_action(fcinfo);
	Datum		answers;

	pgn_lease_begin();
	answers = acknowledge_batch(fcinfo, queue, &action);
	pgn_lease_end();
	return answers;
}
