/*
 * filter_match.c
 *		Matches a message against filter policies.
 *
 * The message is read into a tree once, when the first policy needs it, and
 * is then walked beside the tree of path steps of each policy
 * (filter_compile.c).
 *
 * What a policy asks for:
 *	- A value is a scalar.  Arrays are looked through, at any depth, and any
 *	  element will do, for "anything-but" too.
 *	- "a.b": 1 in a message means the same as "a": {"b": 1}.  If a name is
 *	  there several times, in either form, objects are taken together and
 *	  everything else counts like the elements of an array.
 *	- What keys have in common must be found in the same element: there must
 *	  be a way to pick one element of every array so that all keys match
 *	  what is then left of the message.  (The SNS guide is silent.  Event
 *	  Ruler, the library that SNS's error messages come from, does so too.)
 *	- "exists": false means that there is no value at that path in what was
 *	  picked for the other keys, or nowhere, if nothing had to be picked.  An
 *	  object or an empty array is not a value, null is one.
 *	- "exists": true wants a value other than null and the empty string (SNS
 *	  guide).
 *	- Binary attributes are ignored.  A message without any attribute is
 *	  filtered out even by "exists": false (SNS guide).
 *
 * Memory that a match needs is freed before it returns, except that the
 * value of a number is worked out once and kept with the message.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "filter_compile.h"

/* A part of the message that may or may not have been read yet. */
typedef enum InputState
{
	INPUT_UNREAD,
	INPUT_READ,
	INPUT_INVALID
} InputState;

struct FilterInput
{
	MemoryContext cxt;
	Jsonb	   *attributes;		/* may be NULL */
	const char *body;			/* may be NULL */
	int			body_length;
	InputState	attributes_state;
	InputState	body_state;
	JsonTree	attributes_tree;
	JsonTree	body_tree;
};

/*
 * An object in which paths go on.  What its names stand for begins at this
 * offset of the path's text, and with dots, they may be several steps.
 */
typedef struct Source
{
	const JsonTree *object;
	int			offset;
} Source;

#define LOCAL_SOURCES	8

/* The objects that count as one at some step of a path. */
typedef struct SourceSet
{
	int			count;
	int			size;
	Source	   *items;
	Source		local[LOCAL_SOURCES];	/* so that few need no memory */
} SourceSet;

static bool read_attributes(FilterInput *input);
static bool check_attribute(JsonTree *value, bool *binary);
static bool read_body(FilterInput *input);
static bool match_object(const FilterPolicy *policy, JsonTree *object,
						 MemoryContext cxt);
static bool match_sources(const FilterNode *node, const SourceSet *sources,
						  MemoryContext cxt);
static bool match_child(const FilterNode *node, const SourceSet *parents,
						MemoryContext cxt);
static bool match_value(const FilterNode *node, JsonTree *value,
						MemoryContext cxt);
static bool match_scalar(const FilterNode *node, JsonTree *value,
						 MemoryContext cxt);
static void init_sources(SourceSet *set);
static void add_source(SourceSet *set, const JsonTree *object, int offset);
static void free_sources(SourceSet *set);

/*
 * Prepare a message for matching.  Nothing is read until a policy needs it.
 * The result lives in the given context, and attributes and body (either may
 * be NULL) must last as long.
 */
FilterInput *
pgn_filter_input(Jsonb *attributes, const char *body, int length,
				 MemoryContext cxt)
{
	FilterInput *input = MemoryContextAllocZero(cxt, sizeof(FilterInput));

	input->cxt = cxt;
	input->attributes = attributes;
	input->body = body;
	input->body_length = length;
	return input;
}

/*
 * Does the message pass the policy?  There is no message that makes this fail,
 * short of memory or stack.
 */
FilterResult
pgn_filter_match(const FilterPolicy *policy, FilterInput *input)
{
	const FilterNode *first = linitial(policy->alternatives);

	if (first->children == NIL)
		return PGN_FILTER_MATCHED;	/* the empty policy */

	if (policy->scope == PGN_FILTER_SCOPE_BODY)
	{
		if (!read_body(input))
			return PGN_FILTER_INVALID_MESSAGE_BODY;
		return match_object(policy, &input->body_tree, input->cxt) ?
			PGN_FILTER_MATCHED : PGN_FILTER_MESSAGE_BODY;
	}

	if (input->attributes == NULL ||
		(JB_ROOT_IS_OBJECT(input->attributes) &&
		 JB_ROOT_COUNT(input->attributes) == 0))
		return PGN_FILTER_NO_MESSAGE_ATTRIBUTES;
	if (!read_attributes(input))
		return PGN_FILTER_INVALID_ATTRIBUTES;
	return match_object(policy, &input->attributes_tree, input->cxt) ?
		PGN_FILTER_MATCHED : PGN_FILTER_MESSAGE_ATTRIBUTES;
}

/* ---------- the message ---------- */

/* Make sure that the attributes have been read.  False if malformed. */
static bool
read_attributes(FilterInput *input)
{
	JsonTree   *tree = &input->attributes_tree;
	uint32		kept = 0;

	if (input->attributes_state != INPUT_UNREAD)
		return input->attributes_state == INPUT_READ;

	input->attributes_state = INPUT_INVALID;
	if (!pgn_json_from_jsonb(input->attributes, PGN_JSON_MAX_DEPTH,
							 input->cxt, tree) ||
		tree->kind != PGN_JSON_OBJECT)
		return false;
	for (uint32 i = 0; i < tree->count; i++)
	{
		bool		binary;

		if (!check_attribute(&tree->u.members[i].value, &binary))
			return false;
		if (!binary)
			tree->u.members[kept++] = tree->u.members[i];
	}
	tree->count = kept;
	tree->dotted = false;		/* attributes do not nest */
	input->attributes_state = INPUT_READ;
	return true;
}

