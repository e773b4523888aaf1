/*
 * receive_attempt.h
 *		Receives from FIFO queues that can be repeated.
 */
#ifndef PIGEON_RECEIVE_ATTEMPT_H
#define PIGEON_RECEIVE_ATTEMPT_H

#include "delivery.h"

/* How long a receive can be repeated. */
#define PGN_ATTEMPT_LIFETIME (5 * USECS_PER_MINUTE)

extern bool pgn_attempt_begin(const Queue *queue, const text *attempt_id);
extern Delivery *pgn_attempt_repeat(DeliveryTable *deliveries, text *attempt_id, TimestampTz now,
									int64 visibility_timeout, int *n, TimestampTz *expires_at);
extern void pgn_attempt_record(const Queue *queue, text *attempt_id, const Delivery *rows, int n,
							   TimestampTz expires_at);
extern void pgn_attempts_expire(const Queue *queue);

#endif							/* PIGEON_RECEIVE_ATTEMPT_H */
