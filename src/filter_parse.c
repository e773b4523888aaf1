/*
 * filter_parse.c
 *		Reads the rules of a filter policy, and says what is wrong with them.
 *
 * The rules of a key are an array of exact values and of operators, each of
 * them an object with the operator as its only name.  Every error names the
 * place of the offending part as a jsonpath, which can be used to look it up.
 *
 * Numbers may have any precision and go as far as SQS allows for the numbers
 * in message attributes, 10^-128 to 10^126.  SNS documents a narrower domain,
 * -10^9 to 10^9 with five digits after the decimal point, which it does not
 * enforce; inside of it the answers are the same.
 *
 * Inside "anything-but", a list of patterns is taken wherever one is: no
 * other way says "neither this prefix nor that one".
 */
#include "postgres.h"

#include <sys/socket.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "filter_parse.h"

#define MAX_WILDCARDS	3		/* in one pattern */

/* The rules read so far. */
typedef struct RuleParser
{
	FilterRules *rules;
	int			size;			/* room for strings and numbers, each */
	bool		any;			/* there is a rule for values */
	bool		absent;
	bool		wildcards;
	int			points;			/* wildcard complexity, see the SNS guide */
	int			npatterns;
} RuleParser;

typedef void (*OperandParser) (RuleParser *parser, JsonTree *operand,
							   const FilterPath *path);

typedef struct OperatorEntry
{
	const char *name;
	OperandParser parse;
	bool		excludable;
} OperatorEntry;

static void begin_rules(RuleParser *parser, int size);
static void parse_rule(RuleParser *parser, JsonTree *rule,
					   const FilterPath *path);
static void parse_operator(RuleParser *parser, JsonTree *object,
						   const FilterPath *path);
static void parse_prefix(RuleParser *parser, JsonTree *operand,
						 const FilterPath *path);
static void parse_suffix(RuleParser *parser, JsonTree *operand,
						 const FilterPath *path);
static void parse_equals_ignore_case(RuleParser *parser, JsonTree *operand,
									 const FilterPath *path);
static void parse_wildcard(RuleParser *parser, JsonTree *operand,
						   const FilterPath *path);
static int	count_wildcards(const char *pattern, int length,
							const FilterPath *path);
static void parse_cidr(RuleParser *parser, JsonTree *operand,
					   const FilterPath *path);
static void parse_exists(RuleParser *parser, JsonTree *operand,
						 const FilterPath *path);
static void parse_numeric(RuleParser *parser, JsonTree *operand,
						  const FilterPath *path);
static void parse_anything_but(RuleParser *parser, JsonTree *operand,
							   const FilterPath *path);
static void parse_excluded_values(RuleParser *excluded, JsonTree *values,
								  const FilterPath *path);
static void parse_excluded_patterns(RuleParser *excluded, JsonTree *object,
									const FilterPath *path);
static void check_string(JsonTree *operand, const FilterPath *path);
static const Decimal *parse_number(JsonTree *number, const FilterPath *path);
static void add_string(RuleParser *parser, const char *chars, int length);
static void add_number(RuleParser *parser, const Decimal *number);
static FilterPattern *add_pattern(RuleParser *parser, FilterOperator op);
static FilterString copy_string(const char *chars, int length);
static bool is_text(const char *chars, int length, const char *word);

/* The operators, and whether "anything-but" takes them. */
static const OperatorEntry operators[] =
{
	{"anything-but", parse_anything_but, false},
	{"cidr", parse_cidr, false},
	{"equals-ignore-case", parse_equals_ignore_case, true},
	{"exists", parse_exists, false},
	{"numeric", parse_numeric, false},
	{"prefix", parse_prefix, true},
	{"suffix", parse_suffix, true},
	{"wildcard", parse_wildcard, true},
};

/*
 * Read the array of rules at the given place.  The result is allocated in
 * the current context and does not refer to the tree.
 */
