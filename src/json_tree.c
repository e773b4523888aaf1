/*
 * json_tree.c
 *		A JSON document as a light tree of values.
 *
 * A message body is matched against the filter policies of many
 * subscriptions, so it is read once into a tree that is cheap to build and to
 * look things up in: 16 bytes per value, members sorted by name, strings and
 * numbers left where they lie.
 *
 * Reading never raises an error, because a subscriber's filter must not fail
 * the publisher.  This is why PostgreSQL's own parser is not used here:
 * pg_parse_json() raises one for deep nesting (check_stack_depth), and before
 * version 16 for an escape such as \u4e2d that the database encoding does not
 * have.  This reader keeps its own stack, so depth costs no C stack; more
 * than PGN_JSON_MAX_DEPTH levels are refused.  Otherwise it accepts exactly
 * what the type json accepts.
 *
 * A character that cannot be held in the database encoding, half a surrogate
 * pair and \u0000 are read as the byte 0, which no text contains.  The rest
 * of the string can still be matched.
 *
 * A name that occurs twice in an object is kept twice.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "json_tree.h"

/* The bytes of the shortest escape for a character outside of ASCII. */
#define MAX_ESCAPED_CHARACTER	6

/* What is being built: the values not yet in their container, as a stack. */
typedef struct Builder
{
	MemoryContext cxt;
	JsonTreeMember *pending;
	size_t		npending;
	size_t		size;
	const char *name;			/* of the next value, within an object */
	uint32		name_length;
	int			depth;
	int			max_depth;
	size_t		first[PGN_JSON_MAX_DEPTH];	/* first value of each open
											 * container */
} Builder;

/* Where in a text the reader is. */
typedef struct Reader
{
	const char *at;
	const char *end;
	Builder		builder;
} Reader;

static void begin_tree(Builder *builder, int max_depth, MemoryContext cxt);
static void end_tree(Builder *builder, JsonTree *result);
static JsonTree *add_value(Builder *builder, JsonTreeKind kind);
static void add_text(Builder *builder, JsonTreeKind kind, const char *chars,
					 int length);
static bool open_container(Builder *builder, JsonTreeKind kind);
static JsonTree *innermost(Builder *builder);
static void close_container(Builder *builder);
static int	compare_members(const void *a, const void *b);

static bool read_document(Reader *reader);
static bool read_value(Reader *reader, bool *opened);
static bool read_name(Reader *reader);
static bool read_word(Reader *reader, const char *word, JsonTreeKind kind);
static bool read_number(Reader *reader);
static bool read_string(Reader *reader, const char **chars, int *length);
static bool unescape(const char *chars, const char *end, char *result,
					 int *length);
static bool read_hex4(const char *chars, const char *end, pg_wchar *c);
static int	server_character(pg_wchar c, char *result);

/*
 * Read a document.  Returns false if it is not JSON or nested too deeply.
 * The tree refers to the text and lives in the given context.
 */
bool
pgn_json_read(const char *chars, int length, MemoryContext cxt,
			  JsonTree *result)
{
	Reader		reader;
	bool		valid;

	reader.at = chars;
	reader.end = chars + length;
	begin_tree(&reader.builder, PGN_JSON_MAX_DEPTH, cxt);
	valid = read_document(&reader);
	end_tree(&reader.builder, valid ? result : NULL);
	return valid;
}

/*
 * Take over a jsonb.  Returns false if it is nested more deeply than
 * max_depth.  The tree refers to the jsonb and lives in the given context.
 */
bool
pgn_json_from_jsonb(Jsonb *jsonb, int max_depth, MemoryContext cxt,
					JsonTree *result)
{
	Builder		builder;
	JsonbIterator *iterator = JsonbIteratorInit(&jsonb->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	bool		scalar = false; /* a lone scalar, wrapped in an array */

	begin_tree(&builder, Min(max_depth, PGN_JSON_MAX_DEPTH), cxt);
	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_BEGIN_ARRAY:
				scalar = value.val.array.rawScalar;
				if (scalar)
					break;
				/* FALLTHROUGH */
			case WJB_BEGIN_OBJECT:
				if (!open_container(&builder, token == WJB_BEGIN_ARRAY ?
									PGN_JSON_ARRAY : PGN_JSON_OBJECT))
				{
					end_tree(&builder, NULL);
					return false;
				}
				break;

			case WJB_END_ARRAY:
			case WJB_END_OBJECT:
				if (!scalar)
					close_container(&builder);
				break;

			case WJB_KEY:
				builder.name = value.val.string.val;
				builder.name_length = value.val.string.len;
				break;

			default:
				if (value.type == jbvString)
					add_text(&builder, PGN_JSON_STRING, value.val.string.val,
							 value.val.string.len);
				else if (value.type == jbvNumeric)
					add_value(&builder, PGN_JSON_NUMERIC)->u.numeric =
						value.val.numeric;
				else if (value.type == jbvBool)
					add_value(&builder, value.val.boolean ?
							  PGN_JSON_TRUE : PGN_JSON_FALSE);
				else
					add_value(&builder, PGN_JSON_NULL);
		}
	}
	end_tree(&builder, result);
	return true;
}

