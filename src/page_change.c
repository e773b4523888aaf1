/*
 * page_change.c
 *		Changes of the rows of one page.
 *
 * The deliveries that a batch receives or deletes stand next to each other in
 * their table.  The table access method changes them one after another: each
 * time it finds and locks the page and writes a WAL record.  Here those of one
 * page are changed together, under one lock and with one generic WAL record
 * that says what has changed (see page_record.c).  A single row is changed here
 * as well, with the record that the access method writes: that saves what it
 * does to find out which columns change, half of its work.
 *
 * Only the plain case is handled: a row version that is committed, or was
 * written by an earlier command of this transaction, and that nobody has locked,
 * changed or deleted, not even a transaction that failed and left its
 * traces; that has nothing stored elsewhere; whose new version fits on
 * the page, and changes no column of any index, so that it needs no entries
 * there; on a page that is not marked as visible to all; in a table that is not
 * decoded for logical replication, which knows nothing of generic records.
 * Then a row is changed as heap_update() and heap_delete() would do it, and
 * there is nobody to wait for.  Rows are taken in the caller's order up to the
 * first that is not plain; that is left to him, with all that follow.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/heapam_xlog.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/rmgr.h"
#include "access/xact.h"
#include "access/xloginsert.h"
#include "catalog/catalog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"

#include "compat.h"
#include "page_change.h"
#include "page_record.h"

/* Parts of a page that changes have in common: its header, and what was added to it. */
#define HEADER 0
#define ITEMS 1
#define ROWS 2
#define COMMON_PARTS 3