void
pgn_rules_parse(JsonTree *values, const FilterPath *path,
				FilterRuleList *result)
{
	RuleParser	parser;

	if (values->count == 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("A key needs at least one rule.")));

	begin_rules(&parser, values->count);
	for (int i = 0; i < values->count; i++)
	{
		FilterPath	element = {path, NULL, 0, i};

		parse_rule(&parser, &values->u.elements[i], &element);
	}
	pgn_rules_sort(parser.rules);

	result->rules = parser.any ? parser.rules : NULL;
	result->absent = parser.absent;
	result->wildcards = parser.wildcards;
	result->complexity = parser.points * parser.npatterns;
}

/* Is this the name of an operator? */
bool
pgn_is_filter_operator(const char *name, int length)
{
	for (int i = 0; i < lengthof(operators); i++)
	{
		if (is_text(name, length, operators[i].name))
			return true;
	}
	return false;
}

/* ---------- places ---------- */

/*
 * Set the code and the message of an error in a policy; to be called within
 * ereport(), which adds what is wrong as the detail.
 */
int
pgn_filter_invalid_at(const FilterPath *path)
{
	errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	errmsg("invalid filter policy at %s", pgn_filter_path_string(path));
	return 0;
}

/* Does a jsonpath take this name without quotes? */
static bool
is_plain_name(const char *name, int length)
{
	if (length == 0 || (name[0] >= '0' && name[0] <= '9'))
		return false;
	for (int i = 0; i < length; i++)
	{
		if (!(name[i] == '_' || (name[i] >= '0' && name[i] <= '9') ||
			  (name[i] >= 'a' && name[i] <= 'z') ||
			  (name[i] >= 'A' && name[i] <= 'Z')))
			return false;
	}
	return true;
}

/* Write a place from the top down to it. */
static void
append_path(StringInfo string, const FilterPath *path)
{
	if (path->up == NULL)
	{
		appendStringInfoChar(string, '$');
		return;
	}
	append_path(string, path->up);
	if (path->name == NULL)
		appendStringInfo(string, "[%d]", path->index);
	else if (is_plain_name(path->name, path->length))
		appendStringInfo(string, ".%.*s", path->length, path->name);
	else
	{
		appendStringInfoChar(string, '.');
		escape_json(string, pnstrdup(path->name, path->length));
	}
}

/* Write a place as a jsonpath. */
char *
pgn_filter_path_string(const FilterPath *path)
{
	StringInfoData string;

	initStringInfo(&string);
	append_path(&string, path);
	return string.data;
}

/* ---------- rules ---------- */

/* Start a set of rules with at most this many strings or numbers. */
static void
begin_rules(RuleParser *parser, int size)
{
	memset(parser, 0, sizeof(RuleParser));
	parser->rules = palloc0(sizeof(FilterRules));
	parser->size = size;
}

/* Read an exact value or an operator. */
static void
parse_rule(RuleParser *parser, JsonTree *rule, const FilterPath *path)
{
	switch (rule->kind)
	{
		case PGN_JSON_NULL:
			parser->rules->accept_null = parser->any = true;
			break;
		case PGN_JSON_FALSE:
			parser->rules->accept_false = parser->any = true;
			break;
		case PGN_JSON_TRUE:
			parser->rules->accept_true = parser->any = true;
			break;
		case PGN_JSON_STRING:
			add_string(parser, rule->u.chars, rule->count);
			break;
		case PGN_JSON_ARRAY:
			ereport(ERROR,
					(pgn_filter_invalid_at(path),
					 errdetail("A rule must be a string, a number, true, false, null or an operator, not an array.")));
			break;
		case PGN_JSON_OBJECT:
			parse_operator(parser, rule, path);
			break;
		default:
			add_number(parser, parse_number(rule, path));
	}
}

/* Hand the operand of an operator to the operator's own parser. */
static void
parse_operator(RuleParser *parser, JsonTree *object, const FilterPath *path)
{
	JsonTreeMember *member = object->u.members;
	FilterPath	place = {path, NULL, 0, 0};

	if (object->count != 1)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("An operator must be an object with one name, this one has %u.",
						   object->count),
				 errhint("Rules are alternatives; write each operator as an object of its own.")));

	place.name = member->name;
	place.length = member->name_length;
	for (int i = 0; i < lengthof(operators); i++)
	{
		if (is_text(member->name, member->name_length, operators[i].name))
		{
			operators[i].parse(parser, &member->value, &place);
			return;
		}
	}
	ereport(ERROR,
			(pgn_filter_invalid_at(&place),
			 errdetail("There is no such operator."),
			 errhint("The operators are anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix and wildcard.")));
}

