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
 * triggers, row security and constraints, which would silently not run; and each time that
 * entries are made or looked for in its indexes, if one of them is on
 * expressions or has a predicate.  Plain extra indexes are maintained, which
 * also is what REINDEX CONCURRENTLY needs.  One trigger is our own: it keeps
 * those who have rights on a queue from changing its table with SQL, which
 * would let them do more than the rights are meant for.
 *
 * Updates and deletes wait for another transaction only if they are told to;
 * otherwise a row that somebody else holds is reported as such.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "page_change.h"
#include "table.h"

#define PGN_GUARD "pigeon_guard"

/* Rows that go in at once: enough to share pages and WAL records, few enough to stay in the cache. */
#define INSERT_CHUNK 128

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

/* Is the guard the only trigger, and one that minds nothing but SQL? */
static bool
is_guard(const TriggerDesc *triggers)
{
	return triggers->numtriggers == 1 &&
		triggers->triggers[0].tgtype == (TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT |
										 TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE) &&
		strcmp(triggers->triggers[0].tgname, PGN_GUARD) == 0;
}

/* The statement that keeps everybody but its owner from changing a table with SQL. */
char *
pgn_guard_sql(const char *table)
{
	return psprintf("CREATE TRIGGER " PGN_GUARD " BEFORE INSERT OR UPDATE OR DELETE ON pigeon.%s"
					" FOR EACH STATEMENT EXECUTE FUNCTION pigeon.guard_deliveries()", table);
}

/* False, or an error of this level, if the direct path would silently ignore something. */
static bool
check_table(Relation rel, int elevel)
{
	const char *what = NULL;

	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID)
		what = "it is not an ordinary table";
	else if (rel->trigdesc != NULL && !is_guard(rel->trigdesc))
		what = "it has triggers";
	else if (rel->rd_rel->relrowsecurity)
		what = "it has row-level security";
	else if (rel->rd_rules != NULL)
		what = "it has rules";
	else if (rel->rd_att->constr != NULL && rel->rd_att->constr->num_check > 0)
		what = "it has check constraints";

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
	bool		plain = index->rd_rel->relam == BTREE_AM_OID && !index->rd_index->indisexclusion &&
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

/*
 * Open the indexes of a table, if they are not; false, or an error of this
 * level, if one cannot be served.
 */
