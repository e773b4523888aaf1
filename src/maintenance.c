/*
 * maintenance.c
 *		The jobs that keep queues in order, and maintain(), which runs them once.
 *
 * Every job is safe to run at any time, by several processes at once, and
 * never waits for senders or receivers.  maintain() commits after each job
 * where it may (a top-level CALL); inside a transaction block all jobs are
 * part of that transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "dead_letter.h"
#include "deduplication.h"
#include "delivery.h"
#include "fifo.h"
#include "fifo_receive.h"
#include "log.h"
#include "log_rotation.h"
#include "maintenance.h"
#include "owner.h"
#include "redrive.h"

PG_FUNCTION_INFO_V1(pgn_maintain);

/*
 * Unexpired messages in a row after which a look for expired ones ends.
 * Messages are met in the order of sending, so that normally the first
 * unexpired one is the last that matters; but redriven ones are younger than
 * their place.  What is left is removed when those are gone, and is not
 * delivered before that.
 */
#define UNEXPIRED_IN_A_ROW 1000

/* Delete what has outlived the queue's retention. */
static void
expire_messages(DeliveryTable *deliveries, TimestampTz now)
{
	DeliveryScan scan;
	DeliveryVersion version;
	int			unexpired = 0;
	GroupSet	changed = {0};

	pgn_message_scan_begin(&scan, deliveries, 0, PG_INT64_MAX, NULL);
	while (unexpired < UNEXPIRED_IN_A_ROW && pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (!pgn_delivery_expired(deliveries->queue, &version.row, now))
			unexpired++;
		else if (!version.uncommitted && !version.held)
		{
			(void) pgn_delivery_delete(deliveries, &version.tid, false);
			if (deliveries->queue->attributes.fifo)
				pgn_group_set_add(&changed, &version.row);
			unexpired = 0;
		}
	}
	pgn_scan_end(&scan);
	pgn_fifo_reschedule_groups(deliveries, &changed, now);
}

/* Move to the dead-letter queue what came back from its last allowed receive. */
static void
sweep_dead_letters(DeliveryTable *deliveries, TimestampTz now)
{
	DeadLetters letters;
	DeliveryScan scan;
	DeliveryVersion version;

	pgn_dead_letters_begin(&letters, deliveries);
	pgn_due_scan_begin(&scan, deliveries, PGN_LANE_FINAL, PG_INT64_MIN, now);
	while (pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (!version.uncommitted && !version.held &&
			pgn_received_too_often(deliveries->queue, &version.row) &&
			pgn_dead_letter(&letters, &version, now) == DEAD_LETTER_MISSING)
			break;
	}
	pgn_scan_end(&scan);
	pgn_dead_letters_end(&letters);
}

/* Retention and dead letters of one queue; nothing if somebody has locked it. */
void
pgn_maintain_queue(int32 queue_id)
{
	Queue	   *queue = pgn_queue_find_by_id(queue_id);
	TimestampTz now = GetCurrentTimestamp();
	DeliveryTable deliveries;

	if (queue == NULL || !pgn_queue_lock_now(queue, RowExclusiveLock))
		return;
	pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
	expire_messages(&deliveries, now);
	if (queue->attributes.fifo)
	{
		CommandCounterIncrement();
		if (queue->attributes.max_receive_count > 0)
			pgn_fifo_sweep(&deliveries, now);
		pgn_deduplication_expire(queue, now);
	}
	else
		sweep_dead_letters(&deliveries, now);
	pgn_deliveries_close(&deliveries, NoLock);
}

/*
 * Commit what the last job did, if maintain() may.  The next one sees what is
 * committed while it runs, whatever the default isolation level is: see
 * log_rotation.c, and nobody should fail to serialize because of maintenance.
 */
static void
end_job(bool may_commit)
{
	if (may_commit)
	{
		SPI_commit();
		XactIsoLevel = XACT_READ_COMMITTED;
	}
	else
		CommandCounterIncrement();
}

/* maintain() */
Datum
pgn_maintain(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context && IsA(fcinfo->context, CallContext) &&
	!castNode(CallContext, fcinfo->context)->atomic;
	int			n;
	int32	   *queues;
	int64	   *tasks;
	Snapshot	snapshot;

	pgn_begin_write("pigeon.maintain()");
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	end_job(may_commit);

	snapshot = RegisterSnapshot(GetLatestSnapshot());
	queues = pgn_queue_ids(snapshot, &n);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < n; i++)
	{
		pgn_maintain_queue(queues[i]);
		end_job(may_commit);
	}

	tasks = pgn_redrive_running(&n);
	for (int i = 0; i < n; i++)
	{
		bool		more = true;

		while (more)
		{
			more = pgn_redrive_step(tasks[i]);
			end_job(may_commit);
		}
	}

	pgn_log_rotate();
	end_job(may_commit);
	for (int segment = 0; segment < PGN_LOG_SEGMENTS; segment++)
	{
		(void) pgn_log_free_segment(segment);
		end_job(may_commit);
	}
	pgn_log_clean_old();
	end_job(may_commit);

	SPI_finish();
	PG_RETURN_VOID();
}
