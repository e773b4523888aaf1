/*
 * filter_compile.c
 *		Compiles a filter policy: keys, nesting, "$or", and the limits.
 *
 * The grammar is the one of Amazon SNS:
 *
 *		policy	{key: rules | policy (body only), ..., "$or": [policy, ...]}
 *		rules	[value | operator, ...], see filter_parse.c
 *
 * All keys must match, one of the rules of each must.  A policy is turned into
 * a list of alternatives without any "or" between keys: one for each way to
 * choose from every "$or", and to have a key absent that may be absent.
 * Each alternative is a tree of the path steps that its keys share, which
 * filter_match.c walks beside the message.
 *
 * A dot in a key of a body policy means the same as nesting; attributes have
 * no nesting, and a dot there is part of the name.
 *
 * Where the sources on SNS disagree, this is what holds here:
 *	- "$or" is an operator if it is an array of at least two objects, none of
 *	  which has a member named like an operator; otherwise it is an ordinary
 *	  key (SNS guide).
 *	- Only leaf keys count towards the limit of five (current SNS guide; older
 *	  ones count the topmost keys).  A path that is used several times, in
 *	  branches of an "$or", counts once.
 *	- The combinations are the product, over the keys, of the number of rules
 *	  times the nesting depth of the key; those of "$or" are the sum over its
 *	  branches (SNS guide, and recorded from SNS).
 *	- The complexity of wildcards is, per key, the sum of the points times the
 *	  number of patterns that have points: one for a wildcard pattern with one
 *	  "*", three for each "*" of others, one for each "anything-but".  A policy
 *	  without wildcards has no such complexity.
 *	- "anything-but" takes a suffix, as the current SNS guide says.
 *
 * The limits are those of SNS by default, but they are settings: they are
 * checked when a policy is made, and not again when it is used.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "filter_compile.h"
#include "filter_parse.h"

/* A key of the policy: what is asked of the values at a path. */
typedef struct FilterKey
{
	const char *path;			/* names joined by dots */
	int			length;
	const FilterRules *rules;	/* NULL: there must be no value */
} FilterKey;

typedef struct Compiler
{
	FilterPolicy *policy;
	bool		limited;		/* enforce the settings */
	List	   *paths;			/* the distinct ones, null-terminated */
	bool		wildcards;
	int64		complexity;
} Compiler;

static FilterPolicy *compile(Jsonb *policy, FilterScope scope, bool limited,
							 MemoryContext cxt);
static void check_size(Jsonb *policy);
static double count_combinations(const JsonTree *object, int depth);
static bool is_or(const JsonTreeMember *member);
static List *compile_object(Compiler *compiler, const JsonTree *object,
							const FilterPath *place, const char *prefix);
static List *compile_or(Compiler *compiler, const JsonTree *branches,
						const FilterPath *place, const char *prefix);
static List *compile_key(Compiler *compiler, JsonTree *values,
						 const FilterPath *place, const char *path);
static List *combine(List *left, List *right);
static void note_path(Compiler *compiler, const char *path,
					  const FilterPath *place);
static FilterNode *build_tree(FilterScope scope, List *keys);
static FilterNode *build_step(FilterNode *parent, const char *path,
							  int length);

/*
 * Check a policy against grammar and limits and compile it.  Raises an
 * error that names the offending part if the policy is invalid.  The result
 * is a memory context of its own below cxt; an error leaves nothing there.
 */
FilterPolicy *
pgn_filter_compile(Jsonb *policy, FilterScope scope, MemoryContext cxt)
{
	check_size(policy);
	return compile(policy, scope, true, cxt);
}

/*
 * Compile a policy that has been accepted before.  This is the same as
 * pgn_filter_compile(), except that the settings which limit new policies do
 * not apply: lowering one must not break the subscriptions that exist.
 */
FilterPolicy *
pgn_filter_load(Jsonb *policy, FilterScope scope, MemoryContext cxt)
{
	return compile(policy, scope, false, cxt);
}

/* Free a policy. */
void
pgn_filter_free(FilterPolicy *policy)
{
	MemoryContextDelete(policy->cxt);
}

