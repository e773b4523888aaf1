/*
 * filter_policy.h
 *		Filter policies: which messages of a topic a subscription wants.
 *
 * A policy is compiled once and then matched against many messages; a message
 * is prepared once and then matched against many policies:
 *
 *		policy = pgn_filter_load(jsonb, scope, cxt);	-- once per backend
 *		...
 *		input = pgn_filter_input(attributes, body, length, cxt);
 *		for each subscription
 *			if (pgn_filter_match(policy, input) == PGN_FILTER_MATCHED)
 */
#ifndef PIGEON_FILTER_POLICY_H
#define PIGEON_FILTER_POLICY_H

#include "utils/jsonb.h"

/* What a policy looks at. */
typedef enum FilterScope
{
	PGN_FILTER_SCOPE_ATTRIBUTES,
	PGN_FILTER_SCOPE_BODY
} FilterScope;

/* Whether a message passes, or else why it is filtered out. */
typedef enum FilterResult
{
	PGN_FILTER_MATCHED,
	PGN_FILTER_MESSAGE_ATTRIBUTES,	/* the attributes do not match */
	PGN_FILTER_MESSAGE_BODY,	/* the body does not match */
	PGN_FILTER_NO_MESSAGE_ATTRIBUTES,	/* there are no attributes */
	PGN_FILTER_INVALID_ATTRIBUTES,	/* the attributes are malformed */
	PGN_FILTER_INVALID_MESSAGE_BODY /* the body is not a JSON object */
} FilterResult;

#define PGN_FILTER_RESULTS	(PGN_FILTER_INVALID_MESSAGE_BODY + 1)

typedef struct FilterPolicy FilterPolicy;
typedef struct FilterInput FilterInput;

extern void pgn_filter_init(void);
extern FilterScope pgn_filter_scope(const char *name);
extern FilterPolicy *pgn_filter_compile(Jsonb *policy, FilterScope scope,
										MemoryContext cxt);
extern FilterPolicy *pgn_filter_load(Jsonb *policy, FilterScope scope,
									 MemoryContext cxt);
extern void pgn_filter_free(FilterPolicy *policy);

extern FilterInput *pgn_filter_input(Jsonb *attributes, const char *body,
									 int length, MemoryContext cxt);
extern FilterResult pgn_filter_match(const FilterPolicy *policy,
									 FilterInput *input);
extern const char *pgn_filter_result_name(FilterResult result);

#endif							/* PIGEON_FILTER_POLICY_H */
