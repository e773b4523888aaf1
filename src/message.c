/*
 * message.c
 *		A message on its way in: what the sender gave, checked.
 *
 * The rules are those of SQS: a body is not empty and has the characters that
 * XML 1.0 allows; there are at most 10 attributes (more on their way through a
 * topic), with names of 1 to 256 of [A-Za-z0-9_.-]; a message's size is its
 * body plus the name, type and value of each attribute.
 *
 * Attributes are plain JSON, so a type is what the value says: a string is
 * String, a number Number, an array of scalars String.Array, and an object
 * {"binary": "<base64>"} Binary.
 */
#include "postgres.h"

#include "common/base64.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "message.h"

#define MAX_ATTRIBUTE_NAME 256
#define MAX_ID 128

/* The range and precision of SQS's numbers. */
#define MAX_NUMBER_DIGITS 38
#define MIN_NUMBER_EXPONENT (-128)
#define MAX_NUMBER_EXPONENT 126

/* Bytes that are looked at together; a loop of fixed length becomes vector instructions. */
#define BLOCK 64

/* Has a block anything but what most messages consist of? */
static inline bool
is_special(const unsigned char *block)
{
	unsigned char found = 0;

	for (int i = 0; i < BLOCK; i++)
		found |= (block[i] < 0x20) | (block[i] == 0xEF);
	return found != 0;
}

/* Has a block a byte that is forbidden, or may begin a forbidden character? */
static inline bool
is_suspicious(const unsigned char *block)
{
	unsigned char found = 0;

	for (int i = 0; i < BLOCK; i++)
	{
		unsigned char c = block[i];

		found |= (c < 0x20) & (c != '\t') & (c != '\n') & (c != '\r');
		found |= c == 0xEF;
	}
	return found != 0;
}

/*
 * The first character that a message must not have, as a pointer into the
 * text; NULL if there is none.  Those are the control characters but tab,
 * line feed and carriage return, and (in UTF-8) U+FFFE and U+FFFF.
 */
static const char *
forbidden_character(const char *text, int len)
{
	const unsigned char *p = (const unsigned char *) text;
	const unsigned char *end = p + len;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;

	while (p < end)
	{
		const unsigned char *block_end = p + Min(BLOCK, end - p);

		if (block_end - p == BLOCK && (!is_special(p) || !is_suspicious(p)))
			p = block_end;
		for (; p < block_end; p++)
		{
			if (*p < 0x20 && *p != '\t' && *p != '\n' && *p != '\r')
				return (const char *) p;
			if (*p == 0xEF && utf8 && end - p >= 3 && p[1] == 0xBF && p[2] >= 0xBE)
				return (const char *) p;
		}
	}
	return NULL;
}

/* Fail if the text has a character that messages must not have. */
static void
check_characters(const char *text, int len, const char *what)
{
	const char *bad = forbidden_character(text, len);
	unsigned char *p = (unsigned char *) bad;

	if (bad == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s has a character that is not allowed: U+%04X", what,
					*p < 0x20 ? *p : 0xFF00 | p[2] | 0xC0),
			 errdetail("Allowed are #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD and #x10000 to #x10FFFF."),
			 errhint("Encode binary data, for example as base64.")));
}

/* Fail unless the text can be the body of a message. */
void
pgn_check_body(const text *body)
{
	if (VARSIZE_ANY_EXHDR(body) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message body must not be empty")));
	check_characters(VARDATA_ANY(body), VARSIZE_ANY_EXHDR(body), "message body");
}

static void bad_attribute(const char *name, const char *problem, const char *hint)
			__attribute__((noreturn));

/* Complain about an attribute. */
static void
bad_attribute(const char *name, const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid message attribute \"%s\": %s", name, problem),
			 hint ? errhint("%s", hint) : 0));
}

