/*
 * activity.h
 *		What a transaction does to queues, told to the others when it ends.
 */
#ifndef PIGEON_ACTIVITY_H
#define PIGEON_ACTIVITY_H

#include "datatype/timestamp.h"

#include "delivery_row.h"
#include "queue.h"
#include "shared.h"

extern void pgn_activity_written(Queue *queue, TimestampTz place, TimestampTz visible_at);
extern void pgn_activity_claimed(Queue *queue, int n);
extern void pgn_activity_maintain(Queue *queue, TimestampTz at);
extern void pgn_activity_notify(Queue *queue);
extern void pgn_activity_count(Queue *queue, QueueCounter counter, int64 n);
extern void pgn_activity_count_now(Queue *queue, QueueCounter counter);
extern void pgn_activity_received(Queue *queue, const Delivery *row);
extern void pgn_activity_gone(Queue *queue, const Delivery *row);
extern void pgn_activity_job(DatabaseJob job);
extern void pgn_activity_dropped(Queue *queue);

#endif							/* PIGEON_ACTIVITY_H */
