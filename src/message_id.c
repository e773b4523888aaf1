/*
 * message_id.c
 *		The numbers of messages.
 *
 * They come from the sequence pigeon.message_id_seq.  A batch takes as many as
 * it needs at once: nextval() hands out one number a call, and a hundred calls
 * were a tenth of the work of a send of a hundred messages.  Nor does a send
 * change what lastval() says to the session, as nextval() would.
 *
 * What is done here is what nextval() does to the sequence's page.  A number of
 * values ahead of the one that was taken last is written to WAL, so that these
 * can be taken without; a crash loses what is left of them, as it does for any
 * sequence.  Whatever is not plain is left to nextval(): the first number of
 * all, the end of the sequence, one that somebody has altered so that it goes in
 * other steps.  A cache does not count here: order is worth more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/rmgr.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "compat.h"
#include "message_id.h"
#include "named.h"

/* As many numbers are written ahead as by nextval(). */
#define WRITTEN_AHEAD 32

/* The sequence, looked up by its name. */
static Oid	sequence_relid = InvalidOid;

/* Relcache callback: the sequence may have been dropped. */
static void
invalidate_sequence(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == sequence_relid)
		sequence_relid = InvalidOid;
}

/* Register for invalidations; called once per backend. */
void
pgn_message_id_init(void)
{
	CacheRegisterRelcacheCallback(invalidate_sequence, (Datum) 0);
}

/* The sequence. */
static Oid
sequence(void)
{
	if (!OidIsValid(sequence_relid))
		sequence_relid = pgn_relation("message_id_seq");
	return sequence_relid;
}

/* How the sequence counts. */
static FormData_pg_sequence
sequence_form(void)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence()));
	FormData_pg_sequence form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", sequence());
	form = *(Form_pg_sequence) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	return form;
}

/*
 * Advance the sequence, whose row is the only one of the page, to a value, and
 * write one that is WRITTEN_AHEAD of it.  The record makes the whole page anew:
 * what is on disk may be older than the page's LSN says, since most values are
 * taken without a record.
 */
static void
write_value(Relation rel, Buffer buffer, int64 value)
{
	Page		page = BufferGetPage(buffer);
	ItemId		item = PageGetItemId(page, FirstOffsetNumber);
	HeapTupleHeader row = (HeapTupleHeader) PageGetItem(page, item);
	Form_pg_sequence_data data = (Form_pg_sequence_data) ((char *) row + row->t_hoff);

	/* What is written must be flushed by the commit. */
	if (RelationNeedsWAL(rel))
		(void) GetTopTransactionId();
	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	data->last_value = value + WRITTEN_AHEAD;
	data->log_cnt = 0;
	if (RelationNeedsWAL(rel))
	{
		xl_seq_rec	record = pgn_sequence_record(rel);
		XLogRecPtr	lsn;

		XLogBeginInsert();
		XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
		XLogRegisterData((char *) &record, sizeof(record));
		XLogRegisterData((char *) row, ItemIdGetLength(item));
		lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
		PageSetLSN(page, lsn);
	}
	data->last_value = value;
	data->log_cnt = WRITTEN_AHEAD;
	END_CRIT_SECTION();
}

/* Take n numbers from the locked page of the sequence; false if that is for nextval(). */
static bool
take_from_page(Relation rel, Buffer buffer, int n, int64 max, int64 *first)
{
	Page		page = BufferGetPage(buffer);
	HeapTupleHeader row = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	Form_pg_sequence_data data = (Form_pg_sequence_data) ((char *) row + row->t_hoff);
	int64		value = data->last_value;

	if (!data->is_called || value < 0 || value > max - n - WRITTEN_AHEAD)
		return false;
	*first = value + 1;

	/*
	 * After a checkpoint it is written again, since replay would begin with
	 * the page as it was then.
	 */
	if (data->log_cnt < n || PageGetLSN(page) <= GetRedoRecPtr())
		write_value(rel, buffer, value + n);
	else
	{
		data->last_value = value + n;
		data->log_cnt -= n;
		MarkBufferDirty(buffer);
	}
	return true;
}

/* Take n numbers that follow each other, the first of which is the answer; false if that is for nextval(). */
static bool
take_together(int n, int64 *first)
{
	/* The lock is kept to the end of the transaction, as nextval() does. */
	Relation	rel = relation_open(sequence(), RowExclusiveLock);
	FormData_pg_sequence form = sequence_form();
	bool		taken = form.seqincrement == 1;

	if (taken)
	{
		Buffer		buffer = ReadBuffer(rel, 0);

		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		taken = take_from_page(rel, buffer, n, form.seqmax, first);
		UnlockReleaseBuffer(buffer);
	}
	relation_close(rel, NoLock);
	return taken;
}

/*
 * Take a number as nextval() does.  Numbers must rise from one transaction of a
 * message group to the next, which they do not if sessions have them in stock.
 */
static int64
next_value(void)
{
	FormData_pg_sequence form = sequence_form();

	if (form.seqincrement < 1 || form.seqcycle || (form.seqcache > 1 && form.seqincrement > 1))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"pigeon.message_id_seq\" does not give each message a higher number than the one before"),
				 errhint("Use ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY 1 CACHE 1 NO CYCLE.")));
	return nextval_internal(sequence(), false);
}

/* The number of a new message. */
int64
pgn_take_message_id(void)
{
	int64		message_id;

	return take_together(1, &message_id) ? message_id : next_value();
}

/* Give each message its message_id, in order, unless it has one. */
void
pgn_number_messages(Message *messages, int n)
{
	int			missing = 0;
	int64		next;
	bool		together;

	for (int i = 0; i < n; i++)
		missing += messages[i].message_id == 0;
	together = missing > 0 && take_together(missing, &next);
	for (int i = 0; i < n; i++)
		if (messages[i].message_id == 0)
			messages[i].message_id = together ? next++ : next_value();
}

/* The last number that any message has got. */
int64
pgn_last_message_id(void)
{
	Relation	rel = relation_open(sequence(), AccessShareLock);
	Buffer		buffer = ReadBuffer(rel, 0);
	Page		page = BufferGetPage(buffer);
	HeapTupleHeader row;
	FormData_pg_sequence_data data;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	row = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));
	memcpy(&data, (char *) row + row->t_hoff, sizeof(data));
	UnlockReleaseBuffer(buffer);
	relation_close(rel, AccessShareLock);
	return data.is_called ? data.last_value : data.last_value - 1;
}
