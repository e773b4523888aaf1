/*
 * wakeup.c
 *		Waiting for messages, and waking those who wait.
 *
 * A queue has a list of waiters in shared memory.  Who commits n messages
 * takes up to n waiters from its head and sets their latches, which costs one
 * read when nobody waits.  No wake-up is lost:
 *
 *		waiter						sender
 *		W1 join the list			S1 commit
 *		W2 memory barrier			S2 memory barrier
 *		W3 look for messages		S3 read the number of waiters,
 *		W4 sleep					   take one, set its latch
 *
 * Either S3 sees the waiter, or W3 comes after S1 and sees the message.  A
 * waiter that was taken from the list does not go to sleep, whatever became
 * of its latch meanwhile.
 *
 * Messages also fall due by the clock: delayed ones, and leases that run out.
 * The first waiter in the list keeps watch: it sleeps no longer than until
 * the next message falls due.  The others sleep until they are woken, so that
 * one due message does not wake a hundred waiters.  Who leaves a queue, after
 * receiving, giving up or failing, wakes the one who is first then, which
 * looks again and keeps watch.  That also hands on a wake-up that somebody
 * could not use, and a second message that fell due at the same time.  Who was
 * woken and goes on waiting, since somebody else was faster, becomes the first
 * again: those who were behind it sleep, and do not know of any watch.
 *
 * due_at of a queue is the earliest time, later than the last look at it, at
 * which something can fall due.  It spares the watch dead index entries, and
 * tells a sender of a delayed message or a
 * receiver with a short visibility timeout that the watch has to look again.
 * It is raised and lowered by the rules of frontier.c.
 *
 * To be safe from rows that are written by other means (a restore, logical
 * replication), the watch looks once a minute anyway, below the frontier too.
 *
 * Without shared memory, or room in it, a waiter looks every
 * pigeon.poll_interval; so it does on a standby.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "compat.h"
#include "dead_letter.h"
#include "delivery_scan.h"
#include "earlier.h"
#include "fifo_receive.h"
#include "frontier.h"
#include "message.h"
#include "pigeon.h"
#include "sleepers.h"
#include "standard_receive.h"
#include "wakeup.h"

PG_FUNCTION_INFO_V1(pgn_wait_for_message);

#define WATCH_INTERVAL USECS_PER_MINUTE

/* The queue that this backend waits for, or has waited for until just now. */
static SharedQueue *waiting_for = NULL;

/* The last wait ended because of messages that the caller then did not get. */
static bool in_vain = false;

/* Set a backend's latch. */
static void
wake(int32 waiter)
{
	SetLatch(&GetPGProcByNumber(waiter)->procLatch);
}

/* Take a waiter out of the list.  The caller holds the mutex. */
static void
unlink_waiter(SharedQueue *shared, int32 waiter)
{
	Waiter	   *w = &pgn_waiters[waiter];

	if (w->previous == NO_WAITER)
		shared->first_waiter = w->next;
	else
		pgn_waiters[w->previous].next = w->next;
	if (w->next == NO_WAITER)
		shared->last_waiter = w->previous;
	else
		pgn_waiters[w->next].previous = w->previous;
	w->linked = false;
}

/* Leave the queue that was waited for, if any, and let the next one keep watch. */
void
pgn_wait_end(void)
{
	SharedQueue *shared = waiting_for;
	int32		me = pgn_my_proc_number();
	int32		next;

	in_vain = false;
	if (shared == NULL)
		return;
	waiting_for = NULL;
	SpinLockAcquire(&shared->mutex);
	if (pgn_waiters[me].linked)
		unlink_waiter(shared, me);
	next = shared->first_waiter;
	SpinLockRelease(&shared->mutex);
	if (next != NO_WAITER)
		wake(next);
	pg_atomic_fetch_sub_u32(&shared->nwaiters, 1);
}

/* An error has ended the wait. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		pgn_wait_end();
}

/* An error has ended the wait, and may be caught outside of it. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		pgn_wait_end();
}

/*
 * Wait for a queue: at the end of its list, or at its head if woken there,
 * unless already in it.  Its table is locked.
 */
static void
join(SharedQueue *shared)
{
	static bool registered = false;
	int32		me = pgn_my_proc_number();
	Waiter	   *w = &pgn_waiters[me];
	bool		again = waiting_for == shared;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		registered = true;
	}
	Assert(me >= 0 && me < pgn_nwaiters);
	if (!again)
	{
		pgn_wait_end();
		pg_atomic_fetch_add_u32(&shared->nwaiters, 1);
		waiting_for = shared;
	}
	SpinLockAcquire(&shared->mutex);
	if (!w->linked)
	{
		w->linked = true;
		w->database = MyDatabaseId;
		w->next = again ? shared->first_waiter : NO_WAITER;
		w->previous = again ? NO_WAITER : shared->last_waiter;
		if (w->previous == NO_WAITER)
			shared->first_waiter = me;
		else
			pgn_waiters[w->previous].next = me;
		if (w->next == NO_WAITER)
			shared->last_waiter = me;
		else
			pgn_waiters[w->next].previous = me;
	}
	SpinLockRelease(&shared->mutex);
	pg_memory_barrier();
}

