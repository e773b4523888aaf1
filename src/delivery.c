/*
 * delivery.c
 *		Deliveries: one small row per message and queue, the only rows that change.
 *
 * A receive claims a delivery by updating it without waiting: success is the
 * lock and the lease in one record, and a row somebody else holds or has
 * taken is skipped.  That is SKIP LOCKED without a separate lock step.
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
 *
 * Short rows.  Each message leaves two versions of its row, which stay for as
 * long as some snapshot keeps vacuum from removing them.  So a row ends before
 * the first column from which on there is nothing to say: the version that is
 * sent mostly has 9 columns, the one that is received 12 or 13, of 18.  To PostgreSQL
 * it is like a row from before these columns were added: they are null.  A
 * column that is null, wherever the row came from, means
 *
 *		visible_at				due_at
 *		first_received_at		received_at
 *		queue_receive_count		receive_count
 *		received_at				PGN_NEVER
 *		all others				0
 *
 * and in memory no column is null.
 *
 * Leases in place.  A row's place in the index of due deliveries is its lane and
 * due_at.  A lease could move it to where it falls due again; but most messages
 * are received once and then deleted, and for those it would be in vain that
 * two indexes got an entry more.  So the first lease only changes visible_at,
 * which is in no index: the new version stays with the old one on its page,
 * and is found by the entries that are there.  It "sleeps" there until it is
 * visible; sleepers.c says how it is found then, and why nobody has to look at
 * it before.  What comes back is given its own place by all that happens to it
 * later: another receive, a change of its visibility.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "compat.h"
#include "delivery.h"
#include "fair.h"
#include "frontier.h"
#include "known_place.h"
#include "message_group.h"

static const PgnColumn delivery_columns[Natts_delivery] = {
	{"message_id", INT8OID, true},
	{"log_key", INT8OID, true},
	{"enqueued_at", TIMESTAMPTZOID, true},
	{"home", INT4OID, true},
	{"log_block", INT4OID, true},
	{"segment", INT2OID, true},
	{"log_offset", INT2OID, true},
	{"lane", INT2OID, true},
	{"due_at", TIMESTAMPTZOID, true},
	{"received_at", TIMESTAMPTZOID, false},
	{"lease", INT4OID, false},
	{"receive_count", INT4OID, false},
	{"visible_at", TIMESTAMPTZOID, false},
	{"group_key", INT8OID, false},
	{"subscription", INT4OID, false},
	{"source", INT4OID, false},
	{"first_received_at", TIMESTAMPTZOID, false},
	{"queue_receive_count", INT4OID, false},
};

/* The columns that a lease in place changes, and those that other updates may change, be it from null to 0. */
#define CHANGED_IN_PLACE \
	(PGN_COLUMN(Anum_delivery_received_at) | PGN_COLUMN(Anum_delivery_lease) | \
	 PGN_COLUMN(Anum_delivery_receive_count) | PGN_COLUMN(Anum_delivery_visible_at) | \
	 PGN_COLUMN(Anum_delivery_first_received_at) | PGN_COLUMN(Anum_delivery_queue_receive_count))
#define CHANGED \
	(CHANGED_IN_PLACE | PGN_COLUMN(Anum_delivery_lane) | PGN_COLUMN(Anum_delivery_due_at) | \
	 PGN_COLUMN(Anum_delivery_subscription) | PGN_COLUMN(Anum_delivery_source))

/* Where a row ends that has the columns up to this one. */
#define END_OF(column) (offsetof(Delivery, column) + sizeof(((Delivery *) 0)->column))

static const size_t column_ends[Natts_delivery] = {
	END_OF(message_id),
	END_OF(log_key),
	END_OF(enqueued_at),
	END_OF(home),
	END_OF(log_block),
	END_OF(segment),
	END_OF(log_offset),
	END_OF(lane),
	END_OF(due_at),
	END_OF(received_at),
	END_OF(lease),
	END_OF(receive_count),
	END_OF(visible_at),
	END_OF(group_key),
	END_OF(subscription),
	END_OF(source),
	END_OF(first_received_at),
	END_OF(queue_receive_count),
};