/* A page whose rows are changed. */
typedef struct PageChange
{
	Relation	rel;
	Buffer		buffer;			/* locked */
	Page		page;
	BlockNumber block;
	TransactionId xid;
	CommandId	cid;
	CommandId	cmax[MaxHeapTuplesPerPage]; /* of the versions that are ended */
	bool		is_combo[MaxHeapTuplesPerPage];
	PagePart	parts[COMMON_PARTS + MaxHeapTuplesPerPage]; /* what has changed */
	int			nparts;
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

/* The row version at a place of the page. */
static HeapTupleHeader
version_at(PageChange *change, const ItemPointerData *tid)
{
	return (HeapTupleHeader) PageGetItem(change->page, PageGetItemId(change->page, ItemPointerGetOffsetNumber(tid)));
}

/* Is there a row version at this place, number i of those to be changed, that can be changed here? */
static bool
is_plain(PageChange *change, int i, ItemPointerData tid)
{
	OffsetNumber offset = ItemPointerGetOffsetNumber(&tid);
	ItemId		item;
	HeapTupleData row;

	if (offset > PageGetMaxOffsetNumber(change->page))
		return false;
	item = PageGetItemId(change->page, offset);
	if (!ItemIdIsNormal(item))
		return false;
	row.t_self = tid;
	row.t_tableOid = RelationGetRelid(change->rel);
	row.t_data = version_at(change, &tid);
	row.t_len = ItemIdGetLength(item);
	if (!(row.t_data->t_infomask & HEAP_XMAX_INVALID) || HeapTupleHasExternal(&row) ||
		HeapTupleSatisfiesUpdate(&row, change->cid, change->buffer) != TM_Ok)
		return false;
	change->cmax[i] = change->cid;
	HeapTupleHeaderAdjustCmax(row.t_data, &change->cmax[i], &change->is_combo[i]);
	CheckForSerializableConflictIn(change->rel, &tid, change->block);
	return true;
}

/*
 * Lock the page of n places, and get ready to change it, if it has room for
 * "size" bytes.  The answer is at how many of them, from the first on, row
 * versions can be changed.  The page is to be given back in any case.
 */
static int
begin_change(PageChange *change, Relation rel, const ItemPointerData *tids, int n, Size size)
{
	int			plain = 0;

	change->rel = rel;
	change->buffer = InvalidBuffer;
	if (n == 0 || RelationIsLogicallyLogged(rel))
		return 0;
	change->block = ItemPointerGetBlockNumber(&tids[0]);
	change->xid = GetCurrentTransactionId();
	change->cid = GetCurrentCommandId(true);

	/*
	 * As for any change: nobody may put us into a multixact that is older
	 * than that.
	 */
	MultiXactIdSetOldestMember();
	change->buffer = ReadBuffer(rel, change->block);
	LockBuffer(change->buffer, BUFFER_LOCK_EXCLUSIVE);
	change->page = BufferGetPage(change->buffer);
	if (PageIsAllVisible(change->page) || PageGetHeapFreeSpace(change->page) < size)
		return 0;
	while (plain < Min(n, MaxHeapTuplesPerPage) && is_plain(change, plain, tids[plain]))
		plain++;
	change->parts[HEADER].start = offsetof(PageHeaderData, pd_flags);
	change->parts[HEADER].length = offsetof(PageHeaderData, pd_linp) - offsetof(PageHeaderData, pd_flags);
	change->parts[ITEMS].length = change->parts[ROWS].length = 0;
	change->nparts = COMMON_PARTS;
	return plain;
}

/* Give the page back. */
static void
end_change(PageChange *change)
{
	if (BufferIsValid(change->buffer))
		UnlockReleaseBuffer(change->buffer);
}

/* Note that a row version has been ended. */
static void
note_ended(PageChange *change, HeapTupleHeader row)
{
	OffsetNumber start = offsetof(HeapTupleHeaderData, t_choice.t_heap.t_xmax);

	change->parts[change->nparts].start = (char *) row - (char *) change->page + start;
	change->parts[change->nparts++].length = offsetof(HeapTupleHeaderData, t_hoff) - start;
}

/* Note that a row version was added; one after another goes below the one before. */
static void
note_added(PageChange *change, OffsetNumber offset)
{
	PagePart   *items = &change->parts[ITEMS];
	PagePart   *rows = &change->parts[ROWS];
	OffsetNumber first = offsetof(PageHeaderData, pd_linp) + (offset - 1) * sizeof(ItemIdData);
	OffsetNumber end = first + sizeof(ItemIdData);
	LocationIndex upper = ((PageHeader) change->page)->pd_upper;

	if (items->length == 0)
	{
		*items = (PagePart)
		{
			first, sizeof(ItemIdData)
		};
		*rows = (PagePart)
		{
			upper, MAXALIGN(ItemIdGetLength(PageGetItemId(change->page, offset)))
		};
		return;
	}
	end = Max(end, items->start + items->length);
	items->start = Min(items->start, first);
	items->length = end - items->start;
	rows->length += rows->start - upper;
	rows->start = upper;
}

/* Mark a row version, number i of those to be changed, as ended by this transaction. */
static void
end_version(PageChange *change, int i, HeapTupleHeader row)
{
	row->t_infomask &= ~(HEAP_XMAX_BITS | HEAP_MOVED);
	row->t_infomask2 &= ~HEAP_KEYS_UPDATED;
	HeapTupleHeaderSetXmax(row, change->xid);
	HeapTupleHeaderSetCmax(row, change->cmax[i], change->is_combo[i]);
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
		elog(PANIC, "could not add a row to a page of table \"%s\"", RelationGetRelationName(change->rel));
	ItemPointerSet(&row->t_self, change->block, offset);
	row->t_data->t_ctid = row->t_self;
	version_at(change, &row->t_self)->t_ctid = row->t_self;
	note_added(change, offset);
	return true;
}

/* Replace row version number i, at this place; false if there is no room, or if this change has ended it already. */
static bool
replace(PageChange *change, int i, const ItemPointerData *tid, HeapTuple row)
{
	HeapTupleHeader old = version_at(change, tid);

	if (!(old->t_infomask & HEAP_XMAX_INVALID) || !add_version(change, row))
		return false;
	end_version(change, i, old);
	HeapTupleHeaderSetHotUpdated(old);
	old->t_ctid = row->t_self;
	note_ended(change, old);
	return true;
}

/* Delete row version number i, at this place; false if this change has ended it already. */
static bool
delete(PageChange *change, int i, const ItemPointerData *tid)
{
	HeapTupleHeader row = version_at(change, tid);

	if (!(row->t_infomask & HEAP_XMAX_INVALID))
		return false;
	end_version(change, i, row);
	row->t_infomask2 |= HEAP_KEYS_UPDATED;
	HeapTupleHeaderClearHotUpdated(row);
	row->t_ctid = *tid;
	note_ended(change, row);
	return true;
}

/* How many bytes, from the first on, the columns of two row versions have in common. */
static uint16
common_prefix(HeapTupleHeader old, Size old_length, HeapTuple row)
{
	const char *a = (char *) old + old->t_hoff;
	const char *b = (char *) row->t_data + row->t_data->t_hoff;
	Size		length = Min(old_length - old->t_hoff, row->t_len - row->t_data->t_hoff);
	Size		prefix = 0;

	while (prefix < length && a[prefix] == b[prefix])
		prefix++;
	return prefix;
}

/* Write that the row version at a place was replaced, as heap_update() does. */
static void
record_update(PageChange *change, const ItemPointerData *tid, HeapTuple row)
{
	ItemId		item = PageGetItemId(change->page, ItemPointerGetOffsetNumber(tid));
	uint16		prefix = common_prefix(version_at(change, tid), ItemIdGetLength(item), row);
	char	   *data = (char *) row->t_data;
	uint8		hoff = row->t_data->t_hoff;
	xl_heap_header header = {
		.t_infomask2 = row->t_data->t_infomask2,
		.t_infomask = row->t_data->t_infomask,
		.t_hoff = hoff
	};
	xl_heap_update record = {
		.old_xmax = change->xid,
		.old_offnum = ItemPointerGetOffsetNumber(tid),
		.flags = prefix > 0 ? XLH_UPDATE_PREFIX_FROM_OLD : 0,
		.new_xmax = InvalidTransactionId,
		.new_offnum = ItemPointerGetOffsetNumber(&row->t_self)
	};
	XLogRecPtr	lsn;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfHeapUpdate);
	XLogRegisterBuffer(0, change->buffer, REGBUF_STANDARD);
	if (prefix > 0)
		XLogRegisterBufData(0, (char *) &prefix, sizeof(prefix));
	XLogRegisterBufData(0, (char *) &header, SizeOfHeapHeader);
	XLogRegisterBufData(0, data + SizeofHeapTupleHeader, hoff - SizeofHeapTupleHeader);
	XLogRegisterBufData(0, data + hoff + prefix, row->t_len - hoff - prefix);
	lsn = XLogInsert(RM_HEAP_ID, XLOG_HEAP_HOT_UPDATE);
	PageSetLSN(change->page, lsn);
}

