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

/* What a scan from the frontier on met; places that were not met are at infinity. */
typedef struct FrontierMet
{
	TimestampTz first;			/* the first that is neither dead nor asleep */
	TimestampTz first_free;		/* the first of those that nobody holds */
	int			nheld;
	TimestampTz held[PGN_STRAGGLERS];	/* those before first_free */
} FrontierMet;

/* A place in a lane. */
typedef struct FrontierPlace
{
	Queue	   *queue;
	int			lane;
	TimestampTz place;
} FrontierPlace;

extern void pgn_frontier_read(Queue *queue, int lane, TimestampTz now, Frontier *frontier);
extern void pgn_frontier_met_nothing(FrontierMet *met);
extern void pgn_frontier_meet(FrontierMet *met, TimestampTz place, bool held);
extern TimestampTz pgn_frontier_reach(const Frontier *frontier, const FrontierMet *met, TimestampTz now);
extern bool pgn_frontier_advance(Queue *queue, int lane, TimestampTz now, const Frontier *from,
								 TimestampTz to, const FrontierMet *met, const SleeperList *asleep);
extern bool pgn_frontier_forget(Queue *queue, int lane, TimestampTz now, TimestampTz straggler,
								const SleeperList *asleep);
extern bool pgn_frontier_covers(Queue *queue, int lane, TimestampTz place, TimestampTz visible_at);
extern void pgn_frontier_lower(Queue *queue, int lane, TimestampTz place);
extern void pgn_frontier_lower_in_cleanup(int code, Datum arg);
extern bool pgn_frontier_doubt(Queue *queue, TimestampTz now);

#endif							/* PIGEON_FRONTIER_H */
