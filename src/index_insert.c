/*
 * index_insert.c
 *		Entries for new row versions in the indexes of a table.
 *
 * New messages have rising numbers and times, so nearly every entry goes to
 * the end of its index, and those of a batch one after the other.  So do the
 * new versions that a receive makes of the deliveries it leases: by the time
 * at which they fall due they are neighbours, by their key they go beside the
 * old versions.  The index access method cannot know that: it descends the tree
 * for each of them, looks for duplicates, and writes a WAL record.  That would
 * be half of all work of a send, and most of a batch.  So here
 *
 *	- the last leaf page is remembered where the access method remembers it for
 *	  large indexes, as the relation's target block, and tried first;
 *
 *	- entries of a batch go to a leaf page together, under one lock and with one
 *	  generic WAL record that says what has changed (see page_record.c); a
 *	  single one goes in with the record that the access method writes.
 *
 * Only the plain case is handled here: an entry whose key lies strictly between
 * those of its neighbours on a leaf page that has room.  Then there is nothing
 * to split, to deduplicate or to clean up, and a unique index cannot have the
 * key already: equal keys, of dead rows too, would be its neighbours, since the
 * page was found as the first on which the key may be, and a key equal to
 * its high key is not taken to be on it.  Where duplicates are not looked for,
 * the place of the row is the last part of the key, as in the index itself,
 * and it lies among equal ones.  Everything else (a full page, an equal key, a
 * list of rows with one key) is left to the access method.
 *
 * So what is relied on here is how to search a B-tree for a place to insert
 * (_bt_search locks the page as for any insertion, and completes a split that a
 * crash has left), that a leaf page is an array of items in order, and the
 * record of an insertion.
 *
 * Who inserts may learn which row comes before its own in an index: that is seen
 * here anyway, while a look for it later would be one more descent.
 *
 * No function of a data type that could read tables is called while a page is
 * locked, other than comparisons, and those the access method calls there,
 * too: only indexes all of whose columns are passed by value are served.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/nbtxlog.h"
#include "access/rmgr.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "storage/predicate.h"
#include "utils/memutils.h"

#include "compat.h"
#include "index_insert.h"
#include "page_record.h"

/* So many entries for one page go there together; fewer one by one. */
#define MIN_GROUP 2

/* So many pages with fewer entries mean that the keys do not rise. */
#define MAX_SCATTERED 2

/* Rows on their way into an index. */
typedef struct Insertion
{
	Relation	heap;
	Relation	index;
	bool		unique;			/* equal keys are not for us */
	BTScanInsert key;			/* of the current row */
	IndexTuple	entry;			/* of the current row */
	Buffer		buffer;			/* the leaf page, locked; invalid: none */
	Page		page;			/* it, or the copy that is worked on */
	OffsetNumber first;			/* of the entries that were added */
	OffsetNumber last;			/* the current row's entry goes after this, 0:
								 * unknown */
	int			added;			/* entries that went to the page */
	int			scattered;		/* pages that few entries went to */
	ItemPointerData before;		/* the row of the entry before the last one
								 * that was added; invalid: on another page */
} Insertion;

/* The copy of a page to which entries of a batch are added, before they go to the page itself all at once. */
static PGAlignedBlock copied_page;

/* The index access method wants one; B-trees do not look at it. */
static IndexInfo *
no_index_info(void)
{
	static IndexInfo *info = NULL;

	if (info == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		info = makeNode(IndexInfo);
		MemoryContextSwitchTo(old);
	}
	return info;
}

/* The columns of an index in a row; true if any is null. */
static bool
index_columns(Relation heap, Relation index, HeapTuple row, Datum *values, bool *isnull)
{
	Form_pg_index form = index->rd_index;
	bool		any_null = false;

	for (int i = 0; i < form->indnatts; i++)
	{
		values[i] = heap_getattr(row, form->indkey.values[i], RelationGetDescr(heap), &isnull[i]);
		any_null |= isnull[i];
	}
	return any_null;
}

/* Insert the entry of a row by the access method; the answer is that of index_insert. */
bool
pgn_index_insert_checked(Relation heap, Relation index, HeapTuple row, IndexUniqueCheck check, bool unchanged)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	(void) index_columns(heap, index, row, values, isnull);
	return index_insert(index, values, isnull, &row->t_self, heap, check, unchanged, no_index_info());
}

/* Can entries be inserted here at all? */
static bool
is_served(Relation index)
{
	TupleDesc	desc = RelationGetDescr(index);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attbyval)
			return false;
	return true;
}

