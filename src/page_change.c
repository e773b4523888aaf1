/*
 * page_change.c
 *		Changes of many rows of one page at once.
 *
 * The deliveries that a batch receives or deletes stand next to each other in
 * their table.  The table access method changes them one after another: each
 * time it finds and locks the page and writes a WAL record.  Here those of one
 * page are changed together, under one lock and with one generic WAL record
 * that says what has changed, which any server can replay.
 *
 * Only the plain case is handled: a row version that is committed and that
 * nobody has locked, changed or deleted, not even a transaction that failed and
 * left its traces; whose new version fits on the page, and changes no column of
 * any index, so that it needs no entries there; on a page that is not marked
 * as visible to all; in a table that is not decoded for logical replication,
 * which knows nothing of generic records.  Then a row is changed as
 * heap_update() and heap_delete() would do it, and there is nobody to wait for.
 * Rows are taken in the caller's order up to the first that is not plain; that
 * is left to him, with all that follow.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"

#include "compat.h"
#include "page_change.h"

/* A page whose rows are changed. */
typedef struct PageChange
{
	Relation	rel;
	Buffer		buffer;			/* locked */
	BlockNumber block;
	TransactionId xid;
	CommandId	cid;
	GenericXLogState *xlog;
	Page		page;			/* a copy that is worked on */
} PageChange;

/* How many of n places, from the first on, are on its page. */
int
pgn_page_run(const ItemPointerData *tids, int n)
{
	int			run = Min(n, 1);

	while (run < n && ItemPointerGetBlockNumber(&tids[run]) == ItemPointerGetBlockNumber(&tids[0]))
		run++;
	return run;
}

/* Is there a row version at this place that can be changed here? */
static bool
is_plain(PageChange *change, ItemPointerData tid)
{
	Page		page = BufferGetPage(change->buffer);
	OffsetNumber offset = ItemPointerGetOffsetNumber(&tid);
	ItemId		item;
	HeapTupleData row;

	if (offset > PageGetMaxOffsetNumber(page))
		return false;
	item = PageGetItemId(page, offset);
	if (!ItemIdIsNormal(item))
		return false;
	row.t_self = tid;
	row.t_tableOid = RelationGetRelid(change->rel);
	row.t_data = (HeapTupleHeader) PageGetItem(page, item);
	row.t_len = ItemIdGetLength(item);
	return (row.t_data->t_infomask & HEAP_XMAX_INVALID) != 0 &&
		HeapTupleSatisfiesUpdate(&row, change->cid, change->buffer) == TM_Ok &&
		!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row.t_data));
}

/*
 * Lock the page of n places, and get ready to change it, if it has room for
 * "size" bytes.  The answer is at how many of them, from the first on, row
 * versions can be changed; too few are none.
 */
static int
begin_change(PageChange *change, Relation rel, const ItemPointerData *tids, int n, Size size)
{
	int			plain = 0;

	change->rel = rel;
	change->xlog = NULL;
	change->buffer = InvalidBuffer;
	if (n < PGN_MIN_PAGE_CHANGES || RelationIsLogicallyLogged(rel))
		return 0;
	change->block = ItemPointerGetBlockNumber(&tids[0]);
	change->xid = GetCurrentTransactionId();
	change->cid = GetCurrentCommandId(true);
	change->buffer = ReadBuffer(rel, change->block);
	LockBuffer(change->buffer, BUFFER_LOCK_EXCLUSIVE);
	if (PageIsAllVisible(BufferGetPage(change->buffer)) || PageGetHeapFreeSpace(BufferGetPage(change->buffer)) < size)
		return 0;
	while (plain < n && is_plain(change, tids[plain]))
	{
		ItemPointerData tid = tids[plain++];

		CheckForSerializableConflictIn(rel, &tid, change->block);
	}
	if (plain < PGN_MIN_PAGE_CHANGES)
		return 0;

	/*
	 * As for any change: nobody may put us into a multixact that is older
	 * than that.
	 */
	MultiXactIdSetOldestMember();
	change->xlog = GenericXLogStart(rel);
	change->page = GenericXLogRegisterBuffer(change->xlog, change->buffer, 0);
	return plain;
}