/* Compile a policy, within the settings or within what they can be set to. */
static FilterPolicy *
compile(Jsonb *policy, FilterScope scope, bool limited, MemoryContext cxt)
{
	FilterPath	top = {NULL, NULL, 0, 0};
	Compiler	compiler = {NULL, limited, NIL, false, 0};
	MemoryContext kept;
	MemoryContext scratch;
	MemoryContext caller = CurrentMemoryContext;
	JsonTree	tree;
	int			max_depth = limited ? pgn_filter_max_depth : PGN_JSON_MAX_DEPTH;
	double		max_combinations;
	List	   *alternatives;
	ListCell   *cell;

	/* Both contexts go away with the caller's if there is an error. */
	kept = AllocSetContextCreate(caller, "pigeon filter policy",
								 ALLOCSET_SMALL_SIZES);
	scratch = AllocSetContextCreate(caller, "pigeon filter compiler",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(scratch);
	compiler.policy = MemoryContextAllocZero(kept, sizeof(FilterPolicy));
	compiler.policy->cxt = kept;
	compiler.policy->scope = scope;

	if (!pgn_json_from_jsonb(policy, max_depth, scratch, &tree))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy is nested too deeply"),
				 errdetail("The limit is %d levels of objects and arrays.",
						   max_depth),
				 errhint("See the setting \"pigeon.filter_policy_max_depth\".")));
	if (tree.kind != PGN_JSON_OBJECT)
		ereport(ERROR,
				(pgn_filter_invalid_at(&top),
				 errdetail("A filter policy must be a JSON object.")));

	max_combinations = limited ? pgn_filter_max_combinations :
		PGN_FILTER_COMBINATIONS_LIMIT;
	if (count_combinations(&tree, 1) > max_combinations)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy is too complex"),
				 errdetail("It has %.0f combinations of rules, the limit is %.0f.",
						   count_combinations(&tree, 1), max_combinations),
				 errhint("See the setting \"pigeon.filter_policy_max_combinations\".")));

	if (tree.count > 0)
		alternatives = compile_object(&compiler, &tree, &top, NULL);
	else
		alternatives = list_make1(NIL);
	if (limited && compiler.wildcards &&
		compiler.complexity > pgn_filter_max_wildcard_complexity)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy has too many wildcards"),
				 errdetail("The complexity of its patterns is " INT64_FORMAT ", the limit is %d.",
						   compiler.complexity,
						   pgn_filter_max_wildcard_complexity),
				 errhint("See the setting \"pigeon.filter_policy_max_wildcard_complexity\".")));

	MemoryContextSwitchTo(kept);
	foreach(cell, alternatives)
		compiler.policy->alternatives =
		lappend(compiler.policy->alternatives,
				build_tree(scope, lfirst(cell)));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(scratch);
	MemoryContextSetParent(kept, cxt);
	return compiler.policy;
}

/* Fail if the policy is larger than allowed. */
static void
check_size(Jsonb *policy)
{
	if (VARSIZE(policy) > pgn_filter_max_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy is too large"),
				 errdetail("It takes %zu bytes, the limit is %d.",
						   (size_t) VARSIZE(policy), pgn_filter_max_size),
				 errhint("See the setting \"pigeon.filter_policy_max_size\".")));
}

/*
 * Return the number of combinations of a policy.  This looks at the shape only; what
 * is wrong with a policy is found out later.
 */
static double
count_combinations(const JsonTree *object, int depth)
{
	double		product = 1;

	for (int i = 0; i < object->count; i++)
	{
		const JsonTreeMember *member = &object->u.members[i];

		if (is_or(member))
		{
			double		sum = 0;

			for (int j = 0; j < member->value.count; j++)
				sum += count_combinations(&member->value.u.elements[j], depth);
			product *= sum;
		}
		else if (member->value.kind == PGN_JSON_OBJECT)
			product *= count_combinations(&member->value, depth + 1);
		else if (member->value.kind == PGN_JSON_ARRAY)
			product *= Max((double) member->value.count, 1) * depth;
	}
	return product;
}

/* Is this member the operator "$or"? */
static bool
is_or(const JsonTreeMember *member)
{
	if (member->name_length != 3 || memcmp(member->name, "$or", 3) != 0 ||
		member->value.kind != PGN_JSON_ARRAY || member->value.count < 2)
		return false;

	for (int i = 0; i < member->value.count; i++)
	{
		const JsonTree *branch = &member->value.u.elements[i];

		if (branch->kind != PGN_JSON_OBJECT)
			return false;
		for (int j = 0; j < branch->count; j++)
		{
			if (pgn_is_filter_operator(branch->u.members[j].name,
									   branch->u.members[j].name_length))
				return false;
		}
	}
	return true;
}

/*
 * Compile an object, the keys of which come below the prefix (NULL at the
 * top).  The result is a list of alternatives, each a list of FilterKey that
 * must all match.
 */
static List *
compile_object(Compiler *compiler, const JsonTree *object,
			   const FilterPath *place, const char *prefix)
{
	List	   *alternatives = list_make1(NIL);

	check_stack_depth();
	if (object->count == 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(place),
				 errdetail("The object is empty; only a whole policy may be.")));

	for (int i = 0; i < object->count; i++)
	{
		JsonTreeMember *member = &object->u.members[i];
		FilterPath	below = {place, member->name, member->name_length, 0};
		char	   *path = psprintf("%s%s%.*s", prefix ? prefix : "",
									prefix ? "." : "",
									(int) member->name_length, member->name);
		List	   *choices = NIL;

		if (is_or(member))
			choices = compile_or(compiler, &member->value, &below, prefix);
		else if (member->value.kind == PGN_JSON_ARRAY)
			choices = compile_key(compiler, &member->value, &below, path);
		else if (member->value.kind != PGN_JSON_OBJECT)
			ereport(ERROR,
					(pgn_filter_invalid_at(&below),
					 errdetail("The rules of a key must be an array."),
					 errhint("A single value is written as an array, too: [\"value\"].")));
		else if (compiler->policy->scope == PGN_FILTER_SCOPE_ATTRIBUTES)
			ereport(ERROR,
					(pgn_filter_invalid_at(&below),
					 errdetail("Message attributes have no nested keys."),
					 errhint("To filter on the message body, set the filter scope to \"body\".")));
		else
			choices = compile_object(compiler, &member->value, &below, path);
		alternatives = combine(alternatives, choices);
	}
	return alternatives;
}