/* Fail unless this can be the name of an attribute. */
static void
check_attribute_name(const char *name, int len)
{
	const char *hint = "A name has 1 to 256 letters, digits, underscores, hyphens and single dots, no dot at "
	"its ends, and does not start with \"AWS.\" or \"Amazon.\".";

	if (len == 0 || len > MAX_ATTRIBUTE_NAME)
		bad_attribute(name, "name is too short or too long", hint);
	for (int i = 0; i < len; i++)
	{
		char		c = name[i];
		bool		alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

		if (!alnum && c != '_' && c != '-' && c != '.')
			bad_attribute(name, "name has a character that is not allowed", hint);
		if (c == '.' && (i == 0 || i == len - 1 || name[i - 1] == '.'))
			bad_attribute(name, "name has a misplaced dot", hint);
	}
	if (pg_strncasecmp(name, "AWS.", 4) == 0 || pg_strncasecmp(name, "Amazon.", 7) == 0)
		bad_attribute(name, "name has a reserved prefix", hint);
}

/* Fail unless the number is in SQS's range; its length as text. */
static int64
check_number(const char *name, Numeric number)
{
	char	   *digits = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(number)));
	int64		len = strlen(digits);
	int			position = 0,	/* of the decimal point, in digits */
				significant = 0,
				seen = 0,
				first = -1;
	bool		point = false;

	for (char *p = digits; *p; p++)
	{
		if (*p == '.')
			point = true;
		if (*p < '0' || *p > '9')
			continue;
		if (!point)
			position++;
		if (*p != '0')
		{
			if (first < 0)
				first = seen;
			significant = seen - first + 1;
		}
		seen++;
	}
	if (significant > MAX_NUMBER_DIGITS ||
		(first >= 0 && (position - first - 1 > MAX_NUMBER_EXPONENT ||
						position - first - 1 < MIN_NUMBER_EXPONENT)))
		bad_attribute(name, "number is out of range",
					  "A number has up to 38 digits and lies between 10^-128 and 10^126; send it as a string.");
	pfree(digits);
	return len;
}

/* Fail unless the object is {"binary": "<base64>"}; the length of the bytes. */
static int64
check_binary(const char *name, JsonbContainer *object)
{
	const char *hint = "Write binary values as {\"binary\": \"<base64>\"}.";
	JsonbValue	buffer;
	JsonbValue *value;
	char	   *bytes;
	int			len;

	value = getKeyJsonValueFromContainer(object, "binary", strlen("binary"), &buffer);
	if (JsonContainerSize(object) != 1 || value == NULL || value->type != jbvString)
		bad_attribute(name, "object is not a binary value", hint);
	/* The decoder does not mind more padding than there can be. */
	for (int i = 0; i < value->val.string.len - 2; i++)
		if (value->val.string.val[i] == '=')
			bad_attribute(name, "value is not base64", hint);
	bytes = palloc(pg_b64_dec_len(value->val.string.len) + 1);
	len = pg_b64_decode(value->val.string.val, value->val.string.len, (void *) bytes,
						pg_b64_dec_len(value->val.string.len));
	if (len < 0)
		bad_attribute(name, "value is not base64", hint);
	if (len == 0)
		bad_attribute(name, "value must not be empty", NULL);
	pfree(bytes);
	return len;
}

/* Fail unless the array has only scalars; its length as JSON. */
static int64
check_array(const char *name, JsonbContainer *array)
{
	JsonbIterator *it = JsonbIteratorInit(array);
	JsonbIteratorToken token;
	JsonbValue	value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_ELEM)
			continue;
		if (value.type == jbvBinary)
			bad_attribute(name, "array has an element that is not a scalar", NULL);
		if (value.type == jbvString)
			check_characters(value.val.string.val, value.val.string.len, "message attribute");
		if (value.type == jbvNumeric)
			check_number(name, value.val.numeric);
	}
	return strlen(JsonbToCString(NULL, array, 0));
}