/* What is sent and what is received of it are as long as 43 to 57; those of a group are the same. */
#define FILLFACTOR 43
#define FIFO_FILLFACTOR 50

static const AttrNumber message_index[] = {Anum_delivery_message_id, Anum_delivery_home};
static const AttrNumber due_index[] = {Anum_delivery_lane, Anum_delivery_due_at};
static const AttrNumber group_index[] = {Anum_delivery_group_key, Anum_delivery_message_id};

/*
 * The statements that create a queue's table.
 *
 * Pages of the table are filled only so far that the new versions that receives
 * write, which are longer, find room beside the old ones: that saves most of a
 * WAL record, and the entries in the indexes, and in the end no room is left
 * over.  Deduplication would only delay splits of index pages a little, at
 * some cost, since old versions are soon removed.
 */
char *
pgn_delivery_table_sql(int32 queue_id, bool fifo)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE pigeon.q_%d (", queue_id);
	for (int i = 0; i < Natts_delivery; i++)
		appendStringInfo(&sql, "%s %s%s, ", delivery_columns[i].name,
						 delivery_columns[i].type == INT8OID ? "bigint" :
						 delivery_columns[i].type == INT4OID ? "integer" :
						 delivery_columns[i].type == INT2OID ? "smallint" : "timestamptz",
						 delivery_columns[i].not_null ? " NOT NULL" : "");
	appendStringInfo(&sql, "PRIMARY KEY (message_id, home) WITH (deduplicate_items = off))"
					 " USING heap WITH (fillfactor = %d);"
					 "CREATE INDEX q_%d_%s ON pigeon.q_%d (%s) WITH (deduplicate_items = off);",
					 fifo ? FIFO_FILLFACTOR : FILLFACTOR, queue_id, fifo ? "group" : "due", queue_id,
					 fifo ? "group_key, message_id" : "lane, due_at");
	appendStringInfoString(&sql, pgn_guard_sql(psprintf("q_%d", queue_id)));
	return sql.data;
}

/* Open the table of a queue that is already locked. */
void
pgn_deliveries_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode)
{
	deliveries->queue = queue;
	pgn_table_open(&deliveries->table, queue->relid, lockmode);
	pgn_table_check_columns(deliveries->table.rel, delivery_columns, Natts_delivery);
}

/*
 * Open the table of a queue that is already locked, to insert into it on
 * behalf of somebody who has nothing to do with what the queue's owner did to
 * the table.  False, and nothing open, if an insert could not succeed.
 */
bool
pgn_deliveries_try_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode)
{
	PgnTable   *table = &deliveries->table;
	bool		usable;

	deliveries->queue = queue;
	if (!pgn_table_try_open(table, queue->relid, lockmode))
		return false;
	usable = pgn_table_has_columns(table->rel, delivery_columns, Natts_delivery) &&
		pgn_table_unique_by(table, message_index, lengthof(message_index));
	if (!usable)
		pgn_table_close(table, lockmode);
	return usable;
}

/* Like pgn_deliveries_try_open, but the indexes by which we look for rows must be there, too. */
bool
pgn_deliveries_try_open_indexed(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode)
{
	if (!pgn_deliveries_try_open(deliveries, queue, lockmode))
		return false;
	if (pgn_table_find_index(&deliveries->table, message_index, 2) &&
		pgn_table_find_index(&deliveries->table, queue->attributes.fifo ? group_index : due_index, 2))
		return true;
	pgn_deliveries_close(deliveries, lockmode);
	return false;
}

/* Close it; NoLock keeps the lock to the end of the transaction. */
void
pgn_deliveries_close(DeliveryTable *deliveries, LOCKMODE lockmode)
{
	pgn_table_close(&deliveries->table, lockmode);
}

/* A new delivery of a message for a queue, visible after "delay". */
Delivery
pgn_delivery_make(Queue *queue, const Message *message, TimestampTz now, int64 delay)
{
	Delivery	row = {0};

	row.message_id = message->message_id;
	row.log_key = message->log_key;
	row.home = queue->id;
	row.segment = message->place.segment;
	row.log_block = (int32) message->place.block;
	row.log_offset = (int16) message->place.offset;
	row.lane = PGN_LANE_NORMAL;
	row.group_key = message->group_id ? pgn_group_key(message->group_id) : 0;
	if (message->group_id && !queue->attributes.fifo)
		row.lane = pgn_fair_lane(queue, row.group_key, now);
	row.enqueued_at = now;
	row.first_received_at = PGN_NEVER;
	row.received_at = PGN_NEVER;
	pgn_delivery_show(&row, pgn_timestamp_plus(now, delay));
	return row;
}

