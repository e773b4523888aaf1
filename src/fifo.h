/*
 * fifo.h
 *		FIFO queues: the deliveries of message groups, and their schedule.
 */
#ifndef PIGEON_FIFO_H
#define PIGEON_FIFO_H

#include "delivery_scan.h"
#include "message.h"
#include "schedule.h"

/* The groups that a call has changed, to be put in order at its end. */
typedef struct GroupSet
{
	int64	   *keys;
	int			n;
	int			size;
} GroupSet;

extern TimestampTz pgn_fifo_available_at(const Queue *queue, const Delivery *row);
extern void pgn_fifo_reschedule(DeliveryScan *groups, Schedule *schedule, int64 group_key, TimestampTz now);
extern void pgn_group_set_add(GroupSet *set, const Delivery *row);
extern void pgn_fifo_reschedule_groups(DeliveryTable *deliveries, GroupSet *set, TimestampTz now);
extern TM_Result pgn_fifo_update(DeliveryTable *deliveries, DeliveryVersion *version);
extern void pgn_fifo_change_delay(Queue *queue, int64 delay);
extern void pgn_fifo_lock_groups(const Queue *queue, const Message *messages, int n);
extern void pgn_fifo_insert(DeliveryTable *deliveries, const Delivery *rows, int n, TimestampTz now);
extern bool pgn_fifo_move(DeliveryTable *from, const DeliveryVersion *version,
						  DeliveryTable *to, const Delivery *row, TimestampTz now,
						  bool patient, bool *changed);

#endif							/* PIGEON_FIFO_H */
