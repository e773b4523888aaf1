/*
 * arguments.c
 *		Arguments of SQL functions.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "arguments.h"

/* How much memory a backend keeps from one batch to the next; see pgn_keep_memory. */
#define MEMORY_KEPT (1024 * 1024)

/* Fail because an argument is NULL. */
void
pgn_null_argument(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s must not be null", what)));
}

/*
 * The elements of an array argument, which must have n of them (n < 0: any
 * number); their number is returned.  No array leaves *values NULL.
 */
int
pgn_array_argument(FunctionCallInfo fcinfo, int argno, const char *what, int n,
				   Datum **values, bool **nulls)
{
	ArrayType  *array;
	int			count;
	int16		len;
	bool		byval;
	char		align;

	*values = NULL;
	*nulls = NULL;
	if (PG_ARGISNULL(argno))
		return 0;
	array = PG_GETARG_ARRAYTYPE_P(argno);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array", what)));
	get_typlenbyvalalign(ARR_ELEMTYPE(array), &len, &byval, &align);
	deconstruct_array(array, ARR_ELEMTYPE(array), len, byval, align, values, nulls, &count);
	if (n >= 0 && count != n)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s has %d elements for %d messages", what, count, n),
				 errhint("Pass one element for each body, or no array at all.")));
	return count;
}

/* One of the arrays that messages are made of. */
typedef struct Column
{
	Datum	   *values;			/* NULL: not given */
	bool	   *nulls;
} Column;

/* The array, which has an element for each of n messages; argno is 0 if the function has no such argument. */
static Column
message_column(FunctionCallInfo fcinfo, int argno, const char *what, int n)
{
	Column		column = {NULL, NULL};

	if (argno != 0)
		(void) pgn_array_argument(fcinfo, argno, what, n, &column.values, &column.nulls);
	return column;
}

/* Has the message an element of the array? */
static bool
has_element(const Column *column, int i)
{
	return column->values != NULL && !column->nulls[i];
}

/*
 * What a large batch occupies is freed at the end of the statement.  glibc
 * would return it to the kernel, and the next batch would fault it in again
 * page by page, unless something larger was freed before.
 */
void
pgn_keep_memory(void)
{
	static bool done = false;

	if (!done)
		pfree(palloc(MEMORY_KEPT));
	done = true;
}

/*
 * The messages that the arrays of a batch make, and their number.  Their
 * bodies, none of which is NULL, are left as they are for the caller to
 * convert.
 */
Message *
pgn_messages_argument(FunctionCallInfo fcinfo, const MessageArguments *where, Datum **bodies, int *n)
{
	bool	   *no_body;
	Column		subjects,
				attributes,
				group_ids,
				deduplication_ids;
	Message    *messages;

	pgn_keep_memory();
	if (PG_ARGISNULL(where->bodies))
		pgn_null_argument("bodies");
	*n = pgn_array_argument(fcinfo, where->bodies, "bodies", -1, bodies, &no_body);
	subjects = message_column(fcinfo, where->subjects, "subjects", *n);
	attributes = message_column(fcinfo, where->attributes, "attributes", *n);
	group_ids = message_column(fcinfo, where->group_ids, "group_ids", *n);
	deduplication_ids = message_column(fcinfo, where->deduplication_ids, "deduplication_ids", *n);
	messages = MemoryContextAllocHuge(CurrentMemoryContext, *n * sizeof(Message));
	memset(messages, 0, *n * sizeof(Message));
	for (int i = 0; i < *n; i++)
	{
		Message    *message = &messages[i];

		if (no_body[i])
			pgn_null_argument("message body");
		if (has_element(&subjects, i))
			message->subject = DatumGetTextPP(subjects.values[i]);
		if (has_element(&attributes, i))
			message->attributes = DatumGetJsonbP(attributes.values[i]);
		if (has_element(&group_ids, i))
			message->group_id = DatumGetTextPP(group_ids.values[i]);
		if (has_element(&deduplication_ids, i))
			message->deduplication_id = DatumGetTextPP(deduplication_ids.values[i]);
	}
	return messages;
}

/* Begin to answer with the ids of messages; pgn_next_message_id does so, one at a call. */
void
pgn_return_message_ids(FunctionCallInfo fcinfo, const Message *messages, int n)
{
	FuncCallContext *context = SRF_FIRSTCALL_INIT();
	int64	   *ids = MemoryContextAllocHuge(context->multi_call_memory_ctx, n * sizeof(int64));

	for (int i = 0; i < n; i++)
		ids[i] = messages[i].message_id;
	context->user_fctx = ids;
	context->max_calls = n;
}

/* The next one. */
Datum
pgn_next_message_id(FunctionCallInfo fcinfo)
{
	FuncCallContext *context = SRF_PERCALL_SETUP();
	int64	   *ids = context->user_fctx;

	if (context->call_cntr == context->max_calls)
		SRF_RETURN_DONE(context);
	/* The macro counts before it takes the value. */
	ids += context->call_cntr;
	SRF_RETURN_NEXT(context, Int64GetDatum(*ids));
}

/* A JSON document as the text of a body. */
text *
pgn_jsonb_body(Jsonb *document)
{
	return cstring_to_text(JsonbToCString(NULL, &document->root, VARSIZE(document)));
}
