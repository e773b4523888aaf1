/*
 * table.c
 *		A table and its indexes, opened for direct access.
 *
 * The hot path (send, receive, delete) works on the table and index access
 * methods: no SQL text, no planning, no executor state.  This file is the part
 * that the executor would do: keep every index of a table complete.
 *
 * The owner of a queue owns its table and can do to it what PostgreSQL lets
 * an owner do.  What would break the direct path is refused here, each time a
 * table is opened (it costs some nanoseconds): columns of another shape,
 * triggers and row security, which would silently not run, and indexes on
 * expressions or with a predicate.  Plain extra indexes are maintained, which
 * also is what REINDEX CONCURRENTLY needs.
 *
 * Updates and deletes wait for another transaction only if they are told to;
 * otherwise a row that somebody else holds is reported as such.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "table.h"

/* The index access method wants one; B-trees do not look at it. */
static IndexInfo *no_index_info = NULL;

/*
 * Every function that writes calls this first: it fails in a read-only
 * transaction or on a standby, and lets the function change rows that an
 * earlier function call of the same SQL command wrote.
 */
void
pgn_begin_write(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	CommandCounterIncrement();
}

/* False, or an error of this level, if the direct path would silently ignore something. */
static bool
check_table(Relation rel, int elevel)
{
	const char *what = NULL;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		what = "it is not an ordinary table";
	else if (rel->trigdesc != NULL)
		what = "it has triggers";
	else if (rel->rd_rel->relrowsecurity)
		what = "it has row-level security";
	else if (rel->rd_rules != NULL)
		what = "it has rules";

	if (what == NULL)
		return true;
	ereport(elevel,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" cannot be used as a queue's table: %s",
					RelationGetRelationName(rel), what),
			 errhint("Undo the change that was made to the table.")));
	return false;
}

/*
 * False, or an error of this level, if entries of the index could not be
 * formed from plain columns.
 */
static bool
check_index(Relation rel, Relation index, int elevel)
{
	bool		plain = index->rd_rel->relam == BTREE_AM_OID &&
	heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);

	for (int i = 0; plain && i < index->rd_index->indnatts; i++)
		plain = index->rd_index->indkey.values[i] > 0;
	if (!plain)
		ereport(elevel,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" on table \"%s\" is of a kind that is not supported here",
						RelationGetRelationName(index), RelationGetRelationName(rel)),
				 errdetail("Only B-tree indexes on plain columns are maintained."),
				 errhint("Drop the index.")));
	return plain;
}

/* Open the indexes of a table; false, or an error of this level, if one cannot be served. */
static bool
open_indexes(PgnTable *table, LOCKMODE lockmode, int elevel)
{
	List	   *indexes = RelationGetIndexList(table->rel);
	ListCell   *lc;

	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), lockmode);

		if (!index->rd_index->indisready)
		{
			index_close(index, lockmode);
			continue;
		}
		if (table->nindexes == PGN_MAX_INDEXES)
		{
			index_close(index, lockmode);
			ereport(elevel,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("table \"%s\" has more than %d indexes",
							RelationGetRelationName(table->rel), PGN_MAX_INDEXES)));
			return false;
		}
		table->indexes[table->nindexes++] = index;
		if (!check_index(table->rel, index, elevel))
			return false;
	}
	list_free(indexes);
	return true;
}

/*
 * Open a table and its indexes with the same lock.  False, or an error of
 * this level, if the table is not one that the direct path can serve; an
 * error in any case if it was dropped.
 */
static bool
open_table(PgnTable *table, Oid relid, LOCKMODE lockmode, int elevel)
{
	table->rel = table_open(relid, lockmode);
	table->nindexes = 0;
	if (check_table(table->rel, elevel) && open_indexes(table, lockmode, elevel))
		return true;
	pgn_table_close(table, lockmode);
	return false;
}

/*
 * Open a table and its indexes with the same lock.  Fails if the table was
 * dropped or is not one that the direct path can serve.
 */
void
pgn_table_open(PgnTable *table, Oid relid, LOCKMODE lockmode)
{
	(void) open_table(table, relid, lockmode, ERROR);
}

/* Like pgn_table_open, but false, and nothing open, if the direct path cannot serve the table. */
bool
pgn_table_try_open(PgnTable *table, Oid relid, LOCKMODE lockmode)
{
	return open_table(table, relid, lockmode, DEBUG1);
}

/* Close a table and its indexes; NoLock keeps the locks to the end of the transaction. */
void
pgn_table_close(PgnTable *table, LOCKMODE lockmode)
{
	for (int i = 0; i < table->nindexes; i++)
		index_close(table->indexes[i], lockmode);
	table_close(table->rel, lockmode);
}

/* Does the table have exactly these columns? */
bool
pgn_table_has_columns(Relation rel, const PgnColumn *columns, int ncolumns)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		same = desc->natts == ncolumns;

	for (int i = 0; same && i < ncolumns; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		same = attr->atttypid == columns[i].type && !attr->attisdropped &&
			(attr->attnotnull || !columns[i].not_null);
	}
	return same;
}

/* Fail unless the table has exactly these columns. */
void
pgn_table_check_columns(Relation rel, const PgnColumn *columns, int ncolumns)
{
	if (!pgn_table_has_columns(rel, columns, ncolumns))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("columns of table \"%s\" are not those of this version of pigeon",
						RelationGetRelationName(rel)),
				 errhint("Undo the change that was made to the table, or run ALTER EXTENSION pigeon UPDATE.")));
}

