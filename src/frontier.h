/*
 * frontier.h
 *		Where to start looking for due deliveries.
 */
#ifndef PIGEON_FRONTIER_H
#define PIGEON_FRONTIER_H

#include "datatype/timestamp.h"

#include "queue.h"
#include "sleepers.h"

/* How many held deliveries a frontier can leave behind. */
#define PGN_STRAGGLERS 32

/* Where a scan of a lane has to look: from the frontier on, and at the stragglers. */
typedef struct Frontier
{
	TimestampTz at;
	bool		stuck;			/* it has not moved for a while */
	int			nstragglers;
	TimestampTz stragglers[PGN_STRAGGLERS];
} Frontier;

/* A place in a lane. */
typedef struct FrontierPlace
{
	Queue	   *queue;
	int			lane;
	TimestampTz place;
} FrontierPlace;

extern void pgn_frontier_read(Queue *queue, int lane, TimestampTz now, Frontier *frontier);
extern bool pgn_frontier_advance(Queue *queue, int lane, TimestampTz now, const Frontier *from,
								 TimestampTz to, const TimestampTz *left_behind, int nleft_behind,
								 const SleeperList *asleep);
extern bool pgn_frontier_forget(Queue *queue, int lane, TimestampTz now, TimestampTz straggler,
								const SleeperList *asleep);
extern bool pgn_frontier_covers(Queue *queue, int lane, TimestampTz place, TimestampTz visible_at);
extern void pgn_frontier_lower(Queue *queue, int lane, TimestampTz place);
extern void pgn_frontier_lower_in_cleanup(int code, Datum arg);
extern bool pgn_frontier_doubt(Queue *queue, TimestampTz now);

#endif							/* PIGEON_FRONTIER_H */
