/*
 * log_scan.c
 *		Looking through a segment of the message log, which has no index.
 *
 * Deliveries know the places of their messages.  These are wrong after the log
 * was restored from a dump, copied by logical replication, or rewritten; then
 * messages are searched for.
 *
 * Whatever moved the rows, they are still nearly in the order in which they
 * were written, and that is nearly the order of message_ids: a message is in
 * disorder only with those that were sent at the same time.  So the pages are
 * halved until one is left that begins with a message that is not later, and
 * from there on the search goes to both sides, which mostly ends at once.  It
 * ends in any case with all pages looked at: how well the rows are in order
 * matters for how long it takes, and for nothing else.
 *
 * Who searches for many, or for what is not there (anybody may write deliveries
 * of messages that do not exist into a queue of his own), would look at all
 * pages many times.  So when as many pages were looked at as there are, all
 * rows are read once, and put in order.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "log.h"
#include "log_scan.h"

/* A row on a page that is locked: false if the walk has seen enough. */
typedef bool (*RowCallback) (const LogRow *row, HeapTuple tuple, Buffer buffer, void *arg);

/* Call "callback" for each row of a page, visible or not.  False if it has seen enough. */
static bool
walk_page(Relation rel, BlockNumber block, RowCallback callback, void *arg)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		more = true;
	Buffer		buffer;
	Page		page;

	CHECK_FOR_INTERRUPTS();
	buffer = ReadBuffer(rel, block);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	for (OffsetNumber offset = FirstOffsetNumber; more && offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;
		LogRow		row = {.block = block,.offset = offset};
		bool		isnull;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple.t_self, block, offset);
		row.message_id = DatumGetInt64(heap_getattr(&tuple, Anum_log_message_id, desc, &isnull));
		row.log_key = DatumGetInt64(heap_getattr(&tuple, Anum_log_log_key, desc, &isnull));
		more = callback(&row, &tuple, buffer, arg);
	}
	UnlockReleaseBuffer(buffer);
	return more;
}

/* Get ready to search a segment; costs nothing until the first search. */
void
pgn_log_search_begin(LogSearch *search, Relation rel, Snapshot snapshot)
{
	*search = (LogSearch)
	{
		.rel = rel,.nblocks = InvalidBlockNumber,.snapshot = snapshot
	};
}

/* Callback: take the first row. */
static bool
take_first(const LogRow *row, HeapTuple tuple, Buffer buffer, void *arg)
{
	*(int64 *) arg = row->message_id;
	return false;
}

/* The page where a message would be if the rows were in order. */
static BlockNumber
expected_block(LogSearch *search, int64 message_id)
{
	BlockNumber low = 0,
				high = search->nblocks;

	/* It is not before "low", nor after "high" has begun. */
	while (high - low > 1)
	{
		BlockNumber middle = low + (high - low) / 2;
		BlockNumber block = middle;
		int64		first = 0;

		while (block < high && walk_page(search->rel, block, take_first, &first))
			block++;
		search->pages += block - middle + 1;
		if (block < high && first <= message_id)
			low = block;
		else
			high = middle;
	}
	return low;
}

/* The row that is searched for on a page. */
typedef struct Wanted
{
	LogSearch  *search;
	LogRow		row;			/* its ids; its place when it is found */
} Wanted;

/* Callback: is it this row, and is that visible? */
static bool
is_other(const LogRow *row, HeapTuple tuple, Buffer buffer, void *arg)
{
	Wanted	   *wanted = arg;

	if (row->message_id != wanted->row.message_id || row->log_key != wanted->row.log_key ||
		!HeapTupleSatisfiesVisibility(tuple, wanted->search->snapshot, buffer))
		return true;
	wanted->row = *row;
	return false;
}

/* Is the row on this page? */
static bool
is_on_page(Wanted *wanted, BlockNumber block)
{
	wanted->search->pages++;
	return !walk_page(wanted->search->rel, block, is_other, wanted);
}

/* Search for a row where it should be, then ever farther from there. */
static bool
search_around(Wanted *wanted)
{
	BlockNumber nblocks = wanted->search->nblocks;
	BlockNumber middle = expected_block(wanted->search, wanted->row.message_id);

	for (BlockNumber distance = 0; distance < nblocks; distance++)
		if ((middle + distance < nblocks && is_on_page(wanted, middle + distance)) ||
			(distance > 0 && distance <= middle && is_on_page(wanted, middle - distance)))
			return true;
	return false;
}

/* Order of rows by their ids. */
static int
compare_rows(const void *a, const void *b)
{
	const LogRow *x = a;
	const LogRow *y = b;

	if (x->message_id != y->message_id)
		return x->message_id < y->message_id ? -1 : 1;
	return x->log_key < y->log_key ? -1 : x->log_key > y->log_key;
}

/* Callback: keep the row, if it is visible. */
static bool
keep(const LogRow *row, HeapTuple tuple, Buffer buffer, void *arg)
{
	LogSearch  *search = arg;

	if (!HeapTupleSatisfiesVisibility(tuple, search->snapshot, buffer))
		return true;
	if (search->nrows == search->size)
	{
		search->size *= 2;
		search->rows = repalloc_huge(search->rows, search->size * sizeof(LogRow));
	}
	search->rows[search->nrows++] = *row;
	return true;
}

/* Read all rows there are, and put them in order. */
static void
read_rows(LogSearch *search)
{
	search->size = 1024;
	search->rows = palloc(search->size * sizeof(LogRow));
	for (BlockNumber block = 0; block < search->nblocks; block++)
		(void) walk_page(search->rel, block, keep, search);
	qsort(search->rows, search->nrows, sizeof(LogRow), compare_rows);
}

/*
 * Search for the row of a message, and set block and offset of *place; false if
 * it is nowhere.  What the searches keep is in the current memory context.
 */
bool
pgn_log_search(LogSearch *search, int64 message_id, int64 log_key, LogPlace *place)
{
	Wanted		wanted = {.search = search,.row = {.message_id = message_id,.log_key = log_key}};
	const LogRow *found = &wanted.row;

	if (!BlockNumberIsValid(search->nblocks))
		search->nblocks = RelationGetNumberOfBlocks(search->rel);
	if (search->rows == NULL && search->pages > search->nblocks)
		read_rows(search);
	if (search->rows != NULL)
		found = bsearch(&wanted.row, search->rows, search->nrows, sizeof(LogRow), compare_rows);
	else if (!search_around(&wanted))
		found = NULL;
	if (found == NULL)
		return false;
	place->block = found->block;
	place->offset = found->offset;
	return true;
}

/* The first and the last message. */
typedef struct Range
{
	int64		first;
	int64		last;
} Range;

/* Callback: is it the first, or the last so far? */
static bool
widen(const LogRow *row, HeapTuple tuple, Buffer buffer, void *arg)
{
	Range	   *range = arg;

	range->first = range->last < range->first ? row->message_id : Min(range->first, row->message_id);
	range->last = Max(range->last, row->message_id);
	return true;
}

/*
 * The first and the last message of a segment, rows that nobody sees included;
 * 0 and -1 if there is none.
 */
void
pgn_log_range(Relation rel, int64 *first, int64 *last)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);
	Range		range = {.first = 0,.last = -1};

	for (BlockNumber block = 0; block < nblocks; block++)
		(void) walk_page(rel, block, widen, &range);
	*first = range.first;
	*last = range.last;
}
