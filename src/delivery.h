/*
 * delivery.h
 *		Deliveries: one small row per message and queue, the only rows that change.
 */
#ifndef PIGEON_DELIVERY_H
#define PIGEON_DELIVERY_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "message.h"
#include "queue.h"
#include "table.h"

/*
 * A row of a queue's table, laid out as PostgreSQL stores it: all columns are
 * of fixed width.  A row may end early; see delivery.c for what is then meant by
 * the columns that are not there.  What a receive changes stands together,
 * since WAL holds only the part of a row that changed.
 */
typedef struct Delivery
{
	/* Every row has these. */
	int64		message_id;
	int64		log_key;		/* must be that of the log row */
	TimestampTz enqueued_at;	/* retention counts from here */
	int32		home;			/* queue the delivery was first made for */
	int32		log_block;		/* where the message was written to */
	int16		segment;
	int16		log_offset;
	int16		lane;			/* see below */
	TimestampTz due_at;			/* its place in the lane; see below */
	/* What was received has these. */
	TimestampTz received_at;	/* last receive, PGN_NEVER before the first */
	int32		lease;			/* random number of the last receive in this
								 * queue */
	int32		receive_count;	/* since it was sent or redriven */
	TimestampTz visible_at;		/* not before due_at */
	/* What is of a group. */
	int64		group_key;		/* see message_group.c; 0: no group */
	/* What came from a topic, or to a dead-letter queue. */
	int32		subscription;	/* 0: none; negative: deliver in an envelope */
	int32		source;			/* queue it was dead-lettered from; 0: none */
	/* What was received more than once. */
	TimestampTz first_received_at;	/* PGN_NEVER before the first receive */
	int32		queue_receive_count;	/* since it entered this queue */
} Delivery;

#define PGN_NEVER DT_NOBEGIN

/* The lease of a delivery that was not received since it entered its queue. */
#define PGN_NO_LEASE 0

/* Have two row versions the same key?  A scan can meet a row twice if it is updated meanwhile. */
#define pgn_same_delivery(a, b) ((a)->message_id == (b)->message_id && (a)->home == (b)->home)

/* Is the message to be delivered in an envelope? */
#define pgn_in_envelope(delivery) ((delivery)->subscription < 0)

/*
 * Where a delivery is served when it is due.  What was received once or twice
 * and comes back goes first; what comes back from its last allowed receive
 * is a dead letter; what a noisy tenant sends (see fair.c) goes last.  Leases are the highest in the index, since appending to
 * its end is cheapest.
 */
#define PGN_LANE_NORMAL 0
#define PGN_LANE_FINAL 1
#define PGN_LANE_RETRY 2
#define PGN_LANE_NOISY 3
#define PGN_LANES 4
#define PGN_FRONT_RECEIVES 2

/*
 * A delivery mostly stands where it is due: visible_at is due_at.  One that is
 * leased in place keeps its place instead, and sleeps until it is visible; see
 * delivery.c.
 */
#define pgn_is_asleep(delivery, now) ((delivery)->visible_at > (now))
#define pgn_is_in_place(delivery) ((delivery)->visible_at != (delivery)->due_at)

/* Columns of a queue's table, in order. */
enum
{
	Anum_delivery_message_id = 1,
	Anum_delivery_log_key,
	Anum_delivery_enqueued_at,
	Anum_delivery_home,
	Anum_delivery_log_block,
	Anum_delivery_segment,
	Anum_delivery_log_offset,
	Anum_delivery_lane,
	Anum_delivery_due_at,
	Anum_delivery_received_at,
	Anum_delivery_lease,
	Anum_delivery_receive_count,
	Anum_delivery_visible_at,
	Anum_delivery_group_key,
	Anum_delivery_subscription,
	Anum_delivery_source,
	Anum_delivery_first_received_at,
	Anum_delivery_queue_receive_count,
	Natts_delivery = Anum_delivery_queue_receive_count
};

/* Where the message of a delivery was written to. */
static inline LogPlace
pgn_log_place(int32 log_block, int16 segment, int16 log_offset)
{
	return (LogPlace)
	{
		.segment = segment,.offset = (OffsetNumber) log_offset,.block = (BlockNumber) log_block
	};
}

/* The table of a queue, open. */
typedef struct DeliveryTable
{
	Queue	   *queue;
	PgnTable	table;
} DeliveryTable;

