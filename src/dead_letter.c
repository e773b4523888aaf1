/*
 * dead_letter.c
 *		Moving what was received too often to the dead-letter queue.
 *
 * A message is moved by the receive that would exceed max_receive_count, or by
 * maintenance once its last lease has ended.  Only the delivery moves; the
 * body stays where it is in the log.  The dead-letter queue is known by name,
 * so it may be dropped and created again; while it is missing, messages stay
 * in the source queue and go on being received.  So they do if its owner has
 * changed its tables so that nothing can be inserted, or has written a row
 * with the same key by hand: a receive never fails because of another queue.
 *
 * Whoever receives moves the message: the right to name a dead-letter queue
 * was checked when it was named.
 */
#include "postgres.h"

#include "activity.h"
#include "dead_letter.h"
#include "delivery_scan.h"
#include "fifo.h"
#include "message_id.h"

/* Start; nothing is looked up before the first message is to be moved. */
void
pgn_dead_letters_begin(DeadLetters *letters, DeliveryTable *source)
{
	letters->source = source;
	letters->looked_up = false;
	letters->queue = NULL;
	letters->open = false;
	letters->changed = false;
}

/*
 * What will become of a delivery that was received too often: "moved" if
 * nothing is in the way.  Never waits.  Afterwards the dead-letter queue is
 * either open, and if it is a FIFO queue its schedule locked, or not locked.
 */
static DeadLetterResult
find_obstacle(DeadLetters *letters, const Delivery *row)
{
	Queue	   *source = letters->source->queue;

	if (!letters->looked_up)
	{
		letters->queue = pgn_queue_find(source->attributes.dead_letter_queue);
		letters->looked_up = true;
	}
	if (letters->queue == NULL || letters->queue->attributes.fifo != source->attributes.fifo)
		return DEAD_LETTER_MISSING;
	if (!letters->open)
	{
		bool		fifo = source->attributes.fifo;

		if (!pgn_queue_lock_now(letters->queue, RowExclusiveLock))
			return DEAD_LETTER_BUSY;
		if (fifo && !pgn_schedule_lock_now(letters->queue, RowExclusiveLock))
		{
			pgn_queue_unlock(letters->queue, RowExclusiveLock);
			return DEAD_LETTER_BUSY;
		}
		letters->open = (!fifo || pgn_schedule_usable(letters->queue, RowExclusiveLock)) &&
			pgn_deliveries_try_open_indexed(&letters->target, letters->queue, RowExclusiveLock);
		/* Who has opened it has locked it once more. */
		pgn_queue_unlock(letters->queue, RowExclusiveLock);
		if (!letters->open)
		{
			if (fifo)
				pgn_schedule_unlock(letters->queue, RowExclusiveLock);
			letters->queue = NULL;
			return DEAD_LETTER_MISSING;
		}
	}

	/*
	 * One that was forged with a number yet to come would be in the way of
	 * that message.
	 */
	return row->message_id > pgn_last_message_id() ||
		pgn_delivery_is_there(&letters->target, row->message_id, row->home) ?
		DEAD_LETTER_DUPLICATE : DEAD_LETTER_MOVED;
}

/* Does a delivery that was received too often stay where it is, and go on being received?  Keeps no lock. */
bool
pgn_dead_letter_stays(DeliveryTable *source, const Delivery *row)
{
	DeadLetters letters;
	DeadLetterResult result;

	pgn_dead_letters_begin(&letters, source);
	result = find_obstacle(&letters, row);
	pgn_dead_letters_end(&letters);
	return result == DEAD_LETTER_MISSING || result == DEAD_LETTER_DUPLICATE;
}

/* Move a delivery that was received too often.  Never waits. */
DeadLetterResult
pgn_dead_letter(DeadLetters *letters, const DeliveryVersion *version, TimestampTz now)
{
	Queue	   *source = letters->source->queue;
	Delivery	row = version->row;
	DeadLetterResult result = find_obstacle(letters, &row);
	bool		moved;

	if (result != DEAD_LETTER_MOVED)
		return result;
	row.source = source->id;
	row.lane = PGN_LANE_NORMAL;
	pgn_delivery_show(&row, now);
	row.lease = PGN_NO_LEASE;
	row.queue_receive_count = 0;
	if (source->attributes.fifo)
	{
		row.enqueued_at = now;
		moved = pgn_fifo_move(letters->source, version, &letters->target, &row, now, false, &letters->changed);
	}
	else
	{
		moved = pgn_delivery_move(letters->source, version, &letters->target, &row);
		letters->changed |= moved;
	}
	if (!moved)
		return DEAD_LETTER_BUSY;
	pgn_activity_count(source, COUNT_DEAD_LETTERED, 1);
	return DEAD_LETTER_MOVED;
}

/* Close what was opened, keeping the locks if it was changed. */
void
pgn_dead_letters_end(DeadLetters *letters)
{
	if (!letters->open)
		return;
	pgn_deliveries_close(&letters->target, letters->changed ? NoLock : RowExclusiveLock);
	if (letters->queue->attributes.fifo && !letters->changed)
		pgn_schedule_unlock(letters->queue, RowExclusiveLock);
}