/* The valid index that starts with these columns, NULL if somebody dropped it. */
Relation
pgn_table_find_index(PgnTable *table, const AttrNumber *columns, int ncolumns)
{
	for (int i = 0; i < table->nindexes; i++)
	{
		Form_pg_index form = table->indexes[i]->rd_index;

		if (form->indisvalid && form->indnkeyatts >= ncolumns &&
			memcmp(form->indkey.values, columns, ncolumns * sizeof(AttrNumber)) == 0)
			return table->indexes[i];
	}
	return NULL;
}

/* The same, but an error if somebody dropped it. */
Relation
pgn_table_index(PgnTable *table, const AttrNumber *columns, int ncolumns)
{
	Relation	index = pgn_table_find_index(table, columns, ncolumns);

	if (index)
		return index;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("an index of table \"%s\" is missing or invalid",
					RelationGetRelationName(table->rel)),
			 errdetail("The index must start with column \"%s\".",
					   NameStr(TupleDescAttr(RelationGetDescr(table->rel), columns[0] - 1)->attname)),
			 errhint("Create it again, or REINDEX the table.")));
}

/* Add the entry of a row version to one index; the answer is that of index_insert. */
static bool
insert_index_entry(PgnTable *table, Relation index, TupleTableSlot *slot,
				   IndexUniqueCheck check, bool unchanged)
{
	Form_pg_index form = index->rd_index;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	if (no_index_info == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		no_index_info = makeNode(IndexInfo);
		MemoryContextSwitchTo(old);
	}
	for (int k = 0; k < form->indnatts; k++)
		values[k] = slot_getattr(slot, form->indkey.values[k], &isnull[k]);
	return index_insert(index, values, isnull, &slot->tts_tid, table->rel, check, unchanged,
						no_index_info);
}

/* Is the index on none of these columns? */
static bool
is_unchanged(Relation index, uint64 changed)
{
	Form_pg_index form = index->rd_index;

	for (int k = 0; k < form->indnatts; k++)
		if (changed & PGN_COLUMN(form->indkey.values[k]))
			return false;
	return true;
}

/*
 * Add the entries of a new row version to the indexes.  "changed" is the set
 * of columns an update changed; an index on none of them is told so, since a
 * B-tree then tries to drop dead versions before it splits a page.  For rows
 * that are updated once that costs more than it brings.
 *
 * A version made by an update needs no look for duplicates: the key it
 * carries was unique before.
 */
static void
insert_index_entries(PgnTable *table, TupleTableSlot *slot, bool is_update, uint64 changed)
{
	for (int i = 0; i < table->nindexes; i++)
	{
		Relation	index = table->indexes[i];
		bool		unchanged = is_update && is_unchanged(index, changed);

		(void) insert_index_entry(table, index, slot,
								  index->rd_index->indisunique && !unchanged ?
								  UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
								  unchanged && !(changed & PGN_FIRST_UPDATE));
	}
}

/*
 * Add the entries of a row to the indexes.  True if in the index "alone" there
 * is no other entry with this key whose row is there, or may be when open
 * transactions end.  That holds also while REINDEX CONCURRENTLY is
 * replacing the index, and different backends ask the old one and the new one:
 * the index that is asked comes last.
 */
bool
pgn_table_insert_entries(PgnTable *table, TupleTableSlot *slot, Relation alone)
{
	for (int i = 0; i < table->nindexes; i++)
		if (table->indexes[i] != alone)
			(void) insert_index_entry(table, table->indexes[i], slot, UNIQUE_CHECK_NO, false);
	return insert_index_entry(table, alone, slot, UNIQUE_CHECK_PARTIAL, false);
}

/* Insert one row, and its index entries. */
void
pgn_table_insert(PgnTable *table, TupleTableSlot *slot)
{
	table_tuple_insert(table->rel, slot, GetCurrentCommandId(true), 0, NULL);
	insert_index_entries(table, slot, false, 0);
}

/* Insert many rows in one pass, without their index entries. */
void
pgn_table_insert_rows(PgnTable *table, TupleTableSlot **slots, int nslots)
{
	BulkInsertState bulk;

	if (nslots == 1)
	{
		table_tuple_insert(table->rel, slots[0], GetCurrentCommandId(true), 0, NULL);
		return;
	}
	bulk = GetBulkInsertState();
	table_multi_insert(table->rel, slots, nslots, GetCurrentCommandId(true), 0, bulk);
	FreeBulkInsertState(bulk);
}

/* Insert many rows in one pass, and their index entries. */
void
pgn_table_multi_insert(PgnTable *table, TupleTableSlot **slots, int nslots)
{
	pgn_table_insert_rows(table, slots, nslots);
	for (int i = 0; i < nslots; i++)
		insert_index_entries(table, slots[i], false, 0);
}

/*
 * Replace the row version at tid; see PGN_COLUMN for "changed".  TM_Ok means
 * done; any other answer that somebody else was there first and nothing was
 * done.  "wait": wait for who holds the row.
 */
TM_Result
pgn_table_update(PgnTable *table, ItemPointer tid, TupleTableSlot *slot,
				 uint64 changed, bool wait)
{
	bool		indexes;
	TM_Result	result = pgn_tuple_update(table->rel, tid, slot, GetCurrentCommandId(true),
										  wait, &indexes);

	if (result == TM_Ok && indexes)
		insert_index_entries(table, slot, true, changed);
	return result;
}

/* Delete the row version at tid; "wait" and the answer are as in pgn_table_update. */
TM_Result
pgn_table_delete(PgnTable *table, ItemPointer tid, bool wait)
{
	TM_FailureData failure;

	return table_tuple_delete(table->rel, tid, GetCurrentCommandId(true),
							  InvalidSnapshot, InvalidSnapshot, wait, &failure, false);
}
