/*
 * delivery_scan.c
 *		Walks over the deliveries of a queue.
 *
 * Every look at the rows uses a dirty snapshot.  It shows what is committed
 * now and what this transaction did, at any isolation level, and says of each
 * row whether somebody else is writing or changing it.  A queue is a device
 * outside of a transaction's snapshot: a repeatable read transaction receives
 * what is due now and never fails to serialize on account of a queue.
 *
 * A row that is updated while an index scan passes may be missed by that scan
 * (its old version is dead when it is visited, its new one was not there when
 * the index page was read).  For a receive that is as good as skipped.  Who
 * looks for one row by its key must look twice before it is "gone".
 */
#include "postgres.h"

#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "delivery_scan.h"
#include "known_place.h"

/* Set up what all scans have. */
static void
init_scan(DeliveryScan *scan, DeliveryTable *deliveries)
{
	scan->deliveries = deliveries;
	scan->first_versions = false;
	InitDirtySnapshot(scan->dirty);
	scan->dirty.xmin = scan->dirty.xmax = InvalidTransactionId;
	scan->slot = MakeSingleTupleTableSlot(RelationGetDescr(deliveries->table.rel),
										  &TTSOpsBufferHeapTuple);
}

/* Start a scan on one of the indexes. */
static void
begin_scan(DeliveryScan *scan, DeliveryTable *deliveries, const AttrNumber *index,
		   ScanKey keys, int nkeys, Snapshot snapshot)
{
	init_scan(scan, deliveries);
	scan->scan = pgn_index_beginscan(deliveries->table.rel,
									 pgn_table_index(&deliveries->table, index, 2),
									 snapshot ? snapshot : &scan->dirty, nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/*
 * Walk over the deliveries of a lane whose places are between "from" and
 * "until" (both included), the earliest first.
 */
void
pgn_due_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries, int16 lane,
				   TimestampTz from, TimestampTz until)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(lane));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(until));
	begin_scan(scan, deliveries, pgn_due_index, keys, 3, NULL);
	/* One that is being leased in place is found by its old version. */
	scan->first_versions = true;
}

/* The scan keys of a range of messages, both ends included. */
static void
message_range(ScanKeyData keys[2], int64 from_message_id, int64 to_message_id)
{
	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from_message_id));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(to_message_id));
}

/*
 * Walk over the deliveries of a range of messages (both ends included), in
 * order: as of "snapshot", or if that is NULL as they are now.
 */
void
pgn_message_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries,
					   int64 from_message_id, int64 to_message_id, Snapshot snapshot)
{
	ScanKeyData keys[2];

	message_range(keys, from_message_id, to_message_id);
	begin_scan(scan, deliveries, pgn_message_index, keys, 2, snapshot);
}

/* Prepare to walk over message groups; costs nothing until the first. */
void
pgn_group_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries)
{
	*scan = (DeliveryScan)
	{
		.deliveries = deliveries
	};
}

/* Walk over the deliveries of a group, in order, from a message on. */
void
pgn_group_scan_restart(DeliveryScan *scan, int64 group_key, int64 from_message_id)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group_key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from_message_id));
	if (scan->scan == NULL)
	{
		begin_scan(scan, scan->deliveries, pgn_group_index, keys, 2, NULL);
		return;
	}
	ExecClearTuple(scan->slot);
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Prepare to walk over all versions, dead ones too, of deliveries of message groups. */
void
pgn_group_scan_back_begin(DeliveryScan *scan, DeliveryTable *deliveries)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(0));
	ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(0));
	begin_scan(scan, deliveries, pgn_group_index, keys, 2, SnapshotAny);
}

/* Walk over those of a group up to a message, the last first. */
void
pgn_group_scan_back_restart(DeliveryScan *scan, int64 group_key, int64 to_message_id)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group_key));
	ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(to_message_id));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Use a walk over messages for another range. */
void
pgn_message_scan_range(DeliveryScan *scan, int64 from_message_id, int64 to_message_id)
{
	ScanKeyData keys[2];

	message_range(keys, from_message_id, to_message_id);
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Use a walk over messages for the versions of a single delivery. */
void
pgn_message_scan_restart(DeliveryScan *scan, int64 message_id, int32 home)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(message_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(home));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

/* Copy the row version that a scan has come to. */
static void
read_version(DeliveryScan *scan, DeliveryVersion *version)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(scan->slot, false, &should_free);

	pgn_delivery_read_row(scan->deliveries->table.rel, tuple, &version->row);
	version->tid = scan->slot->tts_tid;
	version->writer = HeapTupleHeaderGetXmin(tuple->t_data);
	version->uncommitted = TransactionIdIsValid(scan->dirty.xmin);
	version->held = TransactionIdIsValid(scan->dirty.xmax);
	version->holder = scan->dirty.xmax;
}

