/*
 * fair.h
 *		Fair queues: no tenant makes the others wait.
 */
#ifndef PIGEON_FAIR_H
#define PIGEON_FAIR_H

#include "datatype/timestamp.h"

#include "queue.h"

/* How many tenants of a queue are watched at a time. */
#define PGN_TENANTS 32

/* What a tenant has sent lately; older messages count less. */
typedef struct Tenant
{
	int64		group_key;		/* 0: nobody */
	double		load;			/* as of "at" */
	TimestampTz at;
} Tenant;

extern bool pgn_fair_noisy_first(Queue *queue);
extern int	pgn_fair_noisy_tenants(Queue *queue, TimestampTz now);
extern int16 pgn_fair_lane(Queue *queue, int64 group_key, TimestampTz now);

#endif							/* PIGEON_FAIR_H */