/* Is this backend still in the list of the queue it waits for? */
static bool
still_waiting(void)
{
	bool		linked = false;

	if (waiting_for)
	{
		SpinLockAcquire(&waiting_for->mutex);
		linked = pgn_waiters[pgn_my_proc_number()].linked;
		SpinLockRelease(&waiting_for->mutex);
	}
	return linked;
}

/* Is this backend the one that keeps watch? */
static bool
keeps_watch(void)
{
	int32		first;

	SpinLockAcquire(&waiting_for->mutex);
	first = waiting_for->first_waiter;
	SpinLockRelease(&waiting_for->mutex);
	return first == pgn_my_proc_number();
}

/* Wake up to n waiters of a queue. */
void
pgn_wake_waiters(SharedQueue *shared, int64 n)
{
	pg_memory_barrier();
	while (n-- > 0 && pg_atomic_read_u32(&shared->nwaiters) > 0)
	{
		int32		first;

		SpinLockAcquire(&shared->mutex);
		first = shared->first_waiter;
		if (first != NO_WAITER)
			unlink_waiter(shared, first);
		SpinLockRelease(&shared->mutex);
		if (first == NO_WAITER)
			return;
		wake(first);
	}
}

/* Let every waiter of this database look again. */
void
pgn_wake_database(void)
{
	/* Without locks: a latch set for nothing does no harm. */
	for (int32 i = 0; i < pgn_nwaiters; i++)
		if (pgn_waiters[i].linked && pgn_waiters[i].database == MyDatabaseId)
			wake(i);
}

/*
 * Something in a queue may fall due at that time; the watch has to know.  It
 * does if due_at is earlier; but one that is past tells that the watch could
 * not raise it.
 */
void
pgn_lower_due(SharedQueue *shared, TimestampTz due_at)
{
	int32		first;
	bool		known;

	pg_memory_barrier();
	known = !pgn_lower(&shared->due_at, due_at);
	if (pg_atomic_read_u32(&shared->nwaiters) == 0 ||
		(known && (TimestampTz) pg_atomic_read_u64(&shared->due_at) > GetCurrentTimestamp()))
		return;
	SpinLockAcquire(&shared->mutex);
	first = shared->first_waiter;
	SpinLockRelease(&shared->mutex);
	if (first != NO_WAITER)
		wake(first);
}

/* When the first of those that sleep in a part of a lane becomes visible; PG_INT64_MAX if none does. */
static TimestampTz
first_awake_in(DeliveryTable *deliveries, int16 lane, TimestampTz from, TimestampTz to, TimestampTz now)
{
	TimestampTz first = PG_INT64_MAX;
	DeliveryScan scan;
	DeliveryVersion version;

	pgn_due_scan_begin(&scan, deliveries, lane, from, to);
	while (pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (pgn_is_asleep(&version.row, now))
			first = Min(first, version.row.visible_at);
	}
	pgn_scan_end(&scan);
	return first;
}

/* The same for a whole lane: what nobody has noted yet, stragglers, and ranges of sleepers. */
static TimestampTz
first_awake(DeliveryTable *deliveries, int16 lane, TimestampTz now)
{
	Queue	   *queue = deliveries->queue;
	Sleepers	due[PGN_SLEEPERS];
	TimestampTz first;
	Frontier	frontier;
	int			n;

	/* Those that the frontier passes meanwhile are met in both places. */
	pgn_frontier_read(queue, lane, now, &frontier);
	first = first_awake_in(deliveries, lane, frontier.at, now, now);
	for (int i = 0; i < frontier.nstragglers; i++)
		first = pgn_earlier(first, first_awake_in(deliveries, lane, frontier.stragglers[i], frontier.stragglers[i], now));
	n = pgn_sleepers_due(queue, lane, now, due);
	for (int i = 0; i < n; i++)
		first = pgn_earlier(first, first_awake_in(deliveries, lane, due[i].from, due[i].to, now));
	return pgn_earlier(first, pgn_sleepers_next(queue, lane, now));
}

/* When the first delivery falls due in a range that begins after "now", committed or not, or one awakes. */
static TimestampTz
first_due(DeliveryTable *deliveries, TimestampTz now, TimestampTz from, TimestampTz until)
{
	TimestampTz first = PG_INT64_MAX;

	if (deliveries->queue->attributes.fifo)
		return pgn_fifo_first_due(deliveries->queue, from, until);
	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		DeliveryScan scan;
		DeliveryVersion version;

		pgn_due_scan_begin(&scan, deliveries, lane, from, until);
		if (pgn_scan_next(&scan, &version))
			first = Min(first, version.row.due_at);
		pgn_scan_end(&scan);
		first = pgn_earlier(first, first_awake(deliveries, lane, now));
	}
	return first;
}