/* Make a delivery visible from that time on, and give it its place there. */
void
pgn_delivery_show(Delivery *row, TimestampTz visible_at)
{
	row->due_at = row->visible_at = visible_at;
}

/*
 * Let a delivery of a standard queue that was received come back at that time,
 * in the lane that is for it.  Past its last receive it is a message like
 * others that keep failing: its dead-letter queue cannot take it.
 */
void
pgn_delivery_return(const Queue *queue, Delivery *row, TimestampTz visible_at)
{
	if (row->queue_receive_count == queue->attributes.max_receive_count)
		row->lane = PGN_LANE_FINAL;
	else if (row->lane != PGN_LANE_NOISY)
		row->lane = row->queue_receive_count <= PGN_FRONT_RECEIVES ? PGN_LANE_RETRY : PGN_LANE_NORMAL;
	pgn_delivery_show(row, visible_at);
}

/* Count a receive, and give the delivery a new lease; when that ends, which is for the caller to write down. */
TimestampTz
pgn_delivery_lease(Delivery *row, TimestampTz now, int64 visibility_timeout)
{
	row->receive_count++;
	row->queue_receive_count++;
	row->received_at = now;
	if (row->first_received_at == PGN_NEVER)
		row->first_received_at = now;
	do
		row->lease = (int32) pg_prng_uint32(&pg_global_prng_state);
	while (row->lease == PGN_NO_LEASE);
	return now + Max(visibility_timeout, 1);
}

/* Has the delivery outlived its queue's retention? */
bool
pgn_delivery_expired(const Queue *queue, const Delivery *row, TimestampTz now)
{
	return row->enqueued_at < now - queue->attributes.retention;
}

/* Has the message been received as often as its queue allows? */
bool
pgn_received_too_often(const Queue *queue, const Delivery *row)
{
	return queue->attributes.max_receive_count > 0 &&
		row->queue_receive_count >= queue->attributes.max_receive_count;
}

/* How many columns of the row have something to say. */
static int
columns_needed(const Delivery *row)
{
	if (row->first_received_at != row->received_at || row->queue_receive_count != row->receive_count)
		return Anum_delivery_queue_receive_count;
	if (row->source != 0 || row->subscription != 0)
		return Anum_delivery_source;
	if (row->group_key != 0)
		return Anum_delivery_group_key;
	if (row->visible_at != row->due_at)
		return Anum_delivery_visible_at;
	if (row->received_at != PGN_NEVER || row->lease != PGN_NO_LEASE || row->receive_count != 0)
		return Anum_delivery_receive_count;
	return Anum_delivery_due_at;
}

/* A delivery as the table has it. */
static HeapTuple
form_row(const Delivery *row)
{
	int			natts = columns_needed(row);
	int			hoff = MAXALIGN(SizeofHeapTupleHeader);
	size_t		size = column_ends[natts - 1];
	HeapTuple	tuple = palloc0(HEAPTUPLESIZE + hoff + size);

	tuple->t_len = hoff + size;
	tuple->t_data = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	ItemPointerSetInvalid(&tuple->t_self);
	ItemPointerSetInvalid(&tuple->t_data->t_ctid);
	tuple->t_data->t_hoff = hoff;
	HeapTupleHeaderSetNatts(tuple->t_data, natts);
	memcpy(GETSTRUCT(tuple), row, size);
	return tuple;
}

/* The same for one of an array. */
static HeapTuple
form_row_of_array(TupleDesc desc, int i, void *rows)
{
	return form_row((Delivery *) rows + i);
}

