/*
 * delivery.c
 *		Deliveries: one small row per message and queue, the only rows that change.
 *
 * A receive claims a delivery by updating it without waiting: success is the
 * lock and the lease in one record, and a row somebody else holds or has
 * taken is skipped.  That is SKIP LOCKED without a separate lock step.
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
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "common/pg_prng.h"
#include "storage/bufmgr.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "compat.h"
#include "delivery.h"
#include "fair.h"
#include "frontier.h"
#include "known_place.h"
#include "message_group.h"

/* The columns that a lease in place changes, and those that other updates may change, be it from null to 0. */
#define CHANGED_IN_PLACE \
	(PGN_COLUMN(Anum_delivery_received_at) | PGN_COLUMN(Anum_delivery_lease) | \
	 PGN_COLUMN(Anum_delivery_receive_count) | PGN_COLUMN(Anum_delivery_visible_at) | \
	 PGN_COLUMN(Anum_delivery_first_received_at) | PGN_COLUMN(Anum_delivery_queue_receive_count))
#define CHANGED \
	(CHANGED_IN_PLACE | PGN_COLUMN(Anum_delivery_lane) | PGN_COLUMN(Anum_delivery_due_at) | \
	 PGN_COLUMN(Anum_delivery_subscription) | PGN_COLUMN(Anum_delivery_source))

/* What is sent and what is received of it are as long as 43 to 57; those of a group are the same. */
#define FILLFACTOR 43
#define FIFO_FILLFACTOR 50

const AttrNumber pgn_message_index[] = {Anum_delivery_message_id, Anum_delivery_home};
const AttrNumber pgn_due_index[] = {Anum_delivery_lane, Anum_delivery_due_at};
const AttrNumber pgn_group_index[] = {Anum_delivery_group_key, Anum_delivery_message_id};

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
		appendStringInfo(&sql, "%s %s%s, ", pgn_delivery_columns[i].name,
						 pgn_delivery_columns[i].type == INT8OID ? "bigint" :
						 pgn_delivery_columns[i].type == INT4OID ? "integer" :
						 pgn_delivery_columns[i].type == INT2OID ? "smallint" : "timestamptz",
						 pgn_delivery_columns[i].not_null ? " NOT NULL" : "");
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
	pgn_table_check_columns(deliveries->table.rel, pgn_delivery_columns, Natts_delivery);
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
	usable = pgn_table_has_columns(table->rel, pgn_delivery_columns, Natts_delivery) &&
		pgn_table_unique_by(table, pgn_message_index, lengthof(pgn_message_index));
	if (!usable)
		pgn_table_close(table, lockmode);
	return usable;
}

/* Are the indexes there by which we look for rows?  If not, the table is closed. */
static bool
is_indexed(DeliveryTable *deliveries, LOCKMODE lockmode)
{
	if (pgn_table_find_index(&deliveries->table, pgn_message_index, 2) &&
		pgn_table_find_index(&deliveries->table, deliveries->queue->attributes.fifo ? pgn_group_index : pgn_due_index, 2))
		return true;
	pgn_deliveries_close(deliveries, lockmode);
	return false;
}

/* Like pgn_deliveries_try_open, but the indexes by which we look for rows must be there, too. */
bool
pgn_deliveries_try_open_indexed(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode)
{
	return pgn_deliveries_try_open(deliveries, queue, lockmode) && is_indexed(deliveries, lockmode);
}

/* The same for who does not insert, and so does not care what else the owner wants to be unique. */
bool
pgn_deliveries_try_read(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode)
{
	PgnTable   *table = &deliveries->table;

	deliveries->queue = queue;
	if (!pgn_table_try_open(table, queue->relid, lockmode))
		return false;
	if (pgn_table_has_columns(table->rel, pgn_delivery_columns, Natts_delivery))
		return is_indexed(deliveries, lockmode);
	pgn_table_close(table, lockmode);
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
	if (!queue->attributes.fifo)
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
	else if (row->lane < PGN_LANE_NOISY)
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

/* Until when the queue keeps the delivery.  SQL may have said "for ever", or something else that is no time. */
TimestampTz
pgn_delivery_kept_until(const Queue *queue, const Delivery *row)
{
	TimestampTz until;

	return pg_add_s64_overflow(row->enqueued_at, queue->attributes.retention, &until) ? DT_NOEND : until;
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

		if (ItemIdIsNormal(item) && pgn_delivery_row_is_waiting((HeapTupleHeader) PageGetItem(page, item)))
			room -= pgn_delivery_lease_size(ItemIdGetLength(item));
	}
	UnlockReleaseBuffer(buffer);
	return Max(room, 0) / (MAXALIGN(length) + sizeof(ItemIdData) + pgn_delivery_lease_size(length));
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
		pgn_table_insert_many(&deliveries->table, n, pgn_delivery_form_row_of_array, (void *) rows, wanted);
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
		.index = before ? pgn_table_index(&deliveries->table, pgn_group_index, lengthof(pgn_group_index)) : NULL,
		.before = before
	};
	int			here = 0;

	if (n > 0 && rel->rd_options != NULL)
		here = room_on_page(rel, pgn_delivery_row_length(&rows[0]));
	here = Min(here, n);
	if (here > 0)
		fill_page(deliveries, rows, here, &wanted);
	if (before)
		wanted.before += here;
	if (here < n)
		pgn_table_insert_many(&deliveries->table, n - here, pgn_delivery_form_row_of_array, (void *) (rows + here), &wanted);
	for (int i = 0; i < n; i++)
	{
		pgn_frontier_lower(deliveries->queue, rows[i].lane, rows[i].due_at);
		pgn_activity_written(deliveries->queue, rows[i].due_at, rows[i].visible_at);
	}
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

	*version = pgn_delivery_form_row(row);
	deliveries->queue->changed_in = pgn_local_transaction();
	result = pgn_table_replace(&deliveries->table, tid, *version,
							   pgn_is_in_place(row) ? CHANGED_IN_PLACE : CHANGED, wait);
	if (result == TM_Ok)
		pgn_activity_claimed(deliveries->queue, 1);
	else
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
		versions[i] = pgn_delivery_form_row(&rows[i]);
	done = pgn_table_replace_in_page(&deliveries->table, tids, versions, n, CHANGED_IN_PLACE);
	for (int i = done; i < n; i++)
		heap_freetuple(versions[i]);
	if (done > 0)
		deliveries->queue->changed_in = pgn_local_transaction();
	pgn_activity_claimed(deliveries->queue, done);
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

		pgn_delivery_read_row(deliveries->table.rel, versions[i], &row);
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
	TM_Result	result;

	deliveries->queue->changed_in = pgn_local_transaction();
	result = pgn_table_delete(&deliveries->table, tid, wait);
	if (result == TM_Ok)
		pgn_activity_claimed(deliveries->queue, 1);
	return result;
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
	pgn_activity_claimed(deliveries->queue, done);
	return done;
}

/*
 * Take a delivery out of one queue and put it into another as *row says.
 * False, and nothing done, if somebody else holds it.  The other queue must
 * not have it; see pgn_delivery_is_there().
 */
bool
pgn_delivery_move(DeliveryTable *from, const DeliveryVersion *version,
				  DeliveryTable *to, const Delivery *row)
{
	ItemPointerData tid = version->tid;

	if (pgn_delivery_delete(from, &tid, false) != TM_Ok)
		return false;
	pgn_activity_gone(from->queue, &version->row);
	pgn_deliveries_insert(to, row, 1, NULL);
	/* It may be older than anything else there. */
	pgn_activity_maintain(to->queue, pgn_delivery_kept_until(to->queue, row));
	return true;
}