/* Give the entry that is there other columns: all entries of an index that is served are of one size. */
static void
fill_entry(Insertion *insertion, Datum *values, bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(insertion->index);
	char	   *data = (char *) insertion->entry + IndexInfoFindDataOffset(insertion->entry->t_info);
	uint16		infomask = 0;

	heap_fill_tuple(desc, values, isnull, data, heap_compute_data_size(desc, values, isnull), &infomask, NULL);
}

/* Make a row the current one; false if its entry must be inserted by the access method. */
static bool
set_row(Insertion *insertion, HeapTuple row)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	if (index_columns(insertion->heap, insertion->index, row, values, isnull))
		return false;
	if (insertion->entry)
		fill_entry(insertion, values, isnull);
	else
		insertion->entry = index_form_tuple(RelationGetDescr(insertion->index), values, isnull);
	insertion->entry->t_tid = row->t_self;
	if (insertion->key == NULL)
		insertion->key = _bt_mkscankey(insertion->index, insertion->entry);

	/*
	 * Equal keys are in the order of their rows' places; or to be found,
	 * wherever those are.
	 */
	insertion->key->scantid = insertion->unique ? NULL : &insertion->entry->t_tid;
	for (int i = 0; i < insertion->key->keysz; i++)
		insertion->key->scankeys[i].sk_argument = values[i];
	return insertion->key->heapkeyspace;
}

/* Compare the current row's key with that of an item of a page. */
static inline int
compare(const Insertion *insertion, Page page, OffsetNumber offset)
{
	return _bt_compare(insertion->index, insertion->key, page, offset);
}

/* Lock the last leaf page, if it is known and the current row's entry belongs at its end. */
static bool
lock_last_page(Insertion *insertion)
{
	Relation	index = insertion->index;
	BlockNumber block = RelationGetTargetBlock(index);
	Buffer		buffer;
	Page		page;
	BTPageOpaque opaque;
	OffsetNumber last;

	if (block == InvalidBlockNumber)
		return false;
	buffer = ReadBuffer(index, block);
	_bt_lockbuf(index, buffer, BT_WRITE);
	_bt_checkpage(index, buffer);
	page = BufferGetPage(buffer);
	opaque = BTPageGetOpaque(page);
	last = PageGetMaxOffsetNumber(page);
	if (P_ISLEAF(opaque) && P_RIGHTMOST(opaque) && !P_IGNORE(opaque) &&
		last >= P_FIRSTDATAKEY(opaque) && compare(insertion, page, last) > 0)
	{
		insertion->buffer = buffer;
		return true;
	}
	_bt_relbuf(index, buffer);
	RelationSetTargetBlock(index, InvalidBlockNumber);
	return false;
}

/* Does the current row's entry belong on the page, after the last one? */
static bool
belongs_here(const Insertion *insertion)
{
	Page		page = insertion->page;

	return (insertion->last == InvalidOffsetNumber || compare(insertion, page, insertion->last) > 0) &&
		(P_RIGHTMOST(BTPageGetOpaque(page)) || compare(insertion, page, P_HIKEY) < 0);
}

/* Copy a page, but for what is free. */
static Page
copy_page(Page page)
{
	PageHeader	header = (PageHeader) page;

	memcpy(copied_page.data, page, header->pd_lower);
	memcpy(copied_page.data + header->pd_upper, page + header->pd_upper, BLCKSZ - header->pd_upper);
	return copied_page.data;
}

/* Is the page that is worked on a copy? */
static bool
is_copy(const Insertion *insertion)
{
	return insertion->page == copied_page.data;
}

/*
 * Put the entries that were added to the copy on the page itself, and write
 * them: where the page's free space is now, the items from the first new one
 * on, and the entries.
 */
static void
put_entries(Insertion *insertion)
{
	Page		page = BufferGetPage(insertion->buffer);
	char	   *copy = insertion->page;
	PageHeader	from = (PageHeader) page;
	PageHeader	to = (PageHeader) copy;
	Size		items = offsetof(PageHeaderData, pd_linp) + (insertion->first - 1) * sizeof(ItemIdData);
	PagePart	parts[] = {
		{offsetof(PageHeaderData, pd_lower), sizeof(to->pd_lower) + sizeof(to->pd_upper)},
		{items, to->pd_lower - items},
		{to->pd_upper, from->pd_upper - to->pd_upper}
	};

	START_CRIT_SECTION();
	for (int i = 0; i < lengthof(parts); i++)
		memcpy(page + parts[i].start, copy + parts[i].start, parts[i].length);
	pgn_page_record(insertion->index, insertion->buffer, parts, lengthof(parts));
	END_CRIT_SECTION();
}