/* Has the delivery in a row never been received, nor is it being changed? */
static bool
is_waiting(HeapTupleHeader row)
{
	if (!(row->t_infomask & HEAP_XMAX_INVALID))
		return false;
	return (row->t_infomask & HEAP_HASNULL) || HeapTupleHeaderGetNatts(row) < Anum_delivery_received_at ||
		((Delivery *) ((char *) row + row->t_hoff))->received_at == PGN_NEVER;
}

/* What the version that a receive makes of a row of this length takes of a page. */
static Size
lease_size(Size length)
{
	Size		least = MAXALIGN(SizeofHeapTupleHeader) + column_ends[Anum_delivery_visible_at - 1];

	return MAXALIGN(Max(length, least)) + sizeof(ItemIdData);
}

/*
 * How many rows of this length can be added to the page where the last row
 * went, so that all deliveries there that were not received yet, and those
 * added, have room for that?
 */
static int
room_on_page(Relation rel, Size length)
{
	BlockNumber block = RelationGetTargetBlock(rel);
	ssize_t		room;
	Buffer		buffer;
	Page		page;

	if (block == InvalidBlockNumber)
		return 0;
	buffer = ReadBuffer(rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	room = PageIsNew(page) ? 0 : PageGetHeapFreeSpace(page);
	for (OffsetNumber i = PageGetMaxOffsetNumber(page); i >= FirstOffsetNumber && room > 0; i--)
	{
		ItemId		item = PageGetItemId(page, i);

		if (ItemIdIsNormal(item) && is_waiting((HeapTupleHeader) PageGetItem(page, item)))
			room -= lease_size(ItemIdGetLength(item));
	}
	UnlockReleaseBuffer(buffer);
	return Max(room, 0) / (MAXALIGN(length) + sizeof(ItemIdData) + lease_size(length));
}

/*
 * Insert deliveries into a page that has room for them, but is filled as far
 * as the table's fillfactor says.
 */
static void
fill_page(DeliveryTable *deliveries, const Delivery *rows, int n, const PgnInserted *wanted)
{
	Relation	rel = deliveries->table.rel;
	StdRdOptions *options = (StdRdOptions *) rel->rd_options;
	int			fillfactor = options->fillfactor;

	options->fillfactor = HEAP_DEFAULT_FILLFACTOR;
	PG_TRY();
	{
		pgn_table_insert_many(&deliveries->table, n, form_row_of_array, (void *) rows, wanted);
	}
	PG_FINALLY();
	{
		if ((StdRdOptions *) rel->rd_options == options)
			options->fillfactor = fillfactor;
	}
	PG_END_TRY();
}

/*
 * Insert deliveries in one pass.
 *
 * What a page is not filled with at first is for the versions that receives
 * write.  Where messages are received as fast as they are sent, those are there
 * by the time the page is left, half empty; so we go on with it.
 *
 * Unless "before" is NULL it gets the places of what comes before them in the
 * order of groups, invalid where that is not known.
 */
void
pgn_deliveries_insert(DeliveryTable *deliveries, const Delivery *rows, int n, ItemPointerData *before)
{
	Relation	rel = deliveries->table.rel;
	PgnInserted wanted = {
		.index = before ? pgn_table_index(&deliveries->table, group_index, lengthof(group_index)) : NULL,
		.before = before
	};
	int			here = 0;

	if (n > 0 && rel->rd_options != NULL)
		here = room_on_page(rel, MAXALIGN(SizeofHeapTupleHeader) + column_ends[columns_needed(&rows[0]) - 1]);
	here = Min(here, n);
	if (here > 0)
		fill_page(deliveries, rows, here, &wanted);
	if (before)
		wanted.before += here;
	if (here < n)
		pgn_table_insert_many(&deliveries->table, n - here, form_row_of_array, (void *) (rows + here), &wanted);
	for (int i = 0; i < n; i++)
	{
		pgn_frontier_lower(deliveries->queue, rows[i].lane, rows[i].due_at);
		pgn_activity_written(deliveries->queue, rows[i].due_at, rows[i].visible_at);
	}
}

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
	begin_scan(scan, deliveries, due_index, keys, 3, NULL);
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
	begin_scan(scan, deliveries, message_index, keys, 2, snapshot);
}

