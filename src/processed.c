/*
 * processed.c
 *		mark_processed: remembering which messages were processed.
 *
 * Work inside the database needs nothing of this: it is done in the
 * transaction that deletes the message.  A worker whose work is outside, and
 * who may see a message twice, notes each message_id in the transaction in
 * which it does the work.  Two workers that have the same message (the lease
 * of the first has ended) meet at this note: the second waits for the first,
 * and is told whether the message has been processed.
 *
 * A note is kept for the retention of the queue, in which the message can come
 * back unless it was dead-lettered.  Each call removes some that are older, so
 * that nothing else has to.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "arguments.h"
#include "owner.h"
#include "queue.h"
#include "table.h"

PG_FUNCTION_INFO_V1(pgn_mark_processed);

/* mark_processed(queue, message_id): true if it was not marked before */
Datum
pgn_mark_processed(PG_FUNCTION_ARGS)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, INT8OID, TIMESTAMPTZOID};
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[lengthof(types)];
	Queue	   *queue;
	bool		marked;

	pgn_begin_write("pigeon.mark_processed()");
	if (PG_ARGISNULL(0))
		pgn_null_argument("queue");
	if (PG_ARGISNULL(1))
		pgn_null_argument("message_id");
	queue = pgn_queue_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), ACL_DELETE, AccessShareLock);

	values[0] = Int32GetDatum(queue->id);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = TimestampTzGetDatum(now - MIN_TIMESTAMP < queue->attributes.retention ? DT_NOBEGIN :
									now - queue->attributes.retention);
	pgn_owner_begin(&as_owner);
	pgn_owner_execute("DELETE FROM pigeon.processed WHERE ctid = ANY (ARRAY(SELECT ctid FROM pigeon.processed"
					  " WHERE queue_id = $1 AND message_id <> $2"
					  " AND processed_at < $3"
					  " ORDER BY processed_at LIMIT 10 FOR UPDATE SKIP LOCKED))",
					  lengthof(types), types, values, NULL);
	pgn_owner_execute("INSERT INTO pigeon.processed VALUES ($1, $2) ON CONFLICT DO NOTHING",
					  2, types, values, NULL);
	marked = SPI_processed == 1;
	pgn_owner_end(&as_owner);
	PG_RETURN_BOOL(marked);
}