/* Write what was changed, so many rows, and give the page back. */
static void
end_change(PageChange *change, int done)
{
	if (change->xlog && done == 0)
		GenericXLogAbort(change->xlog);
	else if (change->xlog)
	{
		PageSetPrunable(change->page, change->xid);
		GenericXLogFinish(change->xlog);
	}
	if (BufferIsValid(change->buffer))
		UnlockReleaseBuffer(change->buffer);
}

/* The row version at a place that can be changed; NULL if this change has ended it already. */
static HeapTupleHeader
plain_version(PageChange *change, const ItemPointerData *tid)
{
	HeapTupleHeader row = (HeapTupleHeader)
	PageGetItem(change->page, PageGetItemId(change->page, ItemPointerGetOffsetNumber(tid)));

	return row->t_infomask & HEAP_XMAX_INVALID ? row : NULL;
}

/* Mark a row version as ended by this transaction. */
static void
end_version(PageChange *change, HeapTupleHeader row)
{
	row->t_infomask &= ~(HEAP_XMAX_BITS | HEAP_MOVED);
	row->t_infomask2 &= ~HEAP_KEYS_UPDATED;
	HeapTupleHeaderSetXmax(row, change->xid);
	HeapTupleHeaderSetCmax(row, change->cid, false);
}

/* Add a row version made by this transaction to the page, found by an older one; false if there is no room. */
static bool
add_version(PageChange *change, HeapTuple row)
{
	OffsetNumber offset;

	if (PageGetHeapFreeSpace(change->page) < MAXALIGN(row->t_len))
		return false;
	row->t_data->t_infomask &= ~HEAP_XACT_MASK;
	row->t_data->t_infomask |= HEAP_UPDATED | HEAP_XMAX_INVALID;
	row->t_data->t_infomask2 &= ~HEAP2_XACT_MASK;
	HeapTupleHeaderSetXmin(row->t_data, change->xid);
	HeapTupleHeaderSetCmin(row->t_data, change->cid);
	HeapTupleHeaderSetXmax(row->t_data, InvalidTransactionId);
	HeapTupleSetHeapOnly(row);
	row->t_tableOid = RelationGetRelid(change->rel);
	offset = PageAddItem(change->page, (Item) row->t_data, row->t_len, InvalidOffsetNumber, false, true);
	if (offset == InvalidOffsetNumber)
		return false;
	ItemPointerSet(&row->t_self, change->block, offset);
	row->t_data->t_ctid = row->t_self;
	((HeapTupleHeader) PageGetItem(change->page, PageGetItemId(change->page, offset)))->t_ctid = row->t_self;
	return true;
}

/*
 * Replace the row versions at n places of a page by new ones, none of which
 * changes a column of an index.  The answer is how many were replaced, from the
 * first on.
 */
int
pgn_page_update(Relation rel, const ItemPointerData *tids, HeapTuple *rows, int n)
{
	PageChange	change;
	int			plain = n > 0 ? begin_change(&change, rel, tids, n, MAXALIGN(rows[0]->t_len)) : 0;
	int			done = 0;

	for (; done < plain; done++)
	{
		HeapTupleHeader old = plain_version(&change, &tids[done]);

		if (old == NULL || !add_version(&change, rows[done]))
			break;
		end_version(&change, old);
		HeapTupleHeaderSetHotUpdated(old);
		old->t_ctid = rows[done]->t_self;
		pgn_count_hot_update(rel);
	}
	if (n > 0)
		end_change(&change, done);
	return done;
}

/* Delete the row versions at n places of a page.  The answer is how many were deleted, from the first on. */
int
pgn_page_delete(Relation rel, const ItemPointerData *tids, int n)
{
	PageChange	change;
	int			plain = begin_change(&change, rel, tids, n, 0);
	int			done = 0;

	for (; done < plain; done++)
	{
		HeapTupleHeader row = plain_version(&change, &tids[done]);

		if (row == NULL)
			break;
		end_version(&change, row);
		row->t_infomask2 |= HEAP_KEYS_UPDATED;
		HeapTupleHeaderClearHotUpdated(row);
		row->t_ctid = tids[done];
		pgstat_count_heap_delete(rel);
	}
	end_change(&change, done);
	return done;
}