/* Walk over the deliveries of a message group, in order, from a message on. */
void
pgn_group_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries, int64 group_key,
					 int64 from_message_id)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(group_key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from_message_id));
	begin_scan(scan, deliveries, group_index, keys, 2, NULL);
}

/* Prepare to walk over all versions, dead ones too, of deliveries of message groups. */
void
pgn_group_scan_back_begin(DeliveryScan *scan, DeliveryTable *deliveries)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(0));
	ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(0));
	begin_scan(scan, deliveries, group_index, keys, 2, SnapshotAny);
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

/* Complain about a row that no version of pigeon has written. */
void
pgn_bad_row(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("unexpected row in table \"%s\"", RelationGetRelationName(rel)),
			 errhint("Do not write to the table other than by functions of pigeon.")));
}

/* Read a row that has nulls: one that was written by other means than ours. */
static void
read_columns(Relation rel, HeapTuple tuple, Delivery *row, bool *isnull)
{
	Datum		values[Natts_delivery];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	for (int i = 0; i < Natts_delivery; i++)
	{
		int			size = TupleDescAttr(RelationGetDescr(rel), i)->attlen;

		if (!isnull[i])
			store_att_byval((char *) row + column_ends[i] - size, values[i], size);
		else if (delivery_columns[i].not_null)
			pgn_bad_row(rel);
	}
}

/* Read a row of a queue's table. */
static void
read_row(Relation rel, HeapTuple tuple, Delivery *row)
{
	static const Delivery blank = {.received_at = PGN_NEVER};
	int			natts = HeapTupleHeaderGetNatts(tuple->t_data);
	bool		has_visible = natts >= Anum_delivery_visible_at;
	bool		has_first = natts >= Anum_delivery_first_received_at;
	bool		has_count = natts >= Anum_delivery_queue_receive_count;

	*row = blank;
	if (HeapTupleHasNulls(tuple))
	{
		bool		isnull[Natts_delivery];

		read_columns(rel, tuple, row, isnull);
		has_visible = !isnull[Anum_delivery_visible_at - 1];
		has_first = !isnull[Anum_delivery_first_received_at - 1];
		has_count = !isnull[Anum_delivery_queue_receive_count - 1];
	}
	else if (natts < Anum_delivery_due_at || natts > Natts_delivery ||
			 tuple->t_len < tuple->t_data->t_hoff + column_ends[natts - 1])
		pgn_bad_row(rel);
	else
		memcpy(row, GETSTRUCT(tuple), column_ends[natts - 1]);
	if (!has_visible || row->visible_at < row->due_at)
		row->visible_at = row->due_at;
	if (!has_first)
		row->first_received_at = row->received_at;
	if (!has_count)
		row->queue_receive_count = row->receive_count;
}

/* Copy the row version that a scan has come to. */
static void
read_version(DeliveryScan *scan, DeliveryVersion *version)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(scan->slot, false, &should_free);

	read_row(scan->deliveries->table.rel, tuple, &version->row);
	version->tid = scan->slot->tts_tid;
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
	scan->nblocks = RelationGetNumberOfBlocks(deliveries->table.rel);
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
	return ItemPointerGetBlockNumber(place) < scan->nblocks && fetch_version(scan, place, version);
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
	ExecDropSingleTupleTableSlot(scan->slot);
}

/*
 * Replace the version at tid; see pgn_delivery_update.  The new one is in no
 * index before it is given to pgn_deliveries_insert_versions, together with
 * others; the caller must do that before anything looks for it.
 */
TM_Result
pgn_delivery_replace(DeliveryTable *deliveries, ItemPointer tid, const Delivery *row, bool wait,
					 HeapTuple *version)
{
	TM_Result	result;

	*version = form_row(row);
	deliveries->queue->changed_in = pgn_local_transaction();
	result = pgn_table_replace(&deliveries->table, tid, *version,
							   pgn_is_in_place(row) ? CHANGED_IN_PLACE : CHANGED, wait);
	if (result != TM_Ok)
		heap_freetuple(*version);
	return result;
}

/*
 * Replace the versions at n places, all in one page, by leases in place; they
 * need no entries, but are to be given to pgn_deliveries_insert_versions, too.
 * The answer is how many, from the first on, could be replaced like that.
 */
