/*
 * delivery.h
 *		Deliveries: one small row per message and queue, the only rows that change.
 */
#ifndef PIGEON_DELIVERY_H
#define PIGEON_DELIVERY_H

#include "delivery_row.h"
#include "queue.h"
#include "table.h"

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
	TransactionId writer;		/* who has written it */
	bool		uncommitted;	/* that is somebody who is still open */
	bool		held;			/* being changed by somebody who is still open */
	TransactionId holder;		/* who that is */
} DeliveryVersion;

/* The columns of a queue's indexes. */
extern const AttrNumber pgn_message_index[2];
extern const AttrNumber pgn_due_index[2];
extern const AttrNumber pgn_group_index[2];

extern char *pgn_delivery_table_sql(int32 queue_id, bool fifo);
extern void pgn_deliveries_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern bool pgn_deliveries_try_open(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern bool pgn_deliveries_try_open_indexed(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern bool pgn_deliveries_try_read(DeliveryTable *deliveries, Queue *queue, LOCKMODE lockmode);
extern void pgn_deliveries_close(DeliveryTable *deliveries, LOCKMODE lockmode);
extern void pgn_deliveries_insert(DeliveryTable *deliveries, const Delivery *rows, int n,
								  ItemPointerData *before);
extern Delivery pgn_delivery_make(Queue *queue, const Message *message,
								  TimestampTz now, int64 delay);
extern void pgn_delivery_show(Delivery *row, TimestampTz visible_at);
extern void pgn_delivery_return(const Queue *queue, Delivery *row, TimestampTz visible_at);
extern TimestampTz pgn_delivery_lease(Delivery *row, TimestampTz now, int64 visibility_timeout);
extern TimestampTz pgn_delivery_kept_until(const Queue *queue, const Delivery *row);
extern bool pgn_delivery_expired(const Queue *queue, const Delivery *row, TimestampTz now);
extern bool pgn_received_too_often(const Queue *queue, const Delivery *row);
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
extern bool pgn_delivery_move(DeliveryTable *from, const DeliveryVersion *version,
							  DeliveryTable *to, const Delivery *row);

#endif							/* PIGEON_DELIVERY_H */
