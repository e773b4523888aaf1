/*
 * page_change.h
 *		Changes of many rows of one page at once.
 */
#ifndef PIGEON_PAGE_CHANGE_H
#define PIGEON_PAGE_CHANGE_H

#include "access/htup.h"
#include "utils/rel.h"

/* For fewer rows a change of each costs no more. */
#define PGN_MIN_PAGE_CHANGES 10

extern int	pgn_page_run(const ItemPointerData *tids, int n);
extern int	pgn_page_update(Relation rel, const ItemPointerData *tids, HeapTuple *rows, int n);
extern int	pgn_page_delete(Relation rel, const ItemPointerData *tids, int n);

#endif							/* PIGEON_PAGE_CHANGE_H */