/* Compile the branches of "$or": the alternatives of any of them. */
static List *
compile_or(Compiler *compiler, const JsonTree *branches,
		   const FilterPath *place, const char *prefix)
{
	List	   *alternatives = NIL;

	for (int i = 0; i < branches->count; i++)
	{
		FilterPath	element = {place, NULL, 0, i};

		alternatives = list_concat(alternatives,
								   compile_object(compiler,
												  &branches->u.elements[i],
												  &element, prefix));
	}
	return alternatives;
}

/* Compile the rules of one key: a value that they accept, or no value. */
static List *
compile_key(Compiler *compiler, JsonTree *values, const FilterPath *place,
			const char *path)
{
	FilterRuleList list;
	List	   *alternatives = NIL;
	FilterKey  *key;
	MemoryContext scratch;

	note_path(compiler, path, place);
	scratch = MemoryContextSwitchTo(compiler->policy->cxt);
	pgn_rules_parse(values, place, &list);
	MemoryContextSwitchTo(scratch);
	compiler->wildcards |= list.wildcards;
	compiler->complexity += list.complexity;

	if (list.rules)
	{
		key = palloc(sizeof(FilterKey));
		key->path = path;
		key->length = strlen(path);
		key->rules = list.rules;
		alternatives = lappend(alternatives, list_make1(key));
	}
	if (list.absent)
	{
		key = palloc(sizeof(FilterKey));
		key->path = path;
		key->length = strlen(path);
		key->rules = NULL;
		alternatives = lappend(alternatives, list_make1(key));
	}
	return alternatives;
}

/* Return all ways to satisfy a left and a right alternative together. */
static List *
combine(List *left, List *right)
{
	List	   *alternatives = NIL;
	ListCell   *l;
	ListCell   *r;

	CHECK_FOR_INTERRUPTS();
	foreach(l, left)
	{
		foreach(r, right)
			alternatives = lappend(alternatives,
								   list_concat_copy(lfirst(l), lfirst(r)));
	}
	return alternatives;
}

/* Count the distinct paths, and the steps of each, against the limits. */
static void
note_path(Compiler *compiler, const char *path, const FilterPath *place)
{
	int			max_keys = compiler->limited ? pgn_filter_max_keys :
	PGN_FILTER_KEYS_LIMIT;
	int			max_depth = compiler->limited ? pgn_filter_max_depth :
	PGN_JSON_MAX_DEPTH;
	int			steps = 1;
	ListCell   *cell;

	for (const char *at = path; *at; at++)
		steps += (*at == '.');
	if (steps > max_depth &&
		compiler->policy->scope == PGN_FILTER_SCOPE_BODY)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy is nested too deeply"),
				 errdetail("The key at %s has %d steps, the limit is %d.",
						   pgn_filter_path_string(place), steps, max_depth),
				 errhint("See the setting \"pigeon.filter_policy_max_depth\".")));

	foreach(cell, compiler->paths)
	{
		if (strcmp(lfirst(cell), path) == 0)
			return;
	}
	compiler->paths = lappend(compiler->paths, unconstify(char *, path));
	if (list_length(compiler->paths) > max_keys)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("filter policy has too many keys"),
				 errdetail("The key at %s is one more than the limit of %d.",
						   pgn_filter_path_string(place), max_keys),
				 errhint("See the setting \"pigeon.filter_policy_max_keys\".")));
}

/* Arrange the keys of an alternative by the steps of their paths. */
static FilterNode *
build_tree(FilterScope scope, List *keys)
{
	FilterNode *root = palloc0(sizeof(FilterNode));
	ListCell   *cell;

	CHECK_FOR_INTERRUPTS();
	root->path = "";
	foreach(cell, keys)
	{
		const FilterKey *key = lfirst(cell);
		FilterNode *node = root;

		root->wanted |= (key->rules != NULL);
		for (int i = 0; i <= key->length; i++)
		{
			if (i < key->length && (key->path[i] != '.' ||
									scope == PGN_FILTER_SCOPE_ATTRIBUTES))
				continue;
			node = build_step(node, key->path, i);
			node->wanted |= (key->rules != NULL);
		}
		if (key->rules)
			node->rules = lappend(node->rules, unconstify(FilterRules *, key->rules));
		else
			node->absent = true;
	}
	return root;
}

/* Return the child for a path of this length, which is made if need be. */
static FilterNode *
build_step(FilterNode *parent, const char *path, int length)
{
	FilterNode *node;
	ListCell   *cell;

	foreach(cell, parent->children)
	{
		node = lfirst(cell);
		if (pgn_compare_bytes(node->path, node->length, path, length) == 0)
			return node;
	}
	node = palloc0(sizeof(FilterNode));
	node->path = pnstrdup(path, length);
	node->length = length;
	parent->children = lappend(parent->children, node);
	return node;
}
