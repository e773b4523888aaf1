/*
 * receive_attempt.c
 *		Receives from FIFO queues that can be repeated.
 *
 * A worker whose receive was committed, but whose connection broke before it
 * had the answer, would find its groups blocked by messages that nobody works
 * on.  If it gave the receive an attempt id, it can repeat it within five
 * minutes and gets the same messages with the same receipts, their visibility
 * timeout started anew, within the limit of pigeon.max_visibility.  The five
 * minutes are those after the first receive.
 *
 * What an attempt returned is in the table pigeon.receive_attempt.  It can be
 * repeated as long as all of it is as the attempt left it: nothing was deleted,
 * no visibility timeout changed or ended.  Otherwise a receive with the same
 * id is a new one.
 *
 * Of two receives with one id at the same time only one is served.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "delivery_scan.h"
#include "fifo.h"
#include "message_group.h"
#include "owner.h"
#include "pigeon.h"
#include "receive_attempt.h"

/* What is remembered of a message. */
typedef struct Remembered
{
	int64		message_id;
	int32		home;
	int32		lease;
	TimestampTz visible_at;
	TimestampTz expires_at;		/* of the attempt */
} Remembered;

/* Become the only one to serve an attempt; false if somebody else does. */
bool
pgn_attempt_begin(const Queue *queue, const text *attempt_id)
{
	return pgn_attempt_lock_now(queue, pgn_group_key(attempt_id));
}

/* What an attempt returned the last time. */
static Remembered *
read_attempt(const Queue *queue, text *attempt_id, TimestampTz now, int *n)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int32GetDatum(queue->id), PointerGetDatum(attempt_id),
	TimestampTzGetDatum(now)};
	MemoryContext caller = CurrentMemoryContext;
	Remembered *remembered;

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("SELECT message_id, home, lease, visible_at, expires_at FROM pigeon.receive_attempt"
					  " WHERE queue_id = $1 AND attempt_id = $2 AND expires_at > $3"
					  " ORDER BY position", 3, types, values, NULL);
	*n = SPI_processed;
	remembered = MemoryContextAlloc(caller, (*n + 1) * sizeof(Remembered));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		remembered[i].message_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		remembered[i].home = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		remembered[i].lease = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
		remembered[i].visible_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
		remembered[i].expires_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 5, &isnull));
	}
	pgn_owner_end(&as_owner);
	return remembered;
}

/* Find a delivery that is as the attempt left it. */
static bool
find_unchanged(DeliveryScan *scan, const Remembered *remembered, TimestampTz now,
			   DeliveryVersion *version)
{
	pgn_message_scan_restart(scan, remembered->message_id, remembered->home);
	while (pgn_scan_next(scan, version))
		if (!version->uncommitted && !version->held)
			return version->row.lease == remembered->lease &&
				version->row.visible_at == remembered->visible_at &&
				version->row.visible_at > now && !pgn_delivery_expired(scan->deliveries->queue, &version->row, now);
	return false;
}

/* Until when a message that is received again is hidden now. */
static TimestampTz
hidden_until(const Delivery *row, TimestampTz now, int64 visibility_timeout)
{
	TimestampTz limit = row->received_at + pgn_max_visibility * USECS_PER_SEC;

	return Max(now + 1, Min(now + visibility_timeout, limit));
}

/* Find all deliveries of an attempt; false if one of them has changed. */
static bool
find_all_unchanged(DeliveryTable *deliveries, const Remembered *remembered, int n,
				   TimestampTz now, DeliveryVersion *versions)
{
	DeliveryScan scan;
	bool		unchanged = true;

	pgn_message_scan_begin(&scan, deliveries, 0, 0, NULL);
	for (int i = 0; unchanged && i < n; i++)
		unchanged = find_unchanged(&scan, &remembered[i], now, &versions[i]);
	pgn_scan_end(&scan);
	return unchanged;
}

/*
 * Repeat an attempt: the deliveries that it returned, leased anew.  None if
 * there was no such attempt, or it cannot be repeated any more; *expires_at is
 * until when it can.
 */
Delivery *
pgn_attempt_repeat(DeliveryTable *deliveries, text *attempt_id, TimestampTz now,
				   int64 visibility_timeout, int *n, TimestampTz *expires_at)
{
	Remembered *remembered = read_attempt(deliveries->queue, attempt_id, now, n);
	DeliveryVersion *versions = palloc((*n + 1) * sizeof(DeliveryVersion));
	Delivery   *rows = palloc((*n + 1) * sizeof(Delivery));
	GroupSet	changed = {0};
	int			repeated = 0;

	*expires_at = *n > 0 ? remembered[0].expires_at : now;
	if (!find_all_unchanged(deliveries, remembered, *n, now, versions))
		*n = 0;
	for (int i = 0; i < *n; i++)
	{
		pgn_delivery_show(&versions[i].row, hidden_until(&versions[i].row, now, visibility_timeout));
		/* One that somebody deletes this very moment is not returned. */
		if (pgn_fifo_update(deliveries, &versions[i]) != TM_Ok)
			continue;
		pgn_group_set_add(&changed, &versions[i].row);
		rows[repeated++] = versions[i].row;
	}
	pgn_fifo_reschedule_groups(deliveries, &changed, now);
	*n = repeated;
	pfree(remembered);
	pfree(versions);
	return rows;
}

/* Remember until a time what an attempt returned, instead of what it returned before. */
void
pgn_attempt_record(const Queue *queue, text *attempt_id, const Delivery *rows, int n, TimestampTz expires_at)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, TEXTOID, INT4OID, INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID,
	TIMESTAMPTZOID};
	Datum		values[lengthof(types)] = {Int32GetDatum(queue->id), PointerGetDatum(attempt_id)};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("DELETE FROM pigeon.receive_attempt WHERE queue_id = $1 AND attempt_id = $2",
					  2, types, values, NULL);
	for (int i = 0; i < n; i++)
	{
		values[2] = Int32GetDatum(i);
		values[3] = Int64GetDatum(rows[i].message_id);
		values[4] = Int32GetDatum(rows[i].home);
		values[5] = Int32GetDatum(rows[i].lease);
		values[6] = TimestampTzGetDatum(rows[i].visible_at);
		values[7] = TimestampTzGetDatum(expires_at);
		pgn_owner_execute("INSERT INTO pigeon.receive_attempt VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
						  lengthof(types), types, values, NULL);
	}
	pgn_owner_end(&as_owner);
}

/* Forget the attempts of a queue that cannot be repeated any more.  Never waits. */
void
pgn_attempts_expire(const Queue *queue)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID};
	Datum		values[] = {Int32GetDatum(queue->id)};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("DELETE FROM pigeon.receive_attempt WHERE ctid = ANY (ARRAY(SELECT ctid"
					  " FROM pigeon.receive_attempt WHERE queue_id = $1"
					  " AND expires_at <= clock_timestamp() FOR UPDATE SKIP LOCKED))",
					  1, types, values, NULL);
	pgn_owner_end(&as_owner);
}
