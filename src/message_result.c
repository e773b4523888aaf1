/*
 * message_result.c
 *		The messages that receive, pop and peek return.
 *
 * A delivery says which message it is, and the message log what is in it; both
 * make a row of type pigeon.message.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "activity.h"
#include "arguments.h"
#include "envelope.h"
#include "message_result.h"

/* Columns of pigeon.message, in order. */
enum
{
	Anum_message_message_id = 1,
	Anum_message_receipt,
	Anum_message_body,
	Anum_message_attributes,
	Anum_message_receive_count,
	Anum_message_sent_at,
	Anum_message_first_received_at,
	Anum_message_visible_at,
	Anum_message_group_id,
	Anum_message_deduplication_id,
	Anum_message_sequence_number,
	Anum_message_sender,
	Anum_message_topic,
	Anum_message_subject,
	Anum_message_dead_letter_source,
	Anum_message_replayed_message_id,
	Natts_message = Anum_message_replayed_message_id
};

/* Prepare for returning messages. */
void
pgn_result_begin(MessageResult *result, FunctionCallInfo fcinfo)
{
	pgn_keep_memory();
	InitMaterializedSRF(fcinfo, 0);
	result->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	result->n = 0;
	result->per_message = AllocSetContextCreate(CurrentMemoryContext, "pigeon message",
												ALLOCSET_DEFAULT_SIZES);
	pgn_log_reader_open(&result->reader);
}

/* Give back what is not needed after the last message. */
void
pgn_result_end(MessageResult *result)
{
	pgn_log_reader_close(&result->reader);
	MemoryContextDelete(result->per_message);
}

/* A timestamp for the result, NULL for PGN_NEVER. */
static Datum
time_or_null(TimestampTz time, bool *isnull)
{
	*isnull = time == PGN_NEVER;
	return TimestampTzGetDatum(time);
}

/*
 * Read the message of a delivery and add it to the result.  "receipt" is NULL
 * when there is none to give.
 */
void
pgn_result_add(MessageResult *result, const Queue *queue, const Delivery *row, Receipt *receipt)
{
	MemoryContext old = MemoryContextSwitchTo(result->per_message);
	LogEntry	entry;
	Datum		values[Natts_message] = {0};
	bool		isnull[Natts_message];

	if (!pgn_log_read(&result->reader, row->message_id, row->log_key,
					  pgn_log_place(row->log_block, row->segment, row->log_offset), &entry))
	{
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message " INT64_FORMAT " of queue \"%s\" is not in the message log",
						row->message_id, queue->name)));
		MemoryContextSwitchTo(old);
		return;
	}

	memset(isnull, true, sizeof(isnull));
#define SET(column, value) \
	(values[Anum_message_##column - 1] = (value), isnull[Anum_message_##column - 1] = false)
#define COPY(column) \
	(values[Anum_message_##column - 1] = entry.values[Anum_log_##column - 1], \
	 isnull[Anum_message_##column - 1] = entry.isnull[Anum_log_##column - 1])
	SET(message_id, Int64GetDatum(row->message_id));
	if (receipt)
		SET(receipt, PointerGetDatum(receipt));
	if (pgn_in_envelope(row))
		SET(body, PointerGetDatum(pgn_envelope(&entry, queue->attributes.fifo)));
	else
	{
		COPY(body);
		COPY(attributes);
	}
	SET(receive_count, Int32GetDatum(row->receive_count));
	SET(sent_at, TimestampTzGetDatum(row->enqueued_at));
	values[Anum_message_first_received_at - 1] =
		time_or_null(row->first_received_at, &isnull[Anum_message_first_received_at - 1]);
	SET(visible_at, TimestampTzGetDatum(row->visible_at));
	/* A standard queue gets neither of the two from a FIFO topic. */
	if (row->group_key != 0)
	{
		COPY(group_id);
		COPY(deduplication_id);
	}
	if (queue->attributes.fifo && row->source != 0)
		SET(deduplication_id, CStringGetTextDatum(psprintf(INT64_FORMAT, row->message_id)));
	if (queue->attributes.fifo)
		SET(sequence_number, Int64GetDatum(row->message_id));
	SET(sender, DirectFunctionCall1(text_name, entry.values[Anum_log_sender - 1]));
	COPY(topic);
	COPY(subject);
	if (row->source != 0)
	{
		Queue	   *source = pgn_queue_find_by_id(row->source);

		if (source)
			SET(dead_letter_source, CStringGetTextDatum(source->name));
	}
	COPY(replayed_message_id);
#undef SET
#undef COPY
	tuplestore_putvalues(result->rsinfo->setResult, result->rsinfo->setDesc, values, isnull);
	result->n++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(result->per_message);
}

/* Add a message that was received; "pop": and deleted, so there is no receipt. */
void
pgn_result_add_received(MessageResult *result, Queue *queue, const Delivery *row, bool pop)
{
	Receipt		receipt = {
		.message_id = row->message_id,
		.queue_id = queue->id,
		.home = row->home,
		.lease = row->lease
	};

	pgn_result_add(result, queue, row, pop ? NULL : &receipt);
	pgn_activity_count(queue, COUNT_RECEIVED, 1);
	if (pop)
		pgn_activity_count(queue, COUNT_DELETED, 1);
}
