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
