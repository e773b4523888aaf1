/*
 * shared.h
 *		What backends share of a queue: hints, wake-ups and counters.
 */
#ifndef PIGEON_SHARED_H
#define PIGEON_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "queue.h"

#define PGN_LANES 3				/* see delivery.h */

typedef struct SharedQueueKey
{
	Oid			database;
	Oid			relid;
} SharedQueueKey;

typedef struct SharedQueue
{
	SharedQueueKey key;
	pg_atomic_uint64 frontier[PGN_LANES];	/* see frontier.c */
	pg_atomic_uint64 doubted_at;	/* when the frontiers were last checked */
} SharedQueue;

extern void pgn_shared_init(void);
extern SharedQueue *pgn_shared_queue(Queue *queue);

#endif							/* PIGEON_SHARED_H */