/* A time at which something may fall due at a queue. */
typedef struct DueTime
{
	SharedQueue *shared;
	TimestampTz at;
} DueTime;

/* For PG_ENSURE_ERROR_CLEANUP: watches look from a DueTime on. */
static void
lower_due_in_cleanup(int code, Datum arg)
{
	const DueTime *due = (const DueTime *) DatumGetPointer(arg);

	pgn_lower_due(due->shared, due->at);
}

/* When something falls due next, PG_INT64_MAX if nothing does. */
TimestampTz
pgn_next_due(DeliveryTable *deliveries, TimestampTz now)
{
	SharedQueue *shared = pgn_shared_queue(deliveries->queue);
	uint64		known = shared ? pg_atomic_read_u64(&shared->due_at) : (uint64) PG_INT64_MIN;
	TimestampTz from = Max((TimestampTz) known, now + 1);
	TimestampTz due = first_due(deliveries, now, from, PG_INT64_MAX);

	/*
	 * As in standard_receive.c: what this transaction changed is not dead to
	 * others.
	 */
	if (shared && due > from && deliveries->queue->changed_in != pgn_local_transaction() &&
		pg_atomic_compare_exchange_u64(&shared->due_at, &known, (uint64) due))
	{
		DueTime		begin = {shared, from};
		TimestampTz missed;

		PG_ENSURE_ERROR_CLEANUP(lower_due_in_cleanup, PointerGetDatum(&begin));
		missed = first_due(deliveries, now, from, due - 1);
		PG_END_ENSURE_ERROR_CLEANUP(lower_due_in_cleanup, PointerGetDatum(&begin));

		if (missed < due)
		{
			pgn_lower_due(shared, missed);
			due = missed;
		}
	}
	else if ((TimestampTz) known > now)
		due = Min(due, (TimestampTz) known);	/* nobody tells us what comes
												 * between */
	if (deliveries->queue->attributes.fifo)
	{
		TimestampTz available = pgn_fifo_available(deliveries, now);

		/* A lease that was extended may end later than its group is due. */
		if (available > now)
			due = Min(due, available);
	}
	return due;
}

/* Does a part of a lane have anything that a receive would return? */
static bool
any_in_range(DeliveryTable *deliveries, int16 lane, TimestampTz from, TimestampTz until, TimestampTz now)
{
	Queue	   *queue = deliveries->queue;
	bool		found = false;
	DeliveryScan scan;
	DeliveryVersion version;

	pgn_due_scan_begin(&scan, deliveries, lane, from, until);
	while (!found && pgn_scan_next(&scan, &version))
		found = !version.uncommitted && !version.held && !pgn_is_asleep(&version.row, now) &&
			!pgn_delivery_expired(queue, &version.row, now) &&
			(!pgn_received_too_often(queue, &version.row) ||
			 pgn_dead_letter_stays(deliveries, &version.row));
	pgn_scan_end(&scan);
	return found;
}

/* Is there anything to receive right now, where receives look? */
static bool
any_due(DeliveryTable *deliveries, TimestampTz now)
{
	if (deliveries->queue->attributes.fifo)
		return pgn_fifo_available(deliveries, now) <= now;
	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		Frontier	frontier;
		Sleepers	due[PGN_SLEEPERS];
		int			n;

		/* In this order: whom the frontier has passed is among the sleepers. */
		pgn_frontier_read(deliveries->queue, lane, now, &frontier);
		n = pgn_sleepers_due(deliveries->queue, lane, now, due);
		for (int i = 0; i < n; i++)
			if (any_in_range(deliveries, lane, due[i].from, due[i].to, now))
				return true;
		for (int i = 0; i < frontier.nstragglers; i++)
			if (any_in_range(deliveries, lane, frontier.stragglers[i], frontier.stragglers[i], now))
				return true;
		if (any_in_range(deliveries, lane, frontier.at, now, now))
			return true;
	}
	return false;
}

/* Is there anything to receive right now?  Like a receive, this looks below the frontier now and then. */
bool
pgn_any_due(DeliveryTable *deliveries, TimestampTz now)
{
	Queue	   *queue = deliveries->queue;

	return any_due(deliveries, now) ||
		(pgn_frontier_doubt(queue, now) &&
		 (queue->attributes.fifo ? pgn_fifo_look_below(queue) : pgn_standard_look_below(deliveries)) &&
		 any_due(deliveries, now));
}

