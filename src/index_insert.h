/*
 * index_insert.h
 *		Entries for new row versions in the indexes of a table.
 */
#ifndef PIGEON_INDEX_INSERT_H
#define PIGEON_INDEX_INSERT_H

#include "access/genam.h"
#include "access/htup.h"
#include "utils/rel.h"

/* A set of columns, as a mask of attribute numbers. */
#define PGN_COLUMN(attnum) (UINT64CONST(1) << (attnum))

/* Also in that set: the row was not updated before. */
#define PGN_FIRST_UPDATE PGN_COLUMN(0)

extern bool pgn_index_has_column(Relation index, uint64 columns);
extern void pgn_index_insert(Relation heap, Relation index, HeapTuple *rows, int n, ItemPointerData *before);
extern bool pgn_index_insert_alone(Relation heap, Relation index, HeapTuple row);
extern bool pgn_index_insert_checked(Relation heap, Relation index, HeapTuple row,
									 IndexUniqueCheck check, bool unchanged);
extern void pgn_index_insert_versions(Relation heap, Relation index, HeapTuple *rows, int n, uint64 changed);

#endif							/* PIGEON_INDEX_INSERT_H */
