/*
 * page_change.h
 *		Changes of the rows of one page.
 */
#ifndef PIGEON_PAGE_CHANGE_H
#define PIGEON_PAGE_CHANGE_H

#include "access/htup.h"
#include "utils/rel.h"

extern int	pgn_page_run(const ItemPointerData *tids, int n);
extern int	pgn_page_update(Relation rel, const ItemPointerData *tids, HeapTuple *rows, int n);
extern int	pgn_page_delete(Relation rel, const ItemPointerData *tids, int n);

#endif							/* PIGEON_PAGE_CHANGE_H */
