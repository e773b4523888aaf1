/*
 * json_tree.h
 *		A JSON document as a light tree of values.
 */
#ifndef PIGEON_JSON_TREE_H
#define PIGEON_JSON_TREE_H

#include "utils/jsonb.h"

#include "decimal.h"

/* The deepest nesting of arrays and objects that is read. */
#define PGN_JSON_MAX_DEPTH	1000

typedef enum JsonTreeKind
{
	PGN_JSON_NULL,
	PGN_JSON_FALSE,
	PGN_JSON_TRUE,
	PGN_JSON_STRING,
	PGN_JSON_NUMBER_TEXT,		/* as JSON writes it */
	PGN_JSON_NUMERIC,			/* as jsonb holds it */
	PGN_JSON_DECIMAL,			/* ready to be compared */
	PGN_JSON_ARRAY,
	PGN_JSON_OBJECT
} JsonTreeKind;

/*
 * A value.  Strings, names and numbers are not null-terminated and mostly lie
 * in the text or jsonb the tree was read from.
 */
typedef struct JsonTree
{
	uint8		kind;			/* a JsonTreeKind */
	bool		dotted;			/* object: some name contains a dot */
	uint32		count;			/* bytes, elements or members */
	union
	{
		const char *chars;		/* string, number text */
		Numeric		numeric;
		Decimal    *decimal;
		struct JsonTree *elements;
		struct JsonTreeMember *members; /* sorted by name */
	}			u;
} JsonTree;

typedef struct JsonTreeMember
{
	const char *name;
	uint32		name_length;
	JsonTree	value;
} JsonTreeMember;

#define PGN_JSON_IS_CONTAINER(value) ((value)->kind >= PGN_JSON_ARRAY)

extern bool pgn_json_read(const char *chars, int length, MemoryContext cxt,
						  JsonTree *result);
extern bool pgn_json_from_jsonb(Jsonb *jsonb, int max_depth, MemoryContext cxt,
								JsonTree *result);
extern JsonTreeMember *pgn_json_find(const JsonTree *object, const char *name,
									 int length);
extern JsonTreeMember *pgn_json_find_next(const JsonTree *object,
										  JsonTreeMember *member);
extern const Decimal *pgn_json_decimal(JsonTree *number, MemoryContext cxt);
extern int	pgn_compare_bytes(const char *a, int a_length,
							  const char *b, int b_length);

#endif							/* PIGEON_JSON_TREE_H */