static bool
open_indexes(PgnTable *table, int elevel)
{
	List	   *indexes;
	ListCell   *lc;

	if (table->has_indexes)
		return true;
	table->has_indexes = true;
	indexes = RelationGetIndexList(table->rel);
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), table->lockmode);

		if (!index->rd_index->indisready)
		{
			index_close(index, table->lockmode);
			table->all_indexes = false;
			continue;
		}
		if (table->nindexes == PGN_MAX_INDEXES)
		{
			index_close(index, table->lockmode);
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
 * Open a table.  False, or an error of this level, if it is not one that the
 * direct path can serve; an error in any case if it was dropped.
 */
static bool
open_table(PgnTable *table, Oid relid, LOCKMODE lockmode, int elevel)
{
	table->rel = table_open(relid, lockmode);
	table->lockmode = lockmode;
	table->has_indexes = false;
	table->all_indexes = true;
	table->nindexes = 0;
	return check_table(table->rel, elevel);
}

/*
 * Open a table.  Its indexes are opened with the same lock, but not before they
 * are needed; to delete a row whose place is known takes none.  Fails if the
 * table was dropped or is not one that the direct path can serve, here or when
 * the indexes are opened.
 */
void
pgn_table_open(PgnTable *table, Oid relid, LOCKMODE lockmode)
{
	(void) open_table(table, relid, lockmode, ERROR);
}

/*
 * Open a table and its indexes with the same lock.  False, and nothing open, if
 * the direct path cannot serve the table; an error if it was dropped.
 */
bool
pgn_table_try_open(PgnTable *table, Oid relid, LOCKMODE lockmode)
{
	if (open_table(table, relid, lockmode, DEBUG1) && open_indexes(table, DEBUG1))
		return true;
	pgn_table_close(table, lockmode);
	return false;
}

/* Close a table and its indexes; NoLock keeps the locks to the end of the transaction. */
void
pgn_table_close(PgnTable *table, LOCKMODE lockmode)
{
	for (int i = 0; i < table->nindexes; i++)
		index_close(table->indexes[i], lockmode);
	table_close(table->rel, lockmode);
}

/*
 * Give back the locks on the indexes of a table that stays locked itself, which
 * keeps them from being dropped or rebuilt.
 */
void
pgn_table_unlock_indexes(PgnTable *table, LOCKMODE lockmode)
{
	for (int i = 0; i < table->nindexes; i++)
		UnlockRelationOid(RelationGetRelid(table->indexes[i]), lockmode);
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
			attr->attnotnull == columns[i].not_null;
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

/* Does an index start with these columns, in ascending order? */
static bool
starts_with(Relation index, const AttrNumber *columns, int ncolumns)
{
	Form_pg_index form = index->rd_index;

	if (form->indnkeyatts < ncolumns || memcmp(form->indkey.values, columns, ncolumns * sizeof(AttrNumber)) != 0)
		return false;
	for (int i = 0; i < ncolumns; i++)
		if (index->rd_indoption[i] != 0)
			return false;
	return true;
}

/* The valid index that starts with these columns, NULL if somebody dropped it. */
Relation
pgn_table_find_index(PgnTable *table, const AttrNumber *columns, int ncolumns)
{
	(void) open_indexes(table, ERROR);
	for (int i = 0; i < table->nindexes; i++)
		if (table->indexes[i]->rd_index->indisvalid && starts_with(table->indexes[i], columns, ncolumns))
			return table->indexes[i];
	return NULL;
}

/*
 * Is nothing but these columns (none: nothing at all) a key of the table?  An
 * index that somebody added must not refuse what we insert.
 */
bool
pgn_table_unique_by(PgnTable *table, const AttrNumber *columns, int ncolumns)
{
	(void) open_indexes(table, ERROR);
	for (int i = 0; i < table->nindexes; i++)
	{
		Form_pg_index form = table->indexes[i]->rd_index;

		if (form->indisunique &&
			(ncolumns == 0 || form->indnkeyatts < ncolumns ||
			 memcmp(form->indkey.values, columns, ncolumns * sizeof(AttrNumber)) != 0))
			return false;
	}
	return true;
}

/* The same as pgn_table_find_index, but an error if somebody dropped it. */
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

/*
 * Does a table that the caller has locked have this page?
 *
 * What the storage manager knows of the size from before, which costs no
 * system call, may be too small, but not too large: who makes a table shorter
 * has it to himself, and makes everybody forget the size before others come to
 * have a lock again.
 */
bool
pgn_table_has_page(Relation rel, BlockNumber page)
{
	BlockNumber known = RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (BlockNumberIsValid(known) && page < known) || page < RelationGetNumberOfBlocks(rel);
}

/* The row in a slot, with its place. */
static HeapTuple
row_of_slot(TupleTableSlot *slot)
{
	HeapTuple	row = ExecFetchSlotHeapTuple(slot, true, NULL);

	row->t_self = slot->tts_tid;
	return row;
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
	HeapTuple	row = row_of_slot(slot);

	(void) open_indexes(table, ERROR);
	for (int i = 0; i < table->nindexes; i++)
		if (table->indexes[i] != alone)
			(void) pgn_index_insert_checked(table->rel, table->indexes[i], row, UNIQUE_CHECK_NO, false);
	return pgn_index_insert_alone(table->rel, alone, row);
}

/* Add the entries of new rows, from row number "first" of those to be inserted on, to the indexes. */
static void
insert_entries(PgnTable *table, HeapTuple *rows, int n, int first, const PgnInserted *wanted)
{
	(void) open_indexes(table, ERROR);
	for (int i = 0; i < table->nindexes; i++)
		pgn_index_insert(table->rel, table->indexes[i], rows, n,
						 wanted && wanted->index == table->indexes[i] ? &wanted->before[first] : NULL);
	for (int i = 0; i < n && wanted && wanted->places; i++)
		wanted->places[first + i] = rows[i]->t_self;
}

/* Insert one row, and its index entries; "wanted" is as in pgn_table_insert_many. */
static void
insert_row(PgnTable *table, HeapTuple row, const PgnInserted *wanted)
{
	heap_insert(table->rel, row, GetCurrentCommandId(true), 0, NULL);
	insert_entries(table, &row, 1, 0, wanted);
}

/* Insert one row, and its index entries. */
void
pgn_table_insert(PgnTable *table, HeapTuple row)
{
	insert_row(table, row, NULL);
}

/* Insert the rows in slots in one pass, without their index entries. */
void
pgn_table_insert_rows(PgnTable *table, TupleTableSlot **slots, int nslots)
{
	heap_multi_insert(table->rel, slots, nslots, GetCurrentCommandId(true), 0, NULL);
}

/* Insert rows in one pass, and their index entries. */
static void
insert_rows(PgnTable *table, int n, PgnRowFunction form, void *state, const PgnInserted *wanted)
{
	/* A copy, since each slot would count its reference to the original. */
	TupleDesc	desc = CreateTupleDescCopy(RelationGetDescr(table->rel));
	int			nslots = Min(n, INSERT_CHUNK);
	TupleTableSlot *slots[INSERT_CHUNK];
	HeapTuple	rows[INSERT_CHUNK];
	int			chunk;

	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	for (int done = 0; done < n; done += chunk)
	{
		chunk = Min(n - done, INSERT_CHUNK);
		for (int i = 0; i < chunk; i++)
			ExecStoreHeapTuple(form(RelationGetDescr(table->rel), done + i, state), slots[i], true);
		pgn_table_insert_rows(table, slots, chunk);
		for (int i = 0; i < chunk; i++)
			rows[i] = row_of_slot(slots[i]);
		insert_entries(table, rows, chunk, done, wanted);
	}
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	FreeTupleDesc(desc);
}

/*
 * Insert n rows, and their index entries; "form" makes each of them.  It is
 * fastest if their keys rise.  "wanted" is what the caller wants to know of
 * them, NULL for nothing.
 */
void
pgn_table_insert_many(PgnTable *table, int n, PgnRowFunction form, void *state, const PgnInserted *wanted)
{
	HeapTuple	row;

	if (n != 1)
	{
		insert_rows(table, n, form, state, wanted);
		return;
	}
	row = form(RelationGetDescr(table->rel), 0, state);
	insert_row(table, row, wanted);
	heap_freetuple(row);
}

/*
 * May a row be changed without waiting?  heap_update() knows how, but a server
 * with assertions has one that nobody does.
 */
static bool
can_skip_waiting(void)
{
	static int	answer = -1;

	if (answer < 0)
		answer = strcmp(GetConfigOption("debug_assertions", false, false), "on") != 0;
	return answer;
}

/*
 * Before a row version is changed that must not be waited for: if it can only
 * be waited for, lock it, so that nobody will be.  TM_Ok, or what keeps it from
 * being changed.
 */
static TM_Result
lock_version(Relation rel, ItemPointer tid, bool *wait)
{
	HeapTupleData version = {.t_self = *tid};
	Buffer		buffer;
	TM_FailureData failure;
	TM_Result	result;

	if (*wait || can_skip_waiting())
		return TM_Ok;
	*wait = true;
	result = heap_lock_tuple(rel, &version, GetCurrentCommandId(true), LockTupleExclusive,
							 LockWaitSkip, false, &buffer, &failure);
	ReleaseBuffer(buffer);
	return result;
}

/*
 * Is one of these columns in any index, even one that is just being built?  If
 * so, an error unless all of them can be served.
 */
static bool
has_index_on(PgnTable *table, uint64 columns)
{
	Bitmapset  *indexed;
	int			member = -1;
	bool		found = false;

	for (int i = 0; i < table->nindexes; i++)
		if (pgn_index_has_column(table->indexes[i], columns))
			return true;
	if (table->has_indexes && table->all_indexes)
		return false;
	indexed = pgn_indexed_columns(table->rel);
	while (!found && (member = bms_next_member(indexed, member)) >= 0)
	{
		int			column = member + FirstLowInvalidHeapAttributeNumber;

		/* No column, but the row as a whole, is among the columns of all. */
		found = column <= 0 || (columns & PGN_COLUMN(column));
	}
	bms_free(indexed);
	if (found)
		(void) open_indexes(table, ERROR);
	return found;
}

/*
 * Replace the row versions at n places, all in one page, as far as they need no
 * index entries and nobody has to be waited for.  "changed" is the set of
 * columns that this changes; see PGN_COLUMN.  The answer is how many, from the
 * first on, were replaced.
 */
int
pgn_table_replace_in_page(PgnTable *table, const ItemPointerData *tids, HeapTuple *rows, int n, uint64 changed)
{
	return has_index_on(table, changed) ? 0 : pgn_page_update(table->rel, tids, rows, n);
}

/* Delete the row versions at n places, all in one page, as far as nobody has to be waited for; the same answer. */
int
pgn_table_delete_in_page(PgnTable *table, const ItemPointerData *tids, int n)
{
	return pgn_page_delete(table->rel, tids, n);
}

/*
 * Replace the row version at tid, but add no index entries: that is for the
 * caller to do, by pgn_table_insert_versions.  See PGN_COLUMN for "changed".
 * TM_Ok means done; any other answer that somebody else was there first and
 * nothing was done.  "wait": wait for who holds the row.
 */
TM_Result
pgn_table_replace(PgnTable *table, ItemPointer tid, HeapTuple row, uint64 changed, bool wait)
{
	TM_Result	result;

	if (pgn_table_replace_in_page(table, tid, &row, 1, changed) == 1)
		return TM_Ok;
	result = lock_version(table->rel, tid, &wait);
	if (result != TM_Ok)
		return result;
	return pgn_heap_update(table->rel, tid, row, GetCurrentCommandId(true), wait);
}

/* Add the entries of n row versions made by updates to the indexes; see PGN_COLUMN for "changed". */
void
pgn_table_insert_versions(PgnTable *table, HeapTuple *rows, int n, uint64 changed)
{
	int			in_place = 0;

	/* These are found by the entries that are there. */
	while (in_place < n && HeapTupleIsHeapOnly(rows[in_place]))
		in_place++;
	if (in_place == n)
		return;
	(void) open_indexes(table, ERROR);
	for (int i = 0; i < table->nindexes; i++)
		pgn_index_insert_versions(table->rel, table->indexes[i], rows, n, changed);
}

/* Replace the row version at tid by another, as pgn_table_replace does, and add its index entries. */
TM_Result
pgn_table_update(PgnTable *table, ItemPointer tid, HeapTuple row, uint64 changed, bool wait)
{
	TM_Result	result = pgn_table_replace(table, tid, row, changed, wait);

	if (result == TM_Ok)
		pgn_table_insert_versions(table, &row, 1, changed);
	return result;
}

/* Delete the row version at tid; "wait" and the answer are as in pgn_table_update. */
TM_Result
pgn_table_delete(PgnTable *table, ItemPointer tid, bool wait)
{
	TM_FailureData failure;
	TM_Result	result;

	if (pgn_table_delete_in_page(table, tid, 1) == 1)
		return TM_Ok;
	result = lock_version(table->rel, tid, &wait);
	if (result != TM_Ok)
		return result;
	return table_tuple_delete(table->rel, tid, GetCurrentCommandId(true),
							  InvalidSnapshot, InvalidSnapshot, wait, &failure, false);
}