int
pgn_deliveries_replace_in_page(DeliveryTable *deliveries, const ItemPointerData *tids, const Delivery *rows, int n,
							   HeapTuple *versions)
{
	int			done;

	for (int i = 0; i < n; i++)
		versions[i] = form_row(&rows[i]);
	done = pgn_table_replace_in_page(&deliveries->table, tids, versions, n, CHANGED_IN_PLACE);
	for (int i = done; i < n; i++)
		heap_freetuple(versions[i]);
	if (done > 0)
		deliveries->queue->changed_in = pgn_local_transaction();
	return done;
}

/*
 * Add the index entries of n new versions, and tell others of them.  Frees the
 * versions.  "first": none of the deliveries was received before.
 */
void
pgn_deliveries_insert_versions(DeliveryTable *deliveries, HeapTuple *versions, int n, bool first)
{
	Queue	   *queue = deliveries->queue;

	pgn_table_insert_versions(&deliveries->table, versions, n,
							  CHANGED | (first ? PGN_FIRST_UPDATE : 0));
	for (int i = 0; i < n; i++)
	{
		Delivery	row;

		read_row(deliveries->table.rel, versions[i], &row);
		pgn_place_remember(queue->relid, row.message_id, versions[i]->t_self);
		/* One in place of another has no entry of its own. */
		if (!HeapTupleIsHeapOnly(versions[i]))
			pgn_frontier_lower(queue, row.lane, row.due_at);
		pgn_activity_written(queue, row.due_at, row.visible_at);
		if (row.lane == PGN_LANE_FINAL)
			pgn_activity_maintain(queue, row.visible_at);
		heap_freetuple(versions[i]);
	}
}

/*
 * Replace the version at tid.  TM_Ok: done; anything else: somebody else was
 * first and nothing was done.  The key of a delivery never changes.
 */
TM_Result
pgn_delivery_update(DeliveryTable *deliveries, ItemPointer tid, const Delivery *row, bool wait)
{
	HeapTuple	version;
	TM_Result	result = pgn_delivery_replace(deliveries, tid, row, wait, &version);

	if (result == TM_Ok)
		pgn_deliveries_insert_versions(deliveries, &version, 1, false);
	return result;
}

/* Delete the version at tid; answers as pgn_delivery_update. */
TM_Result
pgn_delivery_delete(DeliveryTable *deliveries, ItemPointer tid, bool wait)
{
	deliveries->queue->changed_in = pgn_local_transaction();
	return pgn_table_delete(&deliveries->table, tid, wait);
}

/*
 * Delete the versions at n places, all in one page.  The answer is how many,
 * from the first on, could be deleted together.
 */
int
pgn_deliveries_delete_in_page(DeliveryTable *deliveries, const ItemPointerData *tids, int n)
{
	int			done = pgn_table_delete_in_page(&deliveries->table, tids, n);

	if (done > 0)
		deliveries->queue->changed_in = pgn_local_transaction();
	return done;
}

/*
 * Does the queue have a delivery with this key, or may it have one when open
 * transactions end?
 */
bool
pgn_delivery_is_there(DeliveryTable *deliveries, int64 message_id, int32 home)
{
	DeliveryScan scan;
	DeliveryVersion version;
	bool		found;

	pgn_message_scan_begin(&scan, deliveries, 0, 0, NULL);
	pgn_message_scan_restart(&scan, message_id, home);
	found = pgn_scan_next(&scan, &version);
	pgn_scan_end(&scan);
	return found;
}

/*
 * Take a delivery out of one queue and put it into another as *row says.
 * False, and nothing done, if somebody else holds it.  The other queue must
 * not have it; see pgn_delivery_is_there.
 */
bool
pgn_delivery_move(DeliveryTable *from, const DeliveryVersion *version,
				  DeliveryTable *to, const Delivery *row)
{
	ItemPointerData tid = version->tid;

	if (pgn_delivery_delete(from, &tid, false) != TM_Ok)
		return false;
	pgn_deliveries_insert(to, row, 1, NULL);
	/* It may be older than anything else there. */
	pgn_activity_maintain(to->queue, row->enqueued_at + to->queue->attributes.retention);
	return true;
}
