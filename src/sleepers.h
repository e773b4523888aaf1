/*
 * sleepers.h
 *		Where deliveries that were leased in place wait for the end of their leases.
 */
#ifndef PIGEON_SLEEPERS_H
#define PIGEON_SLEEPERS_H

#include "datatype/timestamp.h"

#include "queue.h"

/* How many ranges a lane can have. */
#define PGN_SLEEPERS 32

/* The usual visibility timeout of a queue is that of its own, at first; see pgn_sleepers_expected. */
#define PGN_QUEUE_TIMEOUT (-1)
#define PGN_MOST_VOTES 8

/* A part of a lane below the frontier in which nothing is visible before "until". */
typedef struct Sleepers
{
	TimestampTz from,			/* both places included */
				to;
	TimestampTz until;
	uint64		number;			/* of its last change in the lane; not for
								 * callers */
} Sleepers;

/* Ranges, those of a lane protected by its lock. */
typedef struct SleeperList
{
	int			n;
	uint64		changes;
	Sleepers	ranges[PGN_SLEEPERS];
} SleeperList;

/* Not even one. */
#define PGN_NO_SLEEPERS ((Sleepers) {.from = PG_INT64_MAX, .to = PG_INT64_MIN, .until = PG_INT64_MAX})

extern void pgn_sleepers_init(SleeperList *list);
extern void pgn_sleepers_add(SleeperList *list, const Sleepers *sleepers, TimestampTz now);
extern void pgn_sleepers_extend(SleeperList *list, TimestampTz place, TimestampTz until, bool follows);
extern void pgn_sleepers_add_all(SleeperList *list, const SleeperList *others, TimestampTz now);
extern TimestampTz pgn_sleepers_first(const SleeperList *list, TimestampTz now);
extern bool pgn_sleepers_cover(const SleeperList *list, TimestampTz place, TimestampTz visible_at);
extern int	pgn_sleepers_due(Queue *queue, int lane, TimestampTz now, Sleepers due[PGN_SLEEPERS]);
extern void pgn_sleepers_replace(Queue *queue, int lane, TimestampTz now, const Sleepers *looked_at,
								 const SleeperList *asleep, const SleeperList *awake);
extern bool pgn_sleepers_expected(Queue *queue, int64 visibility_timeout);
extern TimestampTz pgn_sleepers_next(Queue *queue, int lane, TimestampTz now);
extern Sleepers pgn_sleepers_all(Queue *queue, int lane);

#endif							/* PIGEON_SLEEPERS_H */
