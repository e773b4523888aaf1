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
 * other steps.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "message_id.h"
#include "named.h"
#include "page_record.h"

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

/* Does the sequence count one by one?  Up to which number? */
static bool
counts_by_one(int64 *max)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence_relid));
	Form_pg_sequence form;
	bool		by_one;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	*max = form->seqmax;
	by_one = form->seqincrement == 1 && form->seqcache == 1;
	ReleaseSysCache(tuple);
	return by_one;
}

/* Advance the sequence to a value, of which those up to "written" are in WAL from now on. */
static void
write_value(Relation sequence, Buffer buffer, Form_pg_sequence_data data, int64 value, int64 written)
{
	PagePart	part = {
		.start = (char *) data - (char *) BufferGetPage(buffer),
		.length = sizeof(FormData_pg_sequence_data)
	};

	START_CRIT_SECTION();
	data->last_value = written;
	data->log_cnt = 0;
	pgn_page_record(sequence, buffer, &part, 1);
	data->last_value = value;
	data->log_cnt = written - value;
	END_CRIT_SECTION();
}

/* Take n numbers from the locked page of the sequence; false if that is for nextval(). */
static bool
take_from_page(Relation sequence, Buffer buffer, int n, int64 max, int64 *first)
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
		write_value(sequence, buffer, data, value + n, value + n + WRITTEN_AHEAD);
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
	Relation	sequence;
	Buffer		buffer;
	int64		max;
	bool		taken;

	if (!OidIsValid(sequence_relid))
		sequence_relid = pgn_relation("message_id_seq");
	/* The lock is kept to the end of the transaction, as nextval() does. */
	sequence = relation_open(sequence_relid, RowExclusiveLock);
	taken = counts_by_one(&max);
	if (taken)
	{
		/* What is written must be flushed by the commit. */
		(void) GetTopTransactionId();
		buffer = ReadBuffer(sequence, 0);
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		taken = take_from_page(sequence, buffer, n, max, first);
		UnlockReleaseBuffer(buffer);
	}
	relation_close(sequence, NoLock);
	return taken;
}

/* The number of a new message. */
int64
pgn_take_message_id(void)
{
	int64		message_id;

	return take_together(1, &message_id) ? message_id : nextval_internal(sequence_relid, false);
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
			messages[i].message_id = together ? next++ : nextval_internal(sequence_relid, false);
}