/* A string that values begin with. */
static void
parse_prefix(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	check_string(operand, path);
	add_pattern(parser, PGN_FILTER_PREFIX)->u.string =
		copy_string(operand->u.chars, operand->count);
}

/* A string that values end with. */
static void
parse_suffix(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	check_string(operand, path);
	add_pattern(parser, PGN_FILTER_SUFFIX)->u.string =
		copy_string(operand->u.chars, operand->count);
}

/* A string that values equal but for case. */
static void
parse_equals_ignore_case(RuleParser *parser, JsonTree *operand,
						 const FilterPath *path)
{
	char	   *folded;

	check_string(operand, path);
	folded = pgn_fold_case(operand->u.chars, operand->count);
	add_pattern(parser, PGN_FILTER_EQUALS_IGNORE_CASE)->u.string =
		copy_string(folded, strlen(folded));
}

/*
 * A pattern with one wildcard has one point of complexity, one with more has
 * three for each.
 */
static void
parse_wildcard(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	int			wildcards;

	check_string(operand, path);
	wildcards = count_wildcards(operand->u.chars, operand->count, path);
	parser->wildcards = true;
	parser->npatterns++;
	parser->points += (wildcards > 1) ? 3 * wildcards : wildcards;
	add_pattern(parser, PGN_FILTER_WILDCARD)->u.wildcard =
		pgn_wildcard_build(operand->u.chars, operand->count, wildcards);
}

/* Check a wildcard pattern and count its wildcards. */
static int
count_wildcards(const char *pattern, int length, const FilterPath *path)
{
	int			wildcards = 0;

	for (int i = 0; i < length; i++)
	{
		if (pattern[i] == '*')
		{
			if (i + 1 < length && pattern[i + 1] == '*')
				ereport(ERROR,
						(pgn_filter_invalid_at(path),
						 errdetail("A wildcard must not follow another one directly.")));
			wildcards++;
		}
		else if (pattern[i] == '\\')
		{
			i++;
			if (i == length || (pattern[i] != '*' && pattern[i] != '\\'))
				ereport(ERROR,
						(pgn_filter_invalid_at(path),
						 errdetail("A backslash must be followed by \"*\" or by another backslash."),
						 errhint("Within JSON, a backslash is itself written as two.")));
		}
	}
	if (wildcards > MAX_WILDCARDS)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("A pattern can have at most %d wildcards, this one has %d.",
						   MAX_WILDCARDS, wildcards)));
	return wildcards;
}

/* A range of addresses. */
static void
parse_cidr(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	FilterCidr	cidr;
	const char *end;
	const char *slash;
	int			most;

	check_string(operand, path);
	end = operand->u.chars + operand->count;
	slash = memchr(operand->u.chars, '/', operand->count);
	if (slash == NULL)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("An address range needs a slash and the number of bits that are fixed."),
				 errhint("For a single address write \"/32\" after an IPv4 one, \"/128\" after an IPv6 one.")));
	if (!pgn_parse_address(operand->u.chars, slash - operand->u.chars, &cidr))
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("\"%.*s\" is neither an IPv4 nor an IPv6 address.",
						   (int) (slash - operand->u.chars), operand->u.chars)));

	most = (cidr.family == AF_INET6) ? 128 : 32;
	cidr.bits = 0;
	for (const char *at = slash + 1; at < end; at++)
	{
		if (*at < '0' || *at > '9')
		{
			cidr.bits = most + 1;
			break;
		}
		cidr.bits = Min(cidr.bits * 10 + (*at - '0'), most + 1);
	}
	if (slash + 1 == end || cidr.bits > most)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The number of fixed bits must be an integer from 0 to %d.",
						   most)));
	add_pattern(parser, PGN_FILTER_CIDR)->u.cidr = cidr;
}

/* Whether there must be a value or must be none. */
static void
parse_exists(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	if (operand->kind == PGN_JSON_TRUE)
		parser->rules->accept_nonempty = parser->any = true;
	else if (operand->kind == PGN_JSON_FALSE)
		parser->absent = true;
	else
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The operand of \"exists\" must be true or false.")));
}

