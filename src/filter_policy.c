/*
 * filter_policy.c
 *		Filter policies: the settings and the SQL functions to try one.
 *
 * filter_matches() and filter_result() are STABLE, not IMMUTABLE: which
 * policies they refuse depends on the settings below, and what
 * "equals-ignore-case" means on the locale.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "filter_compile.h"

int			pgn_filter_max_size = 256 * 1024;
int			pgn_filter_max_depth = 100;
int			pgn_filter_max_keys = 5;
int			pgn_filter_max_combinations = 150;
int			pgn_filter_max_wildcard_complexity = 100;

/* The policy that a call of one of the SQL functions used last. */
typedef struct PolicyCache
{
	Jsonb	   *source;
	FilterScope scope;
	FilterPolicy *policy;
} PolicyCache;

static FilterResult evaluate(FunctionCallInfo fcinfo);
static FilterPolicy *cached_policy(FmgrInfo *flinfo, Jsonb *source,
								   FilterScope scope);

PG_FUNCTION_INFO_V1(pgn_filter_matches);
PG_FUNCTION_INFO_V1(pgn_filter_result);

/* Define the settings; to be called from _PG_init(). */
void
pgn_filter_init(void)
{
	DefineCustomIntVariable("pigeon.filter_policy_max_size",
							"The largest filter policy that a subscription can have.",
							"The size is that of the policy as jsonb.",
							&pgn_filter_max_size,
							256 * 1024, 1024, 64 * 1024 * 1024,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.filter_policy_max_depth",
							"The deepest nesting of a filter policy.",
							"Objects and arrays count, and so do the dots in the keys of body policies.",
							&pgn_filter_max_depth,
							100, 5, PGN_JSON_MAX_DEPTH,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.filter_policy_max_keys",
							"The largest number of keys in a filter policy.",
							NULL,
							&pgn_filter_max_keys,
							5, 1, PGN_FILTER_KEYS_LIMIT,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.filter_policy_max_combinations",
							"The largest number of combinations of rules in a filter policy.",
							"This is the product, over its keys, of the number of rules and the nesting depth.",
							&pgn_filter_max_combinations,
							150, 1, PGN_FILTER_COMBINATIONS_LIMIT,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.filter_policy_max_wildcard_complexity",
							"The largest complexity of the wildcard patterns in a filter policy.",
							"This is the sum, over its keys, of the points of the patterns times their number.",
							&pgn_filter_max_wildcard_complexity,
							100, 1, 1000000,
							PGC_SUSET, 0, NULL, NULL, NULL);
}

/* Return the filter scope of this name.  Fail if there is none. */
FilterScope
pgn_filter_scope(const char *name)
{
	if (strcmp(name, "attributes") == 0)
		return PGN_FILTER_SCOPE_ATTRIBUTES;
	if (strcmp(name, "body") == 0)
		return PGN_FILTER_SCOPE_BODY;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid filter scope \"%s\"", name),
			 errhint("The filter scope is either \"attributes\" or \"body\".")));
	return PGN_FILTER_SCOPE_ATTRIBUTES; /* keep compiler quiet */
}

/* Return the name of a result. */
const char *
pgn_filter_result_name(FilterResult result)
{
	static const char *const names[PGN_FILTER_RESULTS] = {
		[PGN_FILTER_MATCHED] = "matched",
		[PGN_FILTER_MESSAGE_ATTRIBUTES] = "message_attributes",
		[PGN_FILTER_MESSAGE_BODY] = "message_body",
		[PGN_FILTER_NO_MESSAGE_ATTRIBUTES] = "no_message_attributes",
		[PGN_FILTER_INVALID_ATTRIBUTES] = "invalid_attributes",
		[PGN_FILTER_INVALID_MESSAGE_BODY] = "invalid_message_body",
	};

	return names[result];
}

/*
 * filter_matches(filter_policy jsonb, filter_scope text, attributes jsonb,
 * body text): does a message pass the policy?
 */
Datum
pgn_filter_matches(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(evaluate(fcinfo) == PGN_FILTER_MATCHED);
}

/* filter_result(...): the same, but says why not. */
Datum
pgn_filter_result(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(pgn_filter_result_name(evaluate(fcinfo))));
}

/* What both functions have in common. */
static FilterResult
evaluate(FunctionCallInfo fcinfo)
{
	FilterScope scope = PGN_FILTER_SCOPE_ATTRIBUTES;
	Jsonb	   *attributes = NULL;
	text	   *body = NULL;
	FilterPolicy *policy;
	MemoryContext cxt;
	FilterResult result;

	if (!PG_ARGISNULL(1))
		scope = pgn_filter_scope(text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (PG_ARGISNULL(0))
		return PGN_FILTER_MATCHED;
	policy = cached_policy(fcinfo->flinfo, PG_GETARG_JSONB_P(0), scope);
	if (!PG_ARGISNULL(2))
		attributes = PG_GETARG_JSONB_P(2);
	if (!PG_ARGISNULL(3))
		body = PG_GETARG_TEXT_PP(3);

	cxt = AllocSetContextCreate(CurrentMemoryContext, "pigeon filter input",
								ALLOCSET_DEFAULT_SIZES);
	result = pgn_filter_match(policy,
							  pgn_filter_input(attributes,
											   body ? VARDATA_ANY(body) : NULL,
											   body ? VARSIZE_ANY_EXHDR(body) : 0,
											   cxt));
	MemoryContextDelete(cxt);
	return result;
}

/* Compile the policy unless it is the one of the call before. */
static FilterPolicy *
cached_policy(FmgrInfo *flinfo, Jsonb *source, FilterScope scope)
{
	PolicyCache *cache = flinfo->fn_extra;

	if (cache == NULL)
		cache = flinfo->fn_extra = MemoryContextAllocZero(flinfo->fn_mcxt,
														  sizeof(PolicyCache));
	if (cache->policy)
	{
		if (cache->scope == scope &&
			VARSIZE(cache->source) == VARSIZE(source) &&
			memcmp(cache->source, source, VARSIZE(source)) == 0)
			return cache->policy;
		pgn_filter_free(cache->policy);
		cache->policy = NULL;
	}
	cache->policy = pgn_filter_compile(source, scope, flinfo->fn_mcxt);
	cache->scope = scope;
	cache->source = MemoryContextAlloc(cache->policy->cxt, VARSIZE(source));
	memcpy(cache->source, source, VARSIZE(source));
	return cache->policy;
}