/* Find and lock the page where the current row's entry would be; false if it does not belong there. */
static bool
open_page(Insertion *insertion, bool copy)
{
	bool		at_end = lock_last_page(insertion);

	if (!at_end)
		_bt_freestack(pgn_bt_search(insertion->heap, insertion->index, insertion->key,
									&insertion->buffer, BT_WRITE));
	CheckForSerializableConflictIn(insertion->index, NULL, BufferGetBlockNumber(insertion->buffer));
	insertion->page = BufferGetPage(insertion->buffer);
	if (copy)
		insertion->page = copy_page(insertion->page);
	insertion->last = at_end ? PageGetMaxOffsetNumber(insertion->page) : InvalidOffsetNumber;
	insertion->added = 0;
	return at_end || belongs_here(insertion);
}

/* Write what was added to the page, if there is one, and give it back. */
static void
close_page(Insertion *insertion)
{
	if (!BufferIsValid(insertion->buffer))
		return;
	if (is_copy(insertion) && insertion->added > 0)
		put_entries(insertion);
	_bt_relbuf(insertion->index, insertion->buffer);
	insertion->buffer = InvalidBuffer;
}

/*
 * Where it goes: between a smaller and a greater one; 0 if there is an equal
 * one.  After another of the batch it mostly is near to that, else at the end.
 */
static OffsetNumber
find_place(const Insertion *insertion)
{
	Page		page = insertion->page;
	bool		follows = insertion->last != InvalidOffsetNumber;
	OffsetNumber low = follows ? OffsetNumberNext(insertion->last) : P_FIRSTDATAKEY(BTPageGetOpaque(page));
	OffsetNumber high = OffsetNumberNext(PageGetMaxOffsetNumber(page));
	OffsetNumber place = follows ? low : high - 1;
	int			step = follows ? 1 : 0;

	/* What is below "low" is smaller, and greater what is not below "high". */
	while (low < high)
	{
		int			order = compare(insertion, page, place);

		if (order == 0)
			return InvalidOffsetNumber;
		if (order > 0)
			low = OffsetNumberNext(place);
		else
		{
			high = place;
			step = 0;
		}
		place = step > 0 ? Min(low + step, high - 1) : low + (high - low) / 2;
		step *= 2;
	}
	return low;
}

/* Put the current row's entry on the page itself, and write that. */
static void
put_entry(Insertion *insertion, OffsetNumber place, Size size)
{
	Relation	index = insertion->index;
	IndexTuple	entry = insertion->entry;
	xl_btree_insert record = {.offnum = place};

	START_CRIT_SECTION();
	if (PageAddItem(insertion->page, (Item) entry, size, place, false, false) == InvalidOffsetNumber)
		elog(PANIC, "could not add an entry to index \"%s\"", RelationGetRelationName(index));
	MarkBufferDirty(insertion->buffer);
	if (RelationNeedsWAL(index))
	{
		XLogRecPtr	lsn;

		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfBtreeInsert);
		XLogRegisterBuffer(0, insertion->buffer, REGBUF_STANDARD);
		XLogRegisterBufData(0, (char *) entry, IndexTupleSize(entry));
		lsn = XLogInsert(RM_BTREE_ID, XLOG_BTREE_INSERT_LEAF);
		PageSetLSN(insertion->page, lsn);
	}
	END_CRIT_SECTION();
}

/* Note which row the entry before this place is of. */
static void
note_row_before(Insertion *insertion, OffsetNumber place)
{
	Page		page = insertion->page;

	ItemPointerSetInvalid(&insertion->before);
	if (place > P_FIRSTDATAKEY(BTPageGetOpaque(page)))
		insertion->before =
			*BTreeTupleGetMaxHeapTID((IndexTuple) PageGetItem(page, PageGetItemId(page, OffsetNumberPrev(place))));
}

/* Add the current row's entry to the page where it belongs; false if that is for the access method. */
static bool
add_entry(Insertion *insertion)
{
	Size		size = MAXALIGN(IndexTupleSize(insertion->entry));
	OffsetNumber place;

	if (PageGetFreeSpace(insertion->page) < size)
		return false;
	place = find_place(insertion);
	if (place == InvalidOffsetNumber)
		return false;
	if (!is_copy(insertion))
		put_entry(insertion, place, size);
	else if (PageAddItem(insertion->page, (Item) insertion->entry, size, place, false, false) == InvalidOffsetNumber)
		elog(ERROR, "could not add an entry to index \"%s\"", RelationGetRelationName(insertion->index));
	if (insertion->added++ == 0)
		insertion->first = place;
	insertion->last = place;
	note_row_before(insertion, place);
	/* At the end of the last page: where the next one is likely to go. */
	if (P_RIGHTMOST(BTPageGetOpaque(insertion->page)) && place == PageGetMaxOffsetNumber(insertion->page))
		RelationSetTargetBlock(insertion->index, BufferGetBlockNumber(insertion->buffer));
	return true;
}