/* Which relation is this, of those that a numeric rule can have? */
static const char *
parse_relation(JsonTree *relation, const char *const *choices)
{
	if (relation->kind != PGN_JSON_STRING)
		return NULL;
	for (; *choices; choices++)
	{
		if (is_text(relation->u.chars, relation->count, *choices))
			return *choices;
	}
	return NULL;
}

/* One bound, or a lower and an upper one, each a relation and a number. */
static void
parse_numeric(RuleParser *parser, JsonTree *operand, const FilterPath *path)
{
	static const char *const relations[] = {"=", "<", "<=", ">", ">=", NULL};
	static const char *const upper_relations[] = {"<", "<=", NULL};
	FilterRange range = {0};

	if (operand->kind != PGN_JSON_ARRAY ||
		(operand->count != 2 && operand->count != 4))
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The operand of \"numeric\" must be an array of one or two relations and the number for each."),
				 errhint("For example: [\"=\", 10], [\">\", 0] or [\">=\", 0, \"<\", 100].")));

	for (int i = 0; i < operand->count; i += 2)
	{
		FilterPath	place = {path, NULL, 0, i};
		FilterPath	number_place = {path, NULL, 0, i + 1};
		const char *relation = parse_relation(&operand->u.elements[i],
											  i == 0 ? relations : upper_relations);
		const Decimal *number;

		if (relation == NULL || (i > 0 && (range.low == NULL || range.high)))
			ereport(ERROR,
					(pgn_filter_invalid_at(&place),
					 i == 0 ?
					 errdetail("The relation must be one of =, <, <=, > and >=.") :
					 errdetail("Of two relations, the first must be > or >= and the second < or <=.")));
		number = parse_number(&operand->u.elements[i + 1], &number_place);
		if (relation[0] != '<')
		{
			range.low = number;
			range.low_inclusive = (strcmp(relation, ">") != 0);
		}
		if (relation[0] != '>')
		{
			range.high = number;
			range.high_inclusive = (strcmp(relation, "<") != 0);
		}
	}
	if (operand->count == 4 &&
		pgn_decimal_compare(range.low, range.high) >= 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The lower bound must be less than the upper bound.")));
	add_pattern(parser, PGN_FILTER_RANGE)->u.range = range;
}

/* Rules of which no value may match any. */
static void
parse_anything_but(RuleParser *parser, JsonTree *operand,
				   const FilterPath *path)
{
	RuleParser	excluded;

	begin_rules(&excluded, Max(operand->count, 1));
	switch (operand->kind)
	{
		case PGN_JSON_ARRAY:
			parse_excluded_values(&excluded, operand, path);
			break;
		case PGN_JSON_OBJECT:
			parse_excluded_patterns(&excluded, operand, path);
			break;
		case PGN_JSON_NULL:
		case PGN_JSON_FALSE:
		case PGN_JSON_TRUE:
			ereport(ERROR,
					(pgn_filter_invalid_at(path),
					 errdetail("The operand of \"anything-but\" must be a string, a number, a list of strings, a list of numbers, or a pattern.")));
			break;
		default:
			parse_rule(&excluded, operand, path);
	}
	pgn_rules_sort(excluded.rules);
	parser->rules->excluded = lappend(parser->rules->excluded, excluded.rules);
	parser->any = true;
	parser->wildcards |= excluded.wildcards;
	parser->points += 1 + excluded.points;
	parser->npatterns++;
}

/* Read the list of an "anything-but": strings alone or numbers alone. */
static void
parse_excluded_values(RuleParser *excluded, JsonTree *values,
					  const FilterPath *path)
{
	if (values->count == 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The list of \"anything-but\" must not be empty.")));

	for (int i = 0; i < values->count; i++)
	{
		JsonTree   *value = &values->u.elements[i];
		FilterPath	element = {path, NULL, 0, i};

		if (value->kind < PGN_JSON_STRING || PGN_JSON_IS_CONTAINER(value) ||
			(value->kind == PGN_JSON_STRING) !=
			(values->u.elements[0].kind == PGN_JSON_STRING))
			ereport(ERROR,
					(pgn_filter_invalid_at(&element),
					 errdetail("The list of \"anything-but\" must consist of strings alone or of numbers alone.")));
		parse_rule(excluded, value, &element);
	}
}

