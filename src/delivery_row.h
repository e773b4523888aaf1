/*
 * delivery_row.h
 *		Deliveries as rows: what they say, and how they are stored.
 */
#ifndef PIGEON_DELIVERY_ROW_H
#define PIGEON_DELIVERY_ROW_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "utils/rel.h"

#include "message.h"
#include "table.h"

/*
 * A row of a queue's table, laid out as PostgreSQL stores it: all columns are
 * of fixed width.  A row may end early; see delivery_row.c for what is then
 * meant by the columns that are not there.  What a receive changes stands together,
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
 * is a dead letter; what noisy tenants send (see fair.c) goes last, into the
 * lane of each, as far as there are enough.
 */
#define PGN_LANE_NORMAL 0
#define PGN_LANE_FINAL 1
#define PGN_LANE_RETRY 2
#define PGN_LANE_NOISY 3		/* the first of those */
#define PGN_NOISY_LANES 4
#define PGN_LANES (PGN_LANE_NOISY + PGN_NOISY_LANES)
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

extern const PgnColumn pgn_delivery_columns[Natts_delivery];

extern HeapTuple pgn_delivery_form_row(const Delivery *row);
extern HeapTuple pgn_delivery_form_row_of_array(TupleDesc desc, int i, void *rows);
extern void pgn_delivery_read_row(Relation rel, HeapTuple tuple, Delivery *row);
extern Size pgn_delivery_row_length(const Delivery *row);
extern Size pgn_delivery_lease_size(Size length);
extern bool pgn_delivery_row_is_waiting(HeapTupleHeader row);
extern void pgn_bad_row(Relation rel) __attribute__((noreturn));

#endif							/* PIGEON_DELIVERY_ROW_H */
