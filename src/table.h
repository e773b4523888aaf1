/*
 * table.h
 *		A table and its indexes, opened for direct access.
 */
#ifndef PIGEON_TABLE_H
#define PIGEON_TABLE_H

#include "access/tableam.h"
#include "utils/rel.h"

#include "index_insert.h"

#define PGN_MAX_INDEXES 32

typedef struct PgnTable
{
	Relation	rel;
	LOCKMODE	lockmode;
	bool		has_indexes;	/* those below are open */
	bool		all_indexes;	/* and are all; not while one is being built */
	int			nindexes;
	Relation	indexes[PGN_MAX_INDEXES];
} PgnTable;

/* What a column must look like; see pgn_table_check_columns. */
typedef struct PgnColumn
{
	const char *name;
	Oid			type;
	bool		not_null;
} PgnColumn;

/* What is to be known of rows that are inserted; each array has one place for each of them. */
typedef struct PgnInserted
{
	ItemPointerData *places;	/* where they are; NULL: no need to know */
	Relation	index;			/* NULL, or one of the table's */
	ItemPointerData *before;	/* where the rows are whose entries come just
								 * before theirs in this index; invalid: not
								 * known */
} PgnInserted;

/* Makes row number i of those to be inserted. */
typedef HeapTuple (*PgnRowFunction) (TupleDesc desc, int i, void *state);

extern void pgn_begin_write(const char *function);
extern void pgn_table_open(PgnTable *table, Oid relid, LOCKMODE lockmode);
extern bool pgn_table_try_open(PgnTable *table, Oid relid, LOCKMODE lockmode);
extern char *pgn_guard_sql(const char *table);
extern void pgn_table_close(PgnTable *table, LOCKMODE lockmode);
extern void pgn_table_unlock_indexes(PgnTable *table, LOCKMODE lockmode);
extern bool pgn_table_has_columns(Relation rel, const PgnColumn *columns, int ncolumns);
extern void pgn_table_check_columns(Relation rel, const PgnColumn *columns, int ncolumns);
extern Relation pgn_table_find_index(PgnTable *table, const AttrNumber *columns, int ncolumns);
extern bool pgn_table_unique_by(PgnTable *table, const AttrNumber *columns, int ncolumns);
extern bool pgn_table_has_page(Relation rel, BlockNumber page);
extern Relation pgn_table_index(PgnTable *table, const AttrNumber *columns, int ncolumns);

extern void pgn_table_insert(PgnTable *table, HeapTuple row);
extern void pgn_table_insert_many(PgnTable *table, int n, PgnRowFunction form, void *state,
								  const PgnInserted *wanted);
extern void pgn_table_insert_rows(PgnTable *table, TupleTableSlot **slots, int nslots);
extern bool pgn_table_insert_entries(PgnTable *table, TupleTableSlot *slot, Relation alone);
extern TM_Result pgn_table_replace(PgnTable *table, ItemPointer tid, HeapTuple row, uint64 changed, bool wait);
extern void pgn_table_insert_versions(PgnTable *table, HeapTuple *rows, int n, uint64 changed);
extern TM_Result pgn_table_update(PgnTable *table, ItemPointer tid, HeapTuple row, uint64 changed, bool wait);
extern TM_Result pgn_table_delete(PgnTable *table, ItemPointer tid, bool wait);
extern int	pgn_table_replace_in_page(PgnTable *table, const ItemPointerData *tids, HeapTuple *rows, int n,
									  uint64 changed);
extern int	pgn_table_delete_in_page(PgnTable *table, const ItemPointerData *tids, int n);

#endif							/* PIGEON_TABLE_H */
