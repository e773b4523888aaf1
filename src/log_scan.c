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
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

#include "log.h"
#include "log_scan.h"

/* A page of a segment, pinned and share-locked. */
typedef struct LogPage
{
	Relation	rel;
	Buffer		buffer;
	Page		page;
} LogPage;

/* Pin and lock a page. */
static void
open_page(LogPage *page, Relation rel, BlockNumber block)
{
	CHECK_FOR_INTERRUPTS();
	page->rel = rel;
	page->buffer = ReadBuffer(rel, block);
	LockBuffer(page->buffer, BUFFER_LOCK_SHARE);
	page->page = BufferGetPage(page->buffer);
}

/* Get the row at an offset of a page, and its message_id; false if there is none. */
static bool
row_at(const LogPage *page, OffsetNumber offset, HeapTuple row, int64 *message_id)
{
	ItemId		item = PageGetItemId(page->page, offset);
	bool		isnull;

	if (!ItemIdIsNormal(item))
		return false;
	row->t_data = (HeapTupleHeader) PageGetItem(page->page, item);
	row->t_len = ItemIdGetLength(item);
	row->t_tableOid = RelationGetRelid(page->rel);
	ItemPointerSet(&row->t_self, BufferGetBlockNumber(page->buffer), offset);
	*message_id = DatumGetInt64(heap_getattr(row, Anum_log_message_id, RelationGetDescr(page->rel), &isnull));
	return true;
}

/* The first message of a page; false if there is none. */
static bool
first_message(Relation rel, BlockNumber block, int64 *message_id)
{
	LogPage		page;
	HeapTupleData row;
	bool		found = false;

	open_page(&page, rel, block);
	for (OffsetNumber offset = FirstOffsetNumber; !found && offset <= PageGetMaxOffsetNumber(page.page); offset++)
		found = row_at(&page, offset, &row, message_id);
	UnlockReleaseBuffer(page.buffer);
	return found;
}

/* Is a row that of the message that is searched for, and visible? */
static bool
is_wanted(const LogSearch *search, HeapTuple row, Buffer buffer)
{
	bool		isnull;

	return DatumGetInt64(heap_getattr(row, Anum_log_log_key, RelationGetDescr(search->rel), &isnull)) == search->log_key &&
		HeapTupleSatisfiesVisibility(row, search->snapshot, buffer);
}

/* Is the row of the message on a page?  Then *place is where. */
static bool
is_on_page(const LogSearch *search, BlockNumber block, LogPlace *place)
{
	LogPage		page;
	bool		found = false;

	open_page(&page, search->rel, block);
	for (OffsetNumber offset = FirstOffsetNumber; !found && offset <= PageGetMaxOffsetNumber(page.page); offset++)
	{
		HeapTupleData row;
		int64		message_id;

		found = row_at(&page, offset, &row, &message_id) && message_id == search->message_id &&
			is_wanted(search, &row, page.buffer);
		if (found)
		{
			place->block = block;
			place->offset = offset;
		}
	}
	UnlockReleaseBuffer(page.buffer);
	return found;
}

/* The page where the message would be if the rows were in order. */
static BlockNumber
expected_block(const LogSearch *search)
{
	BlockNumber low = 0,
				high = search->nblocks;

	/* It is not before "low", nor after "high" has begun. */
	while (high - low > 1)
	{
		BlockNumber middle = low + (high - low) / 2;
		BlockNumber block = middle;
		int64		first = 0;

		while (block < high && !first_message(search->rel, block, &first))
			block++;
		if (block < high && first <= search->message_id)
			low = block;
		else
			high = middle;
	}
	return low;
}

/* Search a segment for the row of a message, and set block and offset of *place; false if it is nowhere. */
bool
pgn_log_search(const LogSearch *search, LogPlace *place)
{
	BlockNumber middle = expected_block(search);

	for (BlockNumber distance = 0; distance < search->nblocks; distance++)
		if ((middle + distance < search->nblocks && is_on_page(search, middle + distance, place)) ||
			(distance > 0 && distance <= middle && is_on_page(search, middle - distance, place)))
			return true;
	return false;
}

/*
 * The first and the last message of a segment, rows that nobody sees included;
 * 0 and -1 if there is none.
 */
void
pgn_log_range(Relation rel, int64 *first, int64 *last)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(rel);

	*first = 0;
	*last = -1;
	for (BlockNumber block = 0; block < nblocks; block++)
	{
		LogPage		page;

		open_page(&page, rel, block);
		for (OffsetNumber offset = FirstOffsetNumber; offset <= PageGetMaxOffsetNumber(page.page); offset++)
		{
			HeapTupleData row;
			int64		message_id;

			if (!row_at(&page, offset, &row, &message_id))
				continue;
			*first = *last < *first ? message_id : Min(*first, message_id);
			*last = Max(*last, message_id);
		}
		UnlockReleaseBuffer(page.buffer);
	}
}
