/*
 * topic_metrics.c
 *		What was counted of topics.
 *
 * Counters are raised when the publisher's transaction commits, see
 * activity.c; they live in shared memory.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"

#include "shared.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_topic_counters);

/* How often messages were filtered out for this reason. */
#define FILTERED_OUT(reason) (COUNT_FILTERED_OUT + (reason))

/* The columns of the result; a COUNT_FILTERED_OUT without a reason stands for all of them. */
static const int columns[] = {
	COUNT_SENT,
	COUNT_SENT_BYTES,
	COUNT_DEDUPLICATED,
	COUNT_DELIVERED,
	COUNT_FILTERED_OUT,
	FILTERED_OUT(PGN_FILTER_MESSAGE_ATTRIBUTES),
	FILTERED_OUT(PGN_FILTER_MESSAGE_BODY),
	FILTERED_OUT(PGN_FILTER_NO_MESSAGE_ATTRIBUTES),
	FILTERED_OUT(PGN_FILTER_INVALID_ATTRIBUTES),
	FILTERED_OUT(PGN_FILTER_INVALID_MESSAGE_BODY),
	COUNT_FAILED,
	COUNT_DEAD_LETTERED,
	COUNT_FAILED_TO_DEAD_LETTER,
};

/* The value of a counter. */
static int64
counter_value(SharedQueue *shared, int counter)
{
	int64		value = 0;

	if (counter != COUNT_FILTERED_OUT)
		return pg_atomic_read_u64(&shared->counters[counter]);
	for (int reason = PGN_FILTER_MATCHED + 1; reason < PGN_FILTER_RESULTS; reason++)
		value += pg_atomic_read_u64(&shared->counters[FILTERED_OUT(reason)]);
	return value;
}

/* topic_counters(topic_id): NULLs for who has no right on the topic */
Datum
pgn_topic_counters(PG_FUNCTION_ARGS)
{
	Topic	   *topic = pgn_topic_find_by_id(PG_GETARG_INT32(0));
	SharedQueue *shared = NULL;
	Datum		values[lengthof(columns)] = {0};
	bool		isnull[lengthof(columns)];
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	/* The shared entry stays for as long as the view is locked. */
	if (topic &&
		pgn_has_right(topic->relid, ACL_SELECT | PGN_ACL_PUBLISH | PGN_ACL_SUBSCRIBE, GetUserId()) &&
		pgn_topic_lock(topic, AccessShareLock))
		shared = pgn_shared_queue(&topic->queue);
	memset(isnull, shared == NULL, sizeof(isnull));
	for (int i = 0; shared && i < lengthof(columns); i++)
		values[i] = Int64GetDatum(counter_value(shared, columns[i]));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull));
}