/* Read the pattern of an "anything-but", or the list of patterns. */
static void
parse_excluded_patterns(RuleParser *excluded, JsonTree *object,
						const FilterPath *path)
{
	JsonTreeMember *member = object->u.members;
	FilterPath	place = {path, NULL, 0, 0};
	JsonTree   *patterns;
	int			count;
	int			op = -1;

	for (int i = 0; i < lengthof(operators) && object->count == 1; i++)
	{
		if (operators[i].excludable &&
			is_text(member->name, member->name_length, operators[i].name))
			op = i;
	}
	if (op < 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The pattern of \"anything-but\" must be one of equals-ignore-case, prefix, suffix and wildcard.")));

	place.name = member->name;
	place.length = member->name_length;
	patterns = &member->value;
	count = 1;
	if (member->value.kind == PGN_JSON_ARRAY)
	{
		patterns = member->value.u.elements;
		count = member->value.count;
	}
	if (count == 0)
		ereport(ERROR,
				(pgn_filter_invalid_at(&place),
				 errdetail("The list of \"anything-but\" must not be empty.")));

	for (int i = 0; i < count; i++)
	{
		FilterPath	element = {&place, NULL, 0, i};
		const FilterPath *at = (patterns == &member->value) ? &place : &element;

		if (patterns[i].kind == PGN_JSON_STRING && patterns[i].count == 0 &&
			(operators[op].parse == parse_prefix ||
			 operators[op].parse == parse_suffix))
			ereport(ERROR,
					(pgn_filter_invalid_at(at),
					 errdetail("Every string has the empty one as prefix and suffix, so none would match.")));
		operators[op].parse(excluded, &patterns[i], at);
	}
}

/* Fail unless the operand is a string. */
static void
check_string(JsonTree *operand, const FilterPath *path)
{
	if (operand->kind != PGN_JSON_STRING)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The operand must be a string.")));
}

/* Check a number and work out its value. */
static const Decimal *
parse_number(JsonTree *number, const FilterPath *path)
{
	const Decimal *decimal;

	CHECK_FOR_INTERRUPTS();
	decimal = pgn_json_decimal(number, CurrentMemoryContext);
	if (decimal == NULL)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The operand must be a number.")));
	if (decimal->exponent < -127 || decimal->exponent > 127)
		ereport(ERROR,
				(pgn_filter_invalid_at(path),
				 errdetail("The magnitude of a number other than zero must be at least 10^-128 and less than 10^127.")));
	return decimal;
}

/* Add an exact string. */
static void
add_string(RuleParser *parser, const char *chars, int length)
{
	FilterRules *rules = parser->rules;

	if (rules->strings == NULL)
		rules->strings = palloc(parser->size * sizeof(FilterString));
	rules->strings[rules->nstrings++] = copy_string(chars, length);
	parser->any = true;
}

/* Add an exact number. */
static void
add_number(RuleParser *parser, const Decimal *number)
{
	FilterRules *rules = parser->rules;

	if (rules->numbers == NULL)
		rules->numbers = palloc(parser->size * sizeof(Decimal *));
	rules->numbers[rules->nnumbers++] = number;
	parser->any = true;
}

/* Add a pattern, the operand of which is for the caller to fill in. */
static FilterPattern *
add_pattern(RuleParser *parser, FilterOperator op)
{
	FilterPattern *pattern = palloc0(sizeof(FilterPattern));

	pattern->op = op;
	parser->rules->patterns = lappend(parser->rules->patterns, pattern);
	parser->any = true;
	return pattern;
}

/* Copy a string to the current context. */
static FilterString
copy_string(const char *chars, int length)
{
	FilterString copy = {pnstrdup(chars, length), length};

	return copy;
}

/* Are these characters that word? */
static bool
is_text(const char *chars, int length, const char *word)
{
	return strlen(word) == length && memcmp(word, chars, length) == 0;
}
