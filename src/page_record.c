/*
 * page_record.c
 *		Generic WAL records, made by who knows what has changed.
 *
 * A generic record has those parts of a page that have changed, each with its
 * place and its length, and any server can replay it, without pigeon.
 * PostgreSQL's generic_xlog.c finds out what has changed by comparing the page
 * with a copy, byte by byte.  That was a sixth of all instructions of a send of
 * ten messages to a FIFO queue; and who changes a page knows it anyway.
 *
 * The record suits any page of the standard layout; but
 * wal_consistency_checking may complain of it, since it does not know which bits
 * of a page are hints.
 */
#include "postgres.h"

#include "access/rmgr.h"
#include "access/xloginsert.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"

#include "page_record.h"

/* All parts of a page, and room for saying where each of them is. */
static char parts_data[2 * BLCKSZ];

/*
 * Mark a page dirty, and write the parts of it that have changed, which must
 * not overlap.  The buffer is locked, and this is a critical section.
 */
void
pgn_page_record(Relation rel, Buffer buffer, const PagePart *parts, int n)
{
	Page		page = BufferGetPage(buffer);
	int			length = 0;
	XLogRecPtr	lsn;

	MarkBufferDirty(buffer);
	if (!RelationNeedsWAL(rel))
		return;
	for (int i = 0; i < n; i++)
	{
		if (parts[i].length == 0)
			continue;
		Assert(length + sizeof(PagePart) + parts[i].length <= sizeof(parts_data));
		memcpy(parts_data + length, &parts[i], sizeof(PagePart));
		length += sizeof(PagePart);
		memcpy(parts_data + length, page + parts[i].start, parts[i].length);
		length += parts[i].length;
	}
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBufData(0, parts_data, length);
	lsn = XLogInsert(RM_GENERIC_ID, 0);
	PageSetLSN(page, lsn);
}
