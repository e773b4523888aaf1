/*
 * fifo_send.c
 *		Sending to FIFO queues.
 *
 * The order of locks is the same for everybody, so that senders of batches do
 * not deadlock: first the groups, in their order, then the deduplication keys,
 * in theirs.  All that is locked stays so to the end of the transaction.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "activity.h"
#include "deduplication.h"
#include "delivery.h"
#include "fifo.h"
#include "fifo_send.h"
#include "log.h"

/* Fail unless a message has what a FIFO queue needs. */
void
pgn_fifo_check_message(const Queue *queue, const Message *message)
{
	if (message->group_id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" is a FIFO queue and needs a group_id", queue->name),
				 errhint("Messages of one group are received in the order in which they were sent.")));
	if (message->deduplication_id == NULL && !queue->attributes.content_based_deduplication)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("queue \"%s\" needs a deduplication_id", queue->name),
				 errhint("Pass one, or set content_based_deduplication with pigeon.alter_queue().")));
}

/*
 * Send messages, already checked, to a FIFO queue.  Gives each its message_id,
 * a duplicate that of the message it repeats.  "has_delay": the sender asked
 * for a delay of his own, which is refused.
 */
void
pgn_fifo_send(Queue *queue, Message *messages, int n, bool has_delay)
{
	DeliveryTable deliveries;
	TimestampTz now;
	Message    *fresh;
	Delivery   *rows;
	int			nfresh;

	if (has_delay)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("messages of FIFO queue \"%s\" cannot have a delay of their own", queue->name),
				 errhint("Set the delay of the queue.")));

	pgn_fifo_lock_groups(queue, messages, n);
	now = GetCurrentTimestamp();
	fresh = palloc(n * sizeof(Message));
	nfresh = pgn_deduplicate(queue, messages, n, now, fresh);
	pgn_activity_count(queue, COUNT_DEDUPLICATED, n - nfresh);
	if (nfresh > 0)
	{
		pgn_log_append(fresh, nfresh, now);
		rows = palloc(nfresh * sizeof(Delivery));
		for (int i = 0; i < nfresh; i++)
		{
			/* One after the other, so that groups are served in their order. */
			rows[i] = pgn_delivery_make(queue, &fresh[i], now - (nfresh - 1 - i), queue->attributes.delay);
			pgn_activity_count(queue, COUNT_SENT_BYTES, fresh[i].size);
		}
		pgn_activity_count(queue, COUNT_SENT, nfresh);
		pgn_deliveries_open(&deliveries, queue, RowExclusiveLock);
		pgn_fifo_insert(&deliveries, rows, nfresh, now);
		pgn_deliveries_close(&deliveries, NoLock);
		pfree(rows);
	}
	pfree(fresh);
}