/* Fail unless the value can be an attribute's; the size of type and value. */
static int64
attribute_value_size(const char *name, JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			if (value->val.string.len == 0)
				bad_attribute(name, "value must not be empty", NULL);
			check_characters(value->val.string.val, value->val.string.len, "message attribute");
			return strlen("String") + value->val.string.len;
		case jbvNumeric:
			return strlen("Number") + check_number(name, value->val.numeric);
		case jbvBinary:
			if (JsonContainerIsArray(value->val.binary.data))
				return strlen("String.Array") + check_array(name, value->val.binary.data);
			return strlen("Binary") + check_binary(name, value->val.binary.data);
		default:
			bad_attribute(name, "booleans and null are not allowed",
						  "Attributes are strings, numbers, arrays of scalars, or {\"binary\": \"<base64>\"}.");
	}
	return 0;
}

/* Fail unless the document can be a message's attributes; their size as SQS counts it. */
int64
pgn_attributes_size(Jsonb *attributes)
{
	int64		size = 0;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (attributes == NULL)
		return 0;
	if (!JB_ROOT_IS_OBJECT(attributes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message attributes must be a JSON object"),
				 errhint("For example: {\"priority\": 1, \"customer\": \"anna\"}.")));

	it = JsonbIteratorInit(&attributes->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			char	   *name = pnstrdup(value.val.string.val, value.val.string.len);

			check_attribute_name(name, value.val.string.len);
			size += value.val.string.len;
			(void) JsonbIteratorNext(&it, &value, true);
			size += attribute_value_size(name, &value);
			pfree(name);
		}
	}
	return size;
}

/* Fail if there are more attributes than a message in a queue may have. */
void
pgn_check_attribute_count(Jsonb *attributes)
{
	if (attributes != NULL && JB_ROOT_COUNT(attributes) > PGN_MAX_ATTRIBUTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message has %d attributes, more than the allowed %d",
						(int) JB_ROOT_COUNT(attributes), PGN_MAX_ATTRIBUTES),
				 errhint("Put the data into the body.")));
}

/* Fail if a message is larger than its queue or topic takes. */
void
pgn_check_size(int64 size, int64 limit, const char *name)
{
	if (size > limit)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("message of " INT64_FORMAT " bytes is larger than the " INT64_FORMAT " that \"%s\" takes",
						size, limit, name),
				 errdetail("The size is that of the body and of the name, type and value of each attribute."),
				 errhint("Raise max_message_size, or send a reference to the data.")));
}

/* Can the text be a message group's or a deduplication id? */
bool
pgn_is_id(const char *text, int len)
{
	bool		good = len > 0 && len <= MAX_ID;

	for (int i = 0; good && i < len; i++)
		good = text[i] > ' ' && text[i] <= '~';

	return good;
}

/* Fail unless the text can be a message group's or a deduplication id. */
void
pgn_check_id(const text *id, const char *what)
{
	if (!pgn_is_id(VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid %s", what),
				 errdetail("It must have 1 to %d ASCII letters, digits and punctuation characters.", MAX_ID)));
}

/*
 * An interval in microseconds, a day counted as 24 hours and a month as 30
 * days.  Fails if it is negative, infinite, or beyond what is reasonable.
 */
int64
pgn_interval(const Interval *interval, const char *what)
{
	int64		days = (int64) interval->month * 30 + interval->day;
	double		about = (double) days * USECS_PER_DAY + (double) interval->time;
	int64		total;

	/* A quarter of the range leaves room for sums; it is 73,000 years. */
	if (about > (double) (PG_INT64_MAX / 4))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", what)));
	total = about < (double) (PG_INT64_MIN / 4) ? -1 : days * USECS_PER_DAY + interval->time;
	if (total < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", what)));
	return total;
}

/* A time and a duration; fails if the sum is no timestamp. */
TimestampTz
pgn_timestamp_plus(TimestampTz time, int64 microseconds)
{
	TimestampTz result = time + microseconds;

	if (!IS_VALID_TIMESTAMP(result))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return result;
}
