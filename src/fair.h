/*
 * fair.h
 *		Fair queues: no tenant makes the others wait.
 */
#ifndef PIGEON_FAIR_H
#define PIGEON_FAIR_H

#include "datatype/timestamp.h"

#include "delivery_row.h"
#include "queue.h"

/* How many tenants of a queue are watched at a time. */
#define PGN_TENANTS 32

/* A message that was received, or is gone after that. */
typedef struct TenantMessage
{
	int64		group_key;
	TimestampTz since;			/* its first receive */
	int			change;			/* 1 or -1 */
} TenantMessage;

/* What a tenant has; what is older counts less. */
typedef struct Tenant
{
	int64		group_key;		/* 0: nobody */
	int16		lane;			/* where its messages go */
	double		sent;			/* lately, as of "at" */
	double		in_flight;		/* the same */
	TimestampTz at;
	TimestampTz sent_at;		/* the last one */
} Tenant;

extern int16 pgn_fair_lane(Queue *queue, int64 group_key, TimestampTz now);
extern bool pgn_fair_has_tenants(Queue *queue);
extern void pgn_fair_in_flight(struct SharedQueue *shared, const TenantMessage *messages, int n, TimestampTz now);
extern void pgn_fair_backlog_cleared(Queue *queue, TimestampTz now);
extern void pgn_fair_forget(Queue *queue);
extern bool pgn_fair_noisy_first(Queue *queue);
extern void pgn_fair_noisy_lanes(Queue *queue, TimestampTz now, int16 lanes[PGN_NOISY_LANES]);
extern int	pgn_fair_noisy_tenants(Queue *queue, TimestampTz now);

#endif							/* PIGEON_FAIR_H */