/*
 * Insert the current row's entry, after those before it.  "left" is the number
 * of rows that are left.  False if that is for the access method.
 */
static bool
insert_here(Insertion *insertion, int left)
{
	if (BufferIsValid(insertion->buffer) && !belongs_here(insertion))
	{
		if (insertion->added < MIN_GROUP)
			insertion->scattered++;
		close_page(insertion);
	}
	if (!BufferIsValid(insertion->buffer) &&
		!open_page(insertion, left >= MIN_GROUP && insertion->scattered < MAX_SCATTERED))
		return false;
	return add_entry(insertion);
}

/* Give back the page and the memory of insertions. */
static void
end_insertion(Insertion *insertion)
{
	close_page(insertion);
	if (insertion->key)
		pfree(insertion->key);
	if (insertion->entry)
		pfree(insertion->entry);
}

/*
 * Insert the entries of n rows; what is not plain, as "check" and "unchanged"
 * tell the access method.  Unless "before" is NULL it gets the places of the
 * rows whose entries come just before, invalid where that is not known.
 */
static void
insert_entries(Relation heap, Relation index, HeapTuple *rows, int n, IndexUniqueCheck check, bool unchanged,
			   ItemPointerData *before)
{
	Insertion	insertion = {
		.heap = heap,
		.index = index,
		.unique = check != UNIQUE_CHECK_NO,
		.buffer = InvalidBuffer
	};
	bool		served = is_served(index);

	for (int i = 0; i < n; i++)
	{
		/*
		 * One that is not in any index is found by the entries of the one
		 * before it.
		 */
		if (HeapTupleIsHeapOnly(rows[i]))
			continue;
		ItemPointerSetInvalid(&insertion.before);
		if (!served || !set_row(&insertion, rows[i]) || !insert_here(&insertion, n - i))
		{
			close_page(&insertion);
			(void) pgn_index_insert_checked(heap, index, rows[i], check, unchanged);
		}
		if (before)
			before[i] = insertion.before;
	}
	end_insertion(&insertion);
}

/*
 * Insert the entry of a new row.  True if there is no other entry with its key
 * whose row is there, or may be when open transactions end.
 */
bool
pgn_index_insert_alone(Relation heap, Relation index, HeapTuple row)
{
	Insertion	insertion = {
		.heap = heap,
		.index = index,
		.unique = true,
		.buffer = InvalidBuffer
	};
	bool		alone = is_served(index) && set_row(&insertion, row) && insert_here(&insertion, 1);

	end_insertion(&insertion);
	return alone || pgn_index_insert_checked(heap, index, row, UNIQUE_CHECK_PARTIAL, false);
}

/* Has the index one of these columns? */
bool
pgn_index_has_column(Relation index, uint64 columns)
{
	Form_pg_index form = index->rd_index;

	for (int i = 0; i < form->indnatts; i++)
		if (columns & PGN_COLUMN(form->indkey.values[i]))
			return true;
	return false;
}

/*
 * Insert the entries of n new rows.  It is fast if their keys rise.  Unless
 * "before" is NULL it gets the places of the rows before them in the index,
 * invalid where that is not known.
 */
void
pgn_index_insert(Relation heap, Relation index, HeapTuple *rows, int n, ItemPointerData *before)
{
	insert_entries(heap, index, rows, n,
				   index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, before);
}

/*
 * Insert the entries of n row versions made by updates.  It is fast if their
 * keys rise, and where those are equal, their places.  "changed" is the set of
 * columns that the updates changed; an index on none of them is told so, since
 * a B-tree then tries to drop dead versions before it splits a page.  For rows
 * that are updated once that costs more than it brings.  There such entries need
 * no look for duplicates: the keys were unique before.
 */
void
pgn_index_insert_versions(Relation heap, Relation index, HeapTuple *rows, int n, uint64 changed)
{
	bool		unchanged = !pgn_index_has_column(index, changed);

	insert_entries(heap, index, rows, n,
				   index->rd_index->indisunique && !unchanged ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				   unchanged && !(changed & PGN_FIRST_UPDATE), NULL);
}