/*
 * Find a member of an object by name; the first one, if there are several.
 * Returns NULL if there is none.
 */
JsonTreeMember *
pgn_json_find(const JsonTree *object, const char *name, int length)
{
	JsonTreeMember *members = object->u.members;
	uint32		low = 0;
	uint32		high = object->count;

	while (low < high)
	{
		uint32		middle = low + (high - low) / 2;

		if (pgn_compare_bytes(members[middle].name,
							  members[middle].name_length,
							  name, length) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < object->count && members[low].name_length == length &&
		memcmp(members[low].name, name, length) == 0)
		return &members[low];
	return NULL;
}

/* Find the next member that has the same name, or NULL. */
JsonTreeMember *
pgn_json_find_next(const JsonTree *object, JsonTreeMember *member)
{
	JsonTreeMember *next = member + 1;

	if (next < object->u.members + object->count &&
		compare_members(member, next) == 0)
		return next;
	return NULL;
}

/*
 * Return the value of a number, of whatever kind, or NULL for anything else.  It is
 * worked out once and kept in the given context, which must be the tree's.
 */
const Decimal *
pgn_json_decimal(JsonTree *number, MemoryContext cxt)
{
	Decimal    *decimal;

	switch (number->kind)
	{
		case PGN_JSON_DECIMAL:
			return number->u.decimal;
		case PGN_JSON_NUMBER_TEXT:
			decimal = MemoryContextAlloc(cxt, sizeof(Decimal));
			pgn_decimal_parse(number->u.chars, number->count, decimal);
			break;
		case PGN_JSON_NUMERIC:
			decimal = MemoryContextAlloc(cxt, sizeof(Decimal));
			pgn_decimal_from_numeric(number->u.numeric, cxt, decimal);
			break;
		default:
			return NULL;
	}
	number->kind = PGN_JSON_DECIMAL;
	number->u.decimal = decimal;
	return decimal;
}

/* Order byte strings by length and then by content: any order will do. */
int
pgn_compare_bytes(const char *a, int a_length, const char *b, int b_length)
{
	if (a_length != b_length)
		return a_length < b_length ? -1 : 1;
	return memcmp(a, b, a_length);
}

/* ---------- building a tree ---------- */

/* Start a tree of at most this depth, which is to live in the context. */
static void
begin_tree(Builder *builder, int max_depth, MemoryContext cxt)
{
	builder->cxt = cxt;
	builder->size = 32;
	builder->npending = 0;
	builder->pending = palloc(builder->size * sizeof(JsonTreeMember));
	builder->name = NULL;
	builder->name_length = 0;
	builder->depth = 0;
	builder->max_depth = max_depth;
}

/* Hand over the finished document, or drop it if there is no result. */
static void
end_tree(Builder *builder, JsonTree *result)
{
	if (result)
	{
		Assert(builder->depth == 0 && builder->npending == 1);
		*result = builder->pending[0].value;
	}
	pfree(builder->pending);
}

/* Add a value to the innermost open container. */
static JsonTree *
add_value(Builder *builder, JsonTreeKind kind)
{
	JsonTreeMember *member;

	if (builder->npending == builder->size)
	{
		CHECK_FOR_INTERRUPTS();
		builder->size *= 2;
		builder->pending = repalloc_huge(builder->pending,
										 builder->size * sizeof(JsonTreeMember));
	}
	member = &builder->pending[builder->npending++];
	member->name = builder->name;
	member->name_length = builder->name_length;
	memset(&member->value, 0, sizeof(JsonTree));
	member->value.kind = kind;
	return &member->value;
}

/* Add a value that refers to these characters. */
static void
add_text(Builder *builder, JsonTreeKind kind, const char *chars, int length)
{
	JsonTree   *value = add_value(builder, kind);

	value->u.chars = chars;
	value->count = length;
}

/* Start an array or object.  Returns false if that nests too deeply. */
static bool
open_container(Builder *builder, JsonTreeKind kind)
{
	if (builder->depth == builder->max_depth)
		return false;
	add_value(builder, kind);
	builder->first[builder->depth++] = builder->npending;
	return true;
}

/* Return the container that the next value goes into, or NULL. */
static JsonTree *
innermost(Builder *builder)
{
	if (builder->depth == 0)
		return NULL;
	return &builder->pending[builder->first[builder->depth - 1] - 1].value;
}

/* Move the values of the innermost container from the stack into it. */
static void
close_container(Builder *builder)
{
	JsonTree   *container = innermost(builder);
	size_t		first = builder->first[--builder->depth];
	size_t		count = builder->npending - first;
	JsonTreeMember *values = &builder->pending[first];

	builder->npending = first;
	container->count = count;
	if (count == 0)
		return;

	if (container->kind == PGN_JSON_ARRAY)
	{
		container->u.elements =
			MemoryContextAllocHuge(builder->cxt, count * sizeof(JsonTree));
		for (size_t i = 0; i < count; i++)
			container->u.elements[i] = values[i].value;
	}
	else
	{
		container->u.members =
			MemoryContextAllocHuge(builder->cxt,
								   count * sizeof(JsonTreeMember));
		memcpy(container->u.members, values, count * sizeof(JsonTreeMember));
		if (count > 1)
			qsort(container->u.members, count, sizeof(JsonTreeMember),
				  compare_members);
		for (size_t i = 0; i < count && !container->dotted; i++)
			container->dotted = memchr(values[i].name, '.',
									   values[i].name_length) != NULL;
	}
}

/* Order members by name, for qsort(). */
static int
compare_members(const void *a, const void *b)
{
	const JsonTreeMember *x = a;
	const JsonTreeMember *y = b;

	return pgn_compare_bytes(x->name, x->name_length,
							 y->name, y->name_length);
}

/* ---------- reading text ---------- */

/* Skip the space that JSON allows between its tokens. */
static inline void
skip_space(Reader *reader)
{
	while (reader->at < reader->end &&
		   (*reader->at == ' ' || *reader->at == '\t' ||
			*reader->at == '\n' || *reader->at == '\r'))
		reader->at++;
}

/* Take the next character, past space, if it is the one given. */
static inline bool
take(Reader *reader, char c)
{
	skip_space(reader);
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	return true;
}

/* Read one value and whatever it contains, up to the end of the text. */
static bool
read_document(Reader *reader)
{
	for (;;)
	{
		JsonTree   *container;
		bool		opened;

		if (!read_value(reader, &opened))
			return false;

		/* What follows is the next value, or the end of some containers. */
		while ((container = innermost(&reader->builder)) != NULL)
		{
			bool		in_object = (container->kind == PGN_JSON_OBJECT);

			if (take(reader, in_object ? '}' : ']'))
			{
				close_container(&reader->builder);
				opened = false;
				continue;
			}
			if (!opened && !take(reader, ','))
				return false;
			if (in_object && !read_name(reader))
				return false;
			break;
		}
		if (container == NULL)
		{
			skip_space(reader);
			return reader->at == reader->end;
		}
	}
}

/* Read a scalar, or the opening bracket of a container. */
static bool
read_value(Reader *reader, bool *opened)
{
	const char *chars;
	int			length;

	*opened = false;
	skip_space(reader);
	if (reader->at == reader->end)
		return false;

	switch (*reader->at)
	{
		case '{':
		case '[':
			*opened = true;
			return open_container(&reader->builder, *reader->at++ == '{' ?
								  PGN_JSON_OBJECT : PGN_JSON_ARRAY);
		case '"':
			if (!read_string(reader, &chars, &length))
				return false;
			add_text(&reader->builder, PGN_JSON_STRING, chars, length);
			return true;
		case 't':
			return read_word(reader, "true", PGN_JSON_TRUE);
		case 'f':
			return read_word(reader, "false", PGN_JSON_FALSE);
		case 'n':
			return read_word(reader, "null", PGN_JSON_NULL);
		default:
			return read_number(reader);
	}
}

/* Read the name of a member and the colon after it. */
static bool
read_name(Reader *reader)
{
	int			length;

	skip_space(reader);
	if (reader->at == reader->end || *reader->at != '"' ||
		!read_string(reader, &reader->builder.name, &length))
		return false;
	reader->builder.name_length = length;
	return take(reader, ':');
}

/* Read true, false or null. */
static bool
read_word(Reader *reader, const char *word, JsonTreeKind kind)
{
	size_t		length = strlen(word);

	if (reader->end - reader->at < length ||
		memcmp(reader->at, word, length) != 0)
		return false;
	reader->at += length;
	add_value(&reader->builder, kind);
	return true;
}

/* Skip a run of digits, of which there must be at least one. */
static bool
skip_digits(Reader *reader)
{
	const char *start = reader->at;

	while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9')
		reader->at++;
	return reader->at > start;
}

/* Read a number. */
static bool
read_number(Reader *reader)
{
	const char *start = reader->at;

	if (*reader->at == '-')
		reader->at++;
	if (reader->at < reader->end && *reader->at == '0')
		reader->at++;
	else if (!skip_digits(reader))
		return false;
	if (reader->at < reader->end && *reader->at == '.')
	{
		reader->at++;
		if (!skip_digits(reader))
			return false;
	}
	if (reader->at < reader->end && (*reader->at == 'e' || *reader->at == 'E'))
	{
		reader->at++;
		if (reader->at < reader->end &&
			(*reader->at == '+' || *reader->at == '-'))
			reader->at++;
		if (!skip_digits(reader))
			return false;
	}
	add_text(&reader->builder, PGN_JSON_NUMBER_TEXT, start,
			 reader->at - start);
	return true;
}

/*
 * Read a string.  The result lies in the text itself, unless the string
 * contains escapes.
 */
static bool
read_string(Reader *reader, const char **chars, int *length)
{
	const char *start = ++reader->at;
	bool		escaped = false;
	char	   *result;

	for (; reader->at < reader->end && *reader->at != '"'; reader->at++)
	{
		if ((unsigned char) *reader->at < 32)
			return false;
		if (*reader->at == '\\')
		{
			escaped = true;
			if (++reader->at == reader->end)
				return false;
		}
	}
	if (reader->at == reader->end)
		return false;

	*chars = start;
	*length = reader->at - start;
	reader->at++;
	if (!escaped)
		return true;

	result = MemoryContextAllocHuge(reader->builder.cxt, *length);
	*chars = result;
	return unescape(start, start + *length, result, length);
}

/*
 * Resolve the escapes of a string.  The result never takes more bytes than
 * the escaped string.  Returns false if there is a malformed escape.
 */
static bool
unescape(const char *chars, const char *end, char *result, int *length)
{
	static const char codes[] = "\"\\/bfnrt";
	static const char meanings[] = "\"\\/\b\f\n\r\t";
	char	   *to = result;

	while (chars < end)
	{
		const char *code;
		pg_wchar	c;
		pg_wchar	low;

		if (*chars != '\\')
		{
			*to++ = *chars++;
			continue;
		}
		chars++;
		if (*chars != 'u')
		{
			code = (*chars != '\0') ? strchr(codes, *chars) : NULL;
			if (code == NULL)
				return false;
			*to++ = meanings[code - codes];
			chars++;
			continue;
		}
		if (!read_hex4(chars + 1, end, &c))
			return false;
		chars += 5;
		if (is_utf16_surrogate_first(c) && end - chars >= 6 &&
			chars[0] == '\\' && chars[1] == 'u' &&
			read_hex4(chars + 2, end, &low) && is_utf16_surrogate_second(low))
		{
			c = surrogate_pair_to_codepoint(c, low);
			chars += 6;
		}
		to += server_character(c, to);
	}
	*length = to - result;
	return true;
}

/* Read the four digits of an escape. */
static bool
read_hex4(const char *chars, const char *end, pg_wchar *c)
{
	*c = 0;
	if (end - chars < 4)
		return false;
	for (int i = 0; i < 4; i++)
	{
		char		digit = chars[i];

		if (digit >= '0' && digit <= '9')
			digit -= '0';
		else if (digit >= 'a' && digit <= 'f')
			digit -= 'a' - 10;
		else if (digit >= 'A' && digit <= 'F')
			digit -= 'A' - 10;
		else
			return false;
		*c = *c * 16 + digit;
	}
	return true;
}

/*
 * Write a character in the database encoding, or a zero byte if it has no
 * such character, and return the length.
 */
static int
server_character(pg_wchar c, char *result)
{
	unsigned char utf8[MAX_UNICODE_EQUIVALENT_STRING + 1];
	unsigned char converted[MAX_UNICODE_EQUIVALENT_STRING + 1];
	int			length;
	Oid			proc;

	*result = '\0';
	if (is_utf16_surrogate_first(c) || is_utf16_surrogate_second(c))
		return 1;
	unicode_to_utf8(c, utf8);
	length = pg_utf_mblen(utf8);
	utf8[length] = '\0';
	if (c < 0x80 || GetDatabaseEncoding() == PG_UTF8)
	{
		memcpy(result, utf8, length);
		return length;
	}

	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (!OidIsValid(proc) ||
		pg_do_encoding_conversion_buf(proc, PG_UTF8, GetDatabaseEncoding(),
									  utf8, length, converted,
									  sizeof(converted), true) != length)
		return 1;
	length = strlen((char *) converted);
	if (length > MAX_ESCAPED_CHARACTER)
		return 1;
	memcpy(result, converted, length);
	return length;
}
