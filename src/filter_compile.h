/*
 * filter_compile.h
 *		What a filter policy is compiled to.
 */
#ifndef PIGEON_FILTER_COMPILE_H
#define PIGEON_FILTER_COMPILE_H

#include "filter_policy.h"
#include "filter_rules.h"

/*
 * A step of a path into the message, with what is asked of the values there
 * and below.
 */
typedef struct FilterNode
{
	const char *path;			/* all names from the top, joined by dots */
	int			length;
	List	   *rules;			/* of FilterRules: a value must pass all */
	bool		absent;			/* there must be no value */
	bool		wanted;			/* some value is needed here or below */
	List	   *children;		/* of FilterNode */
} FilterNode;

struct FilterPolicy
{
	MemoryContext cxt;			/* all of it lives here */
	FilterScope scope;
	List	   *alternatives;	/* of FilterNode: one of them must match */
};

/* The limits; see filter_policy.c for their defaults. */
extern int	pgn_filter_max_size;
extern int	pgn_filter_max_depth;
extern int	pgn_filter_max_keys;
extern int	pgn_filter_max_combinations;
extern int	pgn_filter_max_wildcard_complexity;

/* What those settings can be raised to, and so what holds in any case. */
#define PGN_FILTER_KEYS_LIMIT			1000
#define PGN_FILTER_COMBINATIONS_LIMIT	100000

#endif							/* PIGEON_FILTER_COMPILE_H */
