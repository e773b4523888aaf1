/*
 * filter_parse.h
 *		Reads the rules of a filter policy, and says what is wrong with them.
 */
#ifndef PIGEON_FILTER_PARSE_H
#define PIGEON_FILTER_PARSE_H

#include "filter_rules.h"

/* A place in a policy: a chain of steps from there up to the top. */
typedef struct FilterPath
{
	const struct FilterPath *up;	/* NULL at the top */
	const char *name;			/* of a member, or else NULL */
	int			length;
	int			index;			/* of an array element */
} FilterPath;

/* What a list of rules comes to. */
typedef struct FilterRuleList
{
	FilterRules *rules;			/* NULL if no value can match */
	bool		absent;			/* "exists": false is among them */
	bool		wildcards;		/* so is "wildcard" */
	int			complexity;		/* of the wildcards */
} FilterRuleList;

extern void pgn_rules_parse(JsonTree *values, const FilterPath *path,
							FilterRuleList *result);
extern bool pgn_is_filter_operator(const char *name, int length);
extern int	pgn_filter_invalid_at(const FilterPath *path);
extern char *pgn_filter_path_string(const FilterPath *path);

#endif							/* PIGEON_FILTER_PARSE_H */
