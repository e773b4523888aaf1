/*
 * wakeup.h
 *		Waiting for messages, and waking those who wait.
 */
#ifndef PIGEON_WAKEUP_H
#define PIGEON_WAKEUP_H

#include "datatype/timestamp.h"

#include "delivery.h"
#include "queue.h"
#include "shared.h"

extern void pgn_wait_for_messages(Queue *queue, TimestampTz until);
extern void pgn_wait_end(void);
extern void pgn_wake_waiters(SharedQueue *shared, int64 n);
extern void pgn_wake_database(void);
extern void pgn_lower_due(SharedQueue *shared, TimestampTz due_at);
extern TimestampTz pgn_next_due(DeliveryTable *deliveries, TimestampTz now);
extern bool pgn_any_due(DeliveryTable *deliveries, TimestampTz now);

#endif							/* PIGEON_WAKEUP_H */