/* A row version that was found. */
typedef struct DeliveryVersion
{
	Delivery	row;
	ItemPointerData tid;
	bool		uncommitted;	/* written by somebody who is still open */
	bool		held;			/* being changed by somebody who is still open */
	TransactionId holder;		/* who that is */
} DeliveryVersion;

/* A walk over the deliveries of a queue. */
typedef struct DeliveryScan
{
	DeliveryTable *deliveries;
	IndexScanDesc scan;			/* NULL if it is of places */
	bool		first_versions; /* of each entry of the index only the first
								 * that is not dead */
	BlockNumber nblocks;		/* of the table, if it is of places */
	TupleTableSlot *slot;
	SnapshotData dirty;
} DeliveryScan;

extern char *pgn_delivery_table_sql(int32 queue_id, bool fifo);
extern void pgn_deliveries_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern bool pgn_deliveries_try_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern bool pgn_deliveries_try_open_indexed(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern void pgn_deliveries_close(DeliveryTable *deliveries, LOCKMODE lockmode);
extern void pgn_deliveries_insert(DeliveryTable *deliveries, const Delivery *rows, int n,
								  ItemPointerData *before);
extern Delivery pgn_delivery_make(Queue *queue, const Message *message,
								  TimestampTz now, int64 delay);
extern void pgn_delivery_show(Delivery *row, TimestampTz visible_at);
extern void pgn_delivery_return(const Queue *queue, Delivery *row, TimestampTz visible_at);
extern TimestampTz pgn_delivery_lease(Delivery *row, TimestampTz now, int64 visibility_timeout);
extern bool pgn_delivery_expired(const Queue *queue, const Delivery *row, TimestampTz now);
extern bool pgn_received_too_often(const Queue *queue, const Delivery *row);
extern void pgn_due_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries, int16 lane,
							   TimestampTz from, TimestampTz until);
extern void pgn_message_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries,
								   int64 from_message_id, int64 to_message_id, Snapshot snapshot);
extern void pgn_group_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries, int64 group_key,
								 int64 from_message_id);
extern void pgn_group_scan_back_begin(DeliveryScan *scan, DeliveryTable *deliveries);
extern void pgn_group_scan_back_restart(DeliveryScan *scan, int64 group_key, int64 to_message_id);
extern void pgn_message_scan_range(DeliveryScan *scan, int64 from_message_id, int64 to_message_id);
extern void pgn_message_scan_restart(DeliveryScan *scan, int64 message_id, int32 home);
extern void pgn_place_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries);
extern bool pgn_scan_place(DeliveryScan *scan, ItemPointer place, DeliveryVersion *version);
extern bool pgn_scan_known(DeliveryScan *scan, int64 message_id, int32 home, DeliveryVersion *version);
extern void pgn_scan_skip_versions(DeliveryScan *scan);
extern int	pgn_scan_ahead(DeliveryScan *scan, ItemPointerData *places, int max, TimestampTz *until);
extern bool pgn_scan_next(DeliveryScan *scan, DeliveryVersion *version);
extern bool pgn_scan_next_within(DeliveryScan *scan, DeliveryVersion *version, int64 *limit);
extern bool pgn_scan_count(DeliveryScan *scan, int64 limit, int64 *count);
extern TimestampTz pgn_last_due(DeliveryTable *deliveries, int16 lane);
extern void pgn_bad_row(Relation rel) __attribute__((noreturn));
extern void pgn_scan_end(DeliveryScan *scan);
extern TM_Result pgn_delivery_replace(DeliveryTable *deliveries, ItemPointer tid,
									  const Delivery *row, bool wait, HeapTuple *version);
extern int	pgn_deliveries_replace_in_page(DeliveryTable *deliveries, const ItemPointerData *tids,
										   const Delivery *rows, int n, HeapTuple *versions);
extern int	pgn_deliveries_delete_in_page(DeliveryTable *deliveries, const ItemPointerData *tids, int n);
extern void pgn_deliveries_insert_versions(DeliveryTable *deliveries, HeapTuple *versions, int n,
										   bool first);
extern TM_Result pgn_delivery_update(DeliveryTable *deliveries, ItemPointer tid,
									 const Delivery *row, bool wait);
extern TM_Result pgn_delivery_delete(DeliveryTable *deliveries, ItemPointer tid, bool wait);
extern bool pgn_delivery_is_there(DeliveryTable *deliveries, int64 message_id, int32 home);
extern bool pgn_delivery_move(DeliveryTable *from, const DeliveryVersion *version,
							  DeliveryTable *to, const Delivery *row);

#endif							/* PIGEON_DELIVERY_H */
