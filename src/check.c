/*
 * check.c
 *		What pigeon.check() needs to know and SQL cannot tell it.
 *
 * pigeon.check() is SQL over the rows of all queues as one snapshot shows
 * them.  Two things a plain SELECT cannot do:
 *
 *	- Leave no locks behind.  Who checks 10,000 queues must neither hold their
 *	  tables until his transaction ends nor wait for one of them.  A table that
 *	  is locked exclusively, or is not as it should be, is not looked at; a row
 *	  of nulls says so.
 *
 *	- Run nothing of the owner's.  Queues' tables belong to users, who could
 *	  make a superuser's SELECT call functions of theirs.  Here rows are read
 *	  directly, from a table that has the columns of a queue.
 *
 * And two things are known to C only: whether the message is where a receive
 * looks for it in the log, and whether a receive looks at the delivery's place.
 * Either answer may be out of date: the log is truncated, and frontiers move,
 * whatever a snapshot shows.  But who finds no log row, and a delivery of the
 * message in a later snapshot, knows that something is wrong: a segment is
 * truncated only when no delivery needs it, and a message that moved to the old
 * generation meanwhile is found there the second time.  A frontier may be above
 * a live delivery between the steps R1 and R3 of frontier.c.  So
 * pigeon.check() looks several times, some time apart, and believes what it
 * finds each time.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "delivery.h"
#include "frontier.h"
#include "log_reader.h"
#include "message_group.h"
#include "schedule.h"

PG_FUNCTION_INFO_V1(pgn_check_deliveries);
PG_FUNCTION_INFO_V1(pgn_check_schedule);

/* Columns of check_deliveries() behind those of the table. */
enum
{
	Anum_check_logged_group_key = Natts_delivery + 1,
	Anum_check_hidden_delivery,
	Natts_check_delivery = Anum_check_hidden_delivery
};

/* Columns of check_schedule() behind those of the table. */
enum
{
	Anum_check_hidden_entry = Natts_schedule + 1,
	Natts_check_schedule = Anum_check_hidden_entry
};

/* The queue that the argument numbers, locked; NULL if it cannot be had at once. */
static Queue *
lock_queue(FunctionCallInfo fcinfo)
{
	Queue	   *queue = pgn_queue_find_by_id(PG_GETARG_INT32(0));

	return queue && pgn_queue_lock_now(queue, AccessShareLock) ? queue : NULL;
}

/* Say that a table could not be looked at. */
static void
return_nulls(ReturnSetInfo *rsinfo)
{
	Datum		values[Natts_check_delivery] = {0};
	bool		isnull[Natts_check_delivery];

	memset(isnull, true, sizeof(isnull));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

/* The key of the group that the log says, 0 if it says none; false if the message is not there. */
static bool
logged_group_key(LogReader *reader, const Datum *delivery, int64 *group_key)
{
	LogEntry	entry;

	if (!pgn_log_read(reader, DatumGetInt64(delivery[Anum_delivery_message_id - 1]),
					  DatumGetInt64(delivery[Anum_delivery_log_key - 1]),
					  pgn_log_place(DatumGetInt32(delivery[Anum_delivery_log_block - 1]),
									DatumGetInt16(delivery[Anum_delivery_segment - 1]),
									DatumGetInt16(delivery[Anum_delivery_log_offset - 1])), &entry))
		return false;
	*group_key = entry.isnull[Anum_log_group_id - 1] ? 0 :
		pgn_group_key(DatumGetTextPP(entry.values[Anum_log_group_id - 1]));
	return true;
}

/* Would a receive from a standard queue pass over the delivery? */
static bool
is_hidden(Queue *queue, const Datum *delivery, const bool *isnull)
{
	int16		lane = DatumGetInt16(delivery[Anum_delivery_lane - 1]);
	TimestampTz place = DatumGetTimestampTz(delivery[Anum_delivery_due_at - 1]);

	return !queue->attributes.fifo && lane >= 0 && lane < PGN_LANES &&
		!pgn_frontier_covers(queue, lane, place, isnull[Anum_delivery_visible_at - 1] ? place :
							 DatumGetTimestampTz(delivery[Anum_delivery_visible_at - 1]));
}

/* Return the deliveries of a queue that is locked, and what there is to know about them. */
static void
return_deliveries(ReturnSetInfo *rsinfo, DeliveryTable *deliveries)
{
	Relation	rel = deliveries->table.rel;
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "pigeon check",
												  ALLOCSET_DEFAULT_SIZES);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	LogReader	reader;

	/*
	 * A receive would still find a row that was deleted; it will be gone
	 * soon.
	 */
	pgn_log_reader_open(&reader);
	reader.snapshot = GetActiveSnapshot();
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(per_row);
		Datum		values[Natts_check_delivery];
		bool		isnull[Natts_check_delivery] = {0};
		int64		group_key = 0;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memcpy(values, slot->tts_values, Natts_delivery * sizeof(Datum));
		memcpy(isnull, slot->tts_isnull, Natts_delivery * sizeof(bool));
		isnull[Anum_check_logged_group_key - 1] = !logged_group_key(&reader, values, &group_key);
		values[Anum_check_logged_group_key - 1] = Int64GetDatum(group_key);
		values[Anum_check_hidden_delivery - 1] = BoolGetDatum(is_hidden(deliveries->queue, values, isnull));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_row);
	}
	pgn_log_reader_close(&reader);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(per_row);
}

/* check_deliveries(queue_id) */
Datum
pgn_check_deliveries(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Queue	   *queue = lock_queue(fcinfo);
	DeliveryTable deliveries;

	InitMaterializedSRF(fcinfo, 0);
	if (queue && pgn_deliveries_try_open(&deliveries, queue, AccessShareLock))
	{
		return_deliveries(rsinfo, &deliveries);
		pgn_deliveries_close(&deliveries, AccessShareLock);
	}
	else
		return_nulls(rsinfo);
	if (queue)
		pgn_queue_unlock(queue, AccessShareLock);
	PG_RETURN_NULL();
}

/* Return the schedule of a queue, and whether a receive would look at each entry's place. */
static void
return_schedule(ReturnSetInfo *rsinfo, Schedule *schedule)
{
	Relation	rel = schedule->table.rel;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		Datum		values[Natts_check_schedule];
		bool		isnull[Natts_check_schedule] = {0};
		TimestampTz visible_at;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		memcpy(values, slot->tts_values, Natts_schedule * sizeof(Datum));
		visible_at = DatumGetTimestampTz(values[Anum_schedule_visible_at - 1]);
		values[Anum_check_hidden_entry - 1] =
			BoolGetDatum(!pgn_frontier_covers(schedule->queue, PGN_LANE_NORMAL, visible_at, visible_at));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* check_schedule(queue_id) */
Datum
pgn_check_schedule(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Queue	   *queue = lock_queue(fcinfo);
	Schedule	schedule;

	InitMaterializedSRF(fcinfo, 0);
	if (queue && pgn_schedule_try_open(&schedule, queue, AccessShareLock))
	{
		return_schedule(rsinfo, &schedule);
		pgn_schedule_close(&schedule, AccessShareLock);
	}
	else
		return_nulls(rsinfo);
	if (queue)
		pgn_queue_unlock(queue, AccessShareLock);
	PG_RETURN_NULL();
}
