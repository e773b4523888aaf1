/*
 * fifo_receive.h
 *		Receiving from FIFO queues.
 */
#ifndef PIGEON_FIFO_RECEIVE_H
#define PIGEON_FIFO_RECEIVE_H

#include "delivery.h"

/* One look for messages that are due. */
typedef struct FifoReceive
{
	DeliveryTable *deliveries;
	TimestampTz now;
	int64		visibility_timeout; /* microseconds */
	bool		pop;			/* delete what is received */
	bool		advance;		/* advance the frontier on the way */
	int			max_messages;
	int			max_cleared;	/* by a receive that finds something */
	int			cleared;		/* expired messages and dead letters */
	Delivery   *rows;			/* what was received */
	int			found;
	int			rescheduled;	/* groups that had nothing to deliver after
								 * all */
} FifoReceive;

extern bool pgn_fifo_look_below(Queue *queue);
extern void pgn_fifo_receive(FifoReceive *receive);
extern bool pgn_fifo_sweep(DeliveryTable *deliveries, TimestampTz now, int most);
extern TimestampTz pgn_fifo_first_due(Queue *queue, TimestampTz from, TimestampTz until);
extern TimestampTz pgn_fifo_available(DeliveryTable *deliveries, TimestampTz now);

#endif							/* PIGEON_FIFO_RECEIVE_H */
