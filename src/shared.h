/*
 * shared.h
 *		What backends share of a queue: hints, wake-ups and counters.
 */
#ifndef PIGEON_SHARED_H
#define PIGEON_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/spin.h"

#include "delivery.h"
#include "frontier.h"
#include "queue.h"

typedef struct SharedQueueKey
{
	Oid			database;
	Oid			relid;
} SharedQueueKey;

/* Where to look for due deliveries in one lane; see frontier.c. */
typedef struct SharedLane
{
	pg_atomic_uint64 frontier;
	slock_t		lock;			/* for the rest, and for moving the frontier */
	TimestampTz moved_at;		/* when the frontier moved up last */
	int			nstragglers;
	TimestampTz stragglers[PGN_STRAGGLERS];
} SharedLane;

typedef struct SharedQueue
{
	SharedQueueKey key;
	SharedLane	lanes[PGN_LANES];
	pg_atomic_uint64 doubted_at;	/* when the frontiers were last checked */
} SharedQueue;

extern void pgn_shared_init(void);
extern SharedQueue *pgn_shared_queue(Queue *queue);

#endif							/* PIGEON_SHARED_H */