/* Write that the row version at a place was deleted, as heap_delete() does. */
static void
record_delete(PageChange *change, const ItemPointerData *tid)
{
	xl_heap_delete record = {
		.xmax = change->xid,
		.offnum = ItemPointerGetOffsetNumber(tid),
		.infobits_set = XLHL_KEYS_UPDATED
	};
	XLogRecPtr	lsn;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfHeapDelete);
	XLogRegisterBuffer(0, change->buffer, REGBUF_STANDARD);
	lsn = XLogInsert(RM_HEAP_ID, XLOG_HEAP_DELETE);
	PageSetLSN(change->page, lsn);
}

/* Write what has happened to "done" rows, the first of which was at that place and got that new version, or none. */
static void
record_change(PageChange *change, int done, const ItemPointerData *tid, HeapTuple row)
{
	PageSetPrunable(change->page, change->xid);
	if (done > 1)
	{
		pgn_page_record(change->rel, change->buffer, change->parts, change->nparts);
		return;
	}
	MarkBufferDirty(change->buffer);
	if (!RelationNeedsWAL(change->rel))
		return;
	if (row)
		record_update(change, tid, row);
	else
		record_delete(change, tid);
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
	int			plain = begin_change(&change, rel, tids, n, n > 0 ? MAXALIGN(rows[0]->t_len) : 0);
	int			done = 0;

	START_CRIT_SECTION();
	while (done < plain && replace(&change, done, &tids[done], rows[done]))
		done++;
	if (done > 0)
		record_change(&change, done, &tids[0], rows[0]);
	END_CRIT_SECTION();
	end_change(&change);
	for (int i = 0; i < done; i++)
		pgn_count_hot_update(rel);
	return done;
}

/* Delete the row versions at n places of a page.  The answer is how many were deleted, from the first on. */
int
pgn_page_delete(Relation rel, const ItemPointerData *tids, int n)
{
	PageChange	change;
	int			plain = begin_change(&change, rel, tids, n, 0);
	int			done = 0;

	START_CRIT_SECTION();
	while (done < plain && delete(&change, done, &tids[done]))
		done++;
	if (done > 0)
		record_change(&change, done, &tids[0], NULL);
	END_CRIT_SECTION();
	end_change(&change);
	for (int i = 0; i < done; i++)
		pgstat_count_heap_delete(rel);
	return done;
}