/*
 * Until when who keeps watch may sleep.  Somebody may say meanwhile that
 * something falls due earlier; the look may swallow what wakes us then.
 */
static TimestampTz
watch_until(DeliveryTable *deliveries, SharedQueue *shared, TimestampTz now)
{
	TimestampTz until = pgn_earlier(pgn_next_due(deliveries, now), now + WATCH_INTERVAL);
	TimestampTz due_at = (TimestampTz) pg_atomic_read_u64(&shared->due_at);

	if (due_at <= now && deliveries->queue->changed_in != pgn_local_transaction())
		due_at = now + pgn_poll_interval * INT64CONST(1000);
	return due_at > now ? Min(until, due_at) : until;
}

/* Join the waiters of a queue and look; until when to sleep, "now" if there is no reason to. */
static TimestampTz
join_and_look(Queue *queue, TimestampTz now)
{
	SharedQueue *shared;
	DeliveryTable deliveries;
	TimestampTz sleep_until = PG_INT64_MAX;

	/* Altered, or dropped: the caller will see which. */
	if (!pgn_queue_lock(queue, AccessShareLock))
		return now;
	shared = pgn_shared_queue(queue);
	if (shared && !RecoveryInProgress())
	{
		join(shared);
		pgn_deliveries_open(&deliveries, queue, AccessShareLock);
		if (pgn_any_due(&deliveries, now))
			sleep_until = in_vain ? now + pgn_poll_interval * INT64CONST(1000) : now;
		else if (keeps_watch())
			sleep_until = watch_until(&deliveries, shared, now);
		pgn_deliveries_close(&deliveries, AccessShareLock);
	}
	else
	{
		/* It may have been created anew since, and there be no room for it. */
		pgn_wait_end();
		sleep_until = now + pgn_poll_interval * INT64CONST(1000);
	}
	pgn_queue_unlock(queue, AccessShareLock);
	return sleep_until;
}

/* Sleep until that time, or until the latch is set. */
static void
sleep_until_latch(TimestampTz until)
{
	static uint32 wait_event = 0;

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 pgn_milliseconds_until(until),
					 pgn_wait_event(&wait_event, "PigeonWaitForMessage"));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Return when it is worth looking for messages, or it is "until".  "commit":
 * end the transaction before each sleep.
 */
static void
wait_for_messages(Queue *queue, TimestampTz until, bool commit)
{
	bool		waiting;

	/*
	 * What the transaction has done may wait for others, and so swallow what
	 * wakes us: not once we are in the list.
	 */
	if (commit)
		SPI_commit();
	do
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz sleep_until;

		if (now >= until)
			return;
		sleep_until = join_and_look(queue, now);
		if (sleep_until <= now)
		{
			in_vain = true;
			return;
		}
		if (commit)
			SPI_commit();
		waiting = still_waiting();
		if (waiting || waiting_for == NULL)
			sleep_until_latch(Min(sleep_until, until));
		in_vain = false;
		waiting = waiting && still_waiting();
	} while (waiting);
}

/*
 * Return when it is worth looking for messages, or it is "until".  The caller
 * has looked before, has no lock on the queue, and calls pgn_wait_end() when
 * it has what it wanted, or gives up.
 */
void
pgn_wait_for_messages(Queue *queue, TimestampTz until)
{
	wait_for_messages(queue, until, false);
}

/* Is there anything to receive in the queue of this name?  The queue, with no lock held. */
static Queue *
look(const char *name, TimestampTz now, bool *available)
{
	Queue	   *queue = pgn_queue_open(name, ACL_UPDATE, AccessShareLock);
	DeliveryTable deliveries;

	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	*available = pgn_any_due(&deliveries, now);
	pgn_deliveries_close(&deliveries, AccessShareLock);
	pgn_queue_unlock(queue, AccessShareLock);
	return queue;
}

/*
 * wait_for_message(queue, wait_time, available): called at the top level it
 * ends its transaction before it sleeps, so it holds no snapshot, no lock, and
 * nothing back from VACUUM.  Inside a transaction block it cannot do that.
 */
Datum
pgn_wait_for_message(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context && IsA(fcinfo->context, CallContext) &&
	!castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction();
	char	   *name;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;
	bool		available,
				isnull = false;
	Datum		value;
	TupleDesc	desc;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		pgn_null_argument(PG_ARGISNULL(0) ? "queue" : "wait_time");
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	until = pgn_timestamp_plus(now, pgn_interval(PG_GETARG_INTERVAL_P(1), "wait_time"));
	for (;;)
	{
		Queue	   *queue = look(name, now, &available);

		if (available || now >= until)
			break;
		wait_for_messages(queue, until, may_commit);
		now = GetCurrentTimestamp();
	}
	pgn_wait_end();
	SPI_finish();

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	value = BoolGetDatum(available);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), &value, &isnull)));
}
