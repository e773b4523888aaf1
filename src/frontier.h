/*
 * frontier.h
 *		Where to start looking for due deliveries.
 */
#ifndef PIGEON_FRONTIER_H
#define PIGEON_FRONTIER_H

#include "datatype/timestamp.h"

#include "queue.h"

extern TimestampTz pgn_frontier(Queue *queue, int lane);
extern bool pgn_frontier_advance(Queue *queue, int lane, TimestampTz from, TimestampTz to);
extern void pgn_frontier_lower(Queue *queue, int lane, TimestampTz visible_at);
extern bool pgn_frontier_doubt(Queue *queue, TimestampTz now);

#endif							/* PIGEON_FRONTIER_H */