/*
 * Is this what an attribute can be: a string, a number, an array of scalars,
 * or {"binary": "..."}?
 */
static bool
check_attribute(JsonTree *value, bool *binary)
{
	*binary = false;
	switch (value->kind)
	{
		case PGN_JSON_STRING:
		case PGN_JSON_NUMERIC:
			return true;
		case PGN_JSON_ARRAY:
			for (uint32 i = 0; i < value->count; i++)
			{
				if (PGN_JSON_IS_CONTAINER(&value->u.elements[i]))
					return false;
			}
			return true;
		case PGN_JSON_OBJECT:
			*binary = true;
			return value->count == 1 &&
				pgn_compare_bytes(value->u.members[0].name,
								  value->u.members[0].name_length,
								  "binary", strlen("binary")) == 0 &&
				value->u.members[0].value.kind == PGN_JSON_STRING;
		default:
			return false;
	}
}

/* Make sure that the body has been read.  False if it is no JSON object. */
static bool
read_body(FilterInput *input)
{
	if (input->body_state == INPUT_UNREAD)
		input->body_state =
			input->body &&
			pgn_json_read(input->body, input->body_length, input->cxt,
						  &input->body_tree) &&
			input->body_tree.kind == PGN_JSON_OBJECT ?
			INPUT_READ : INPUT_INVALID;
	return input->body_state == INPUT_READ;
}

/* ---------- the walk ---------- */

/* Does any alternative of the policy match the message? */
static bool
match_object(const FilterPolicy *policy, JsonTree *object, MemoryContext cxt)
{
	SourceSet	top;
	ListCell   *cell;
	bool		matched = false;

	init_sources(&top);
	add_source(&top, object, 0);
	foreach(cell, policy->alternatives)
	{
		if (match_sources(lfirst(cell), &top, cxt))
		{
			matched = true;
			break;
		}
	}
	free_sources(&top);
	return matched;
}

/* Does everything asked for at the node match in these objects together? */
static bool
match_sources(const FilterNode *node, const SourceSet *sources,
			  MemoryContext cxt)
{
	ListCell   *cell;

	check_stack_depth();
	if (node->rules != NIL)
		return false;			/* an object is not a value */
	foreach(cell, node->children)
	{
		if (!match_child(lfirst(cell), sources, cxt))
			return false;
	}
	return true;
}

/*
 * Does the node match in what its parent's objects have under its name?
 * Objects there are one candidate, and every other value is one.  If a value
 * is wanted, one candidate must match, and otherwise all of them.
 */
static bool
match_child(const FilterNode *node, const SourceSet *parents,
			MemoryContext cxt)
{
	SourceSet	objects;
	bool		decided = false;

	init_sources(&objects);
	for (int i = 0; i < parents->count && !decided; i++)
	{
		const Source *parent = &parents->items[i];
		const char *name = node->path + parent->offset;
		JsonTreeMember *member;

		for (member = pgn_json_find(parent->object, name,
									node->length - parent->offset);
			 member != NULL && !decided;
			 member = pgn_json_find_next(parent->object, member))
		{
			if (member->value.kind == PGN_JSON_OBJECT)
				add_source(&objects, &member->value, node->length + 1);
			else
				decided = (match_value(node, &member->value, cxt) ==
						   node->wanted);
		}
		if (parent->object->dotted)
			add_source(&objects, parent->object, parent->offset);
	}
	if (!decided && objects.count > 0)
		decided = (match_sources(node, &objects, cxt) == node->wanted);
	free_sources(&objects);
	return decided == node->wanted;
}

/* Does the node match in this value? */
static bool
match_value(const FilterNode *node, JsonTree *value, MemoryContext cxt)
{
	SourceSet	object;
	bool		matched;

	check_stack_depth();
	switch (value->kind)
	{
		case PGN_JSON_ARRAY:
			for (uint32 i = 0; i < value->count; i++)
			{
				CHECK_FOR_INTERRUPTS();
				if (match_value(node, &value->u.elements[i],
								cxt) == node->wanted)
					return node->wanted;
			}
			return !node->wanted;
		case PGN_JSON_OBJECT:
			init_sources(&object);
			add_source(&object, value, node->length + 1);
			matched = match_sources(node, &object, cxt);
			free_sources(&object);
			return matched;
		default:
			return match_scalar(node, value, cxt);
	}
}

/* Does this scalar pass all rules of the node, and is nothing wanted below? */
static bool
match_scalar(const FilterNode *node, JsonTree *value, MemoryContext cxt)
{
	ListCell   *cell;

	if (node->absent)
		return false;
	foreach(cell, node->rules)
	{
		if (!pgn_rules_accept(lfirst(cell), value, cxt))
			return false;
	}
	foreach(cell, node->children)
	{
		if (((FilterNode *) lfirst(cell))->wanted)
			return false;
	}
	return true;
}

/* Start an empty set. */
static void
init_sources(SourceSet *set)
{
	set->count = 0;
	set->size = LOCAL_SOURCES;
	set->items = set->local;
}

/* Add an object in which a path goes on at the offset. */
static void
add_source(SourceSet *set, const JsonTree *object, int offset)
{
	if (set->count == set->size)
	{
		set->size *= 2;
		if (set->items == set->local)
		{
			set->items = palloc(set->size * sizeof(Source));
			memcpy(set->items, set->local, sizeof(set->local));
		}
		else
			set->items = repalloc_huge(set->items,
									   set->size * sizeof(Source));
	}
	set->items[set->count].object = object;
	set->items[set->count].offset = offset;
	set->count++;
}

/* Free what the set has allocated. */
static void
free_sources(SourceSet *set)
{
	if (set->items != set->local)
		pfree(set->items);
}
