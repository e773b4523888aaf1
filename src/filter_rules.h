/*
 * filter_rules.h
 *		The rules that a filter policy gives for one key.
 */
#ifndef PIGEON_FILTER_RULES_H
#define PIGEON_FILTER_RULES_H

#include "nodes/pg_list.h"

#include "json_tree.h"

typedef struct FilterString
{
	const char *chars;			/* not null-terminated */
	int			length;
} FilterString;

typedef enum FilterOperator
{
	PGN_FILTER_PREFIX,
	PGN_FILTER_SUFFIX,
	PGN_FILTER_EQUALS_IGNORE_CASE,
	PGN_FILTER_WILDCARD,
	PGN_FILTER_CIDR,
	PGN_FILTER_RANGE
} FilterOperator;

/* A pattern, cut at its wildcards. */
typedef struct FilterWildcard
{
	int			nparts;			/* number of wildcards + 1 */
	int			length;			/* of all parts together */
	struct FilterWildcardPart
	{
		FilterString string;
		int		   *borders;	/* see find_part() */
	}			parts[FLEXIBLE_ARRAY_MEMBER];
} FilterWildcard;

typedef struct FilterCidr
{
	int			family;			/* AF_INET or AF_INET6 */
	int			bits;
	unsigned char address[16];
} FilterCidr;

/* Which numbers an operator accepts; a bound of NULL is none. */
typedef struct FilterRange
{
	const Decimal *low;
	const Decimal *high;
	bool		low_inclusive;
	bool		high_inclusive;
} FilterRange;

typedef struct FilterPattern
{
	FilterOperator op;
	union
	{
		FilterString string;	/* prefix, suffix, equals-ignore-case */
		FilterWildcard *wildcard;
		FilterCidr	cidr;
		FilterRange range;
	}			u;
} FilterPattern;

/* A value is accepted if any of the rules accepts it. */
typedef struct FilterRules
{
	bool		accept_null;
	bool		accept_false;
	bool		accept_true;
	bool		accept_nonempty;	/* "exists": true */
	int			nstrings;
	int			nnumbers;
	FilterString *strings;		/* sorted */
	const Decimal **numbers;	/* sorted */
	List	   *patterns;		/* of FilterPattern */
	List	   *excluded;		/* of FilterRules: "anything-but" */
} FilterRules;

extern bool pgn_rules_accept(const FilterRules *rules, JsonTree *value,
							 MemoryContext cxt);
extern void pgn_rules_sort(FilterRules *rules);
extern char *pgn_fold_case(const char *chars, int length);
extern bool pgn_parse_address(const char *chars, int length, FilterCidr *result);
extern FilterWildcard *pgn_wildcard_build(const char *pattern, int length,
										  int nwildcards);

#endif							/* PIGEON_FILTER_RULES_H */
