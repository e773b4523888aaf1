/*
 * candidates.h
 *		The deliveries that are due next, for receivers to share.
 */
#ifndef PIGEON_CANDIDATES_H
#define PIGEON_CANDIDATES_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/itemptr.h"
#include "storage/spin.h"

#include "queue.h"

#define PGN_CANDIDATES 128

/* The candidates of a queue, in shared memory; see candidates.c. */
typedef struct Candidates
{
	slock_t		lock;			/* for everything */
	pg_atomic_uint64 until;		/* when the last one was due; PG_INT64_MIN if
								 * there is none */
	TimestampTz collected_at;
	TimestampTz good_until;		/* something may come before them then */
	Oid			file;			/* that the places are in */
	int			next;
	int			end;
	ItemPointerData places[PGN_CANDIDATES];
} Candidates;

extern void pgn_candidates_init(Candidates *candidates);
extern bool pgn_candidates_take(Queue *queue, Oid file, TimestampTz now, ItemPointer place);
extern bool pgn_candidates_wanted(Queue *queue);
extern void pgn_candidates_offer(Queue *queue, Oid file, TimestampTz now, TimestampTz good_until,
								 TimestampTz until, const ItemPointerData *places, int n);
extern void pgn_candidates_limit(Candidates *candidates, TimestampTz now, TimestampTz good_until);
extern void pgn_candidates_discard(Candidates *candidates, TimestampTz from);

#endif							/* PIGEON_CANDIDATES_H */