/* The next row version, or false at the end. */
bool
pgn_scan_next(DeliveryScan *scan, DeliveryVersion *version)
{
	if (!index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot))
		return false;
	read_version(scan, version);
	if (scan->first_versions)
		scan->scan->xs_heap_continue = false;
	return true;
}

/* Pass over the newer versions of the row that a walk has come to: they are our own. */
void
pgn_scan_skip_versions(DeliveryScan *scan)
{
	scan->scan->xs_heap_continue = false;
}

/* Look at single places of the table, one after the other. */
void
pgn_place_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries)
{
	init_scan(scan, deliveries);
	scan->scan = NULL;
}

/* The row version at a place, if there is one that is not dead. */
static bool
fetch_version(DeliveryScan *scan, ItemPointer place, DeliveryVersion *version)
{
	if (!table_tuple_fetch_row_version(scan->deliveries->table.rel, place, &scan->dirty, scan->slot))
		return false;
	read_version(scan, version);
	return true;
}

/* The same, of a place that need not exist. */
bool
pgn_scan_place(DeliveryScan *scan, ItemPointer place, DeliveryVersion *version)
{
	return pgn_table_has_page(scan->deliveries->table.rel, ItemPointerGetBlockNumber(place)) &&
		fetch_version(scan, place, version);
}

/*
 * The current version of a delivery that this backend has written last, if
 * nobody is busy with it.  False if that is not known; it may be there.
 */
bool
pgn_scan_known(DeliveryScan *scan, int64 message_id, int32 home, DeliveryVersion *version)
{
	ItemPointerData place;

	return pgn_place_recall(scan->deliveries->queue->relid, message_id, &place) &&
		pgn_scan_place(scan, &place, version) && !version->uncommitted && !version->held &&
		version->row.message_id == message_id && version->row.home == home;
}

/*
 * The places of up to "max" row versions that a walk would come to next, and
 * when the last of them is due.  Only the last is known not to be dead.
 */
int
pgn_scan_ahead(DeliveryScan *scan, ItemPointerData *places, int max, TimestampTz *until)
{
	DeliveryVersion last;
	ItemPointer place;
	int			n = 0;

	while (n < max && (place = index_getnext_tid(scan->scan, ForwardScanDirection)) != NULL)
		places[n++] = *place;
	while (n > 0 && !fetch_version(scan, &places[n - 1], &last))
		n--;
	if (n > 0)
		*until = last.row.due_at;
	return n;
}

/*
 * The next row version, if it is among the next *limit index entries, dead
 * ones included.  False at the end, and if the limit is reached, with *limit
 * negative then.
 */
bool
pgn_scan_next_within(DeliveryScan *scan, DeliveryVersion *version, int64 *limit)
{
	for (;;)
	{
		if (!scan->scan->xs_heap_continue &&
			(--*limit < 0 || !index_getnext_tid(scan->scan, ForwardScanDirection)))
			return false;
		if (index_fetch_heap(scan->scan, scan->slot))
		{
			read_version(scan, version);
			return true;
		}
	}
}

/*
 * Count the index entries that are left of a scan, dead ones included, without
 * looking at their rows.  False if there are more than "limit".
 */
bool
pgn_scan_count(DeliveryScan *scan, int64 limit, int64 *count)
{
	for (*count = 0; *count < limit; (*count)++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!index_getnext_tid(scan->scan, ForwardScanDirection))
			return true;
	}
	return false;
}

/* When the last delivery of a lane falls due, or has done so; DT_NOBEGIN if there is none. */
TimestampTz
pgn_last_due(DeliveryTable *deliveries, int16 lane)
{
	TimestampTz last = DT_NOBEGIN;
	DeliveryScan scan;

	pgn_due_scan_begin(&scan, deliveries, lane, PG_INT64_MIN, PG_INT64_MAX);
	if (index_getnext_slot(scan.scan, BackwardScanDirection, scan.slot))
	{
		DeliveryVersion version;

		read_version(&scan, &version);
		last = version.row.due_at;
	}
	pgn_scan_end(&scan);
	return last;
}

/* End a walk. */
void
pgn_scan_end(DeliveryScan *scan)
{
	if (scan->scan)
		index_endscan(scan->scan);
	if (scan->slot)
		ExecDropSingleTupleTableSlot(scan->slot);
}

/* Is there any row version in the rest of a walk?  It is not looked at: its owner may have written anything. */
bool
pgn_scan_any(DeliveryScan *scan)
{
	return index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);
}

/*
 * Does the queue have a delivery with this key, or may it have one when open
 * transactions end?
 */
bool
pgn_delivery_is_there(DeliveryTable *deliveries, int64 message_id, int32 home)
{
	DeliveryScan scan;
	bool		found;

	pgn_message_scan_begin(&scan, deliveries, 0, 0, NULL);
	pgn_message_scan_restart(&scan, message_id, home);
	found = pgn_scan_any(&scan);
	pgn_scan_end(&scan);
	return found;
}
