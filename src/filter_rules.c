/*
 * filter_rules.c
 *		The rules that a filter policy gives for one key.
 *
 * Exact strings and numbers are sorted and searched; the other operators are
 * tried one after the other.  "anything-but" is the opposite of another set
 * of rules, and so accepts a value of a type it does not mention.
 *
 * "equals-ignore-case" means what lower() means in this database: both
 * strings are folded with the default collation.  Strings of ASCII characters
 * alone, which is nearly all of them, need no locale for it.
 *
 * A wildcard pattern is cut at its wildcards.  The first and the last part
 * are tied to the ends of the string, the others are found from left to
 * right, by the algorithm of Knuth, Morris and Pratt: a hostile pattern meets
 * a hostile string in linear time.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include "catalog/pg_collation.h"
#include "utils/formatting.h"

#include "filter_rules.h"

/* How many times shorter, at most, a string is after folding. */
#define MAX_SHRINKAGE	4

static bool accept_string(const FilterRules *rules, const char *chars,
						  int length);
static bool accept_number(const FilterRules *rules, const Decimal *number);
static bool pattern_accepts_string(const FilterPattern *pattern,
								   const char *chars, int length);
static bool range_accepts(const FilterRange *range, const Decimal *number);
static bool equals_folded(const FilterString *folded, const char *chars,
						  int length);
static bool address_within(const FilterCidr *cidr, const char *chars,
						   int length);
static bool wildcard_matches(const FilterWildcard *wildcard,
							 const char *chars, int length);
static const char *find_part(const struct FilterWildcardPart *part,
							 const char *chars, const char *end);
static int	compare_strings(const void *a, const void *b);
static int	compare_numbers(const void *a, const void *b);

/*
 * Does any of the rules accept this scalar?  The context is the one the value
 * lives in.
 */
bool
pgn_rules_accept(const FilterRules *rules, JsonTree *value, MemoryContext cxt)
{
	const ListCell *cell;
	bool		accepted;

	switch (value->kind)
	{
		case PGN_JSON_NULL:
			accepted = rules->accept_null;
			break;
		case PGN_JSON_FALSE:
			accepted = rules->accept_false || rules->accept_nonempty;
			break;
		case PGN_JSON_TRUE:
			accepted = rules->accept_true || rules->accept_nonempty;
			break;
		case PGN_JSON_STRING:
			accepted = accept_string(rules, value->u.chars, value->count);
			break;
		default:
			accepted = accept_number(rules, pgn_json_decimal(value, cxt));
	}
	if (accepted)
		return true;

	foreach(cell, rules->excluded)
	{
		if (!pgn_rules_accept(lfirst(cell), value, cxt))
			return true;
	}
	return false;
}

/* Put the exact values in order, which has to be done once. */
void
pgn_rules_sort(FilterRules *rules)
{
	if (rules->nstrings > 1)
		qsort(rules->strings, rules->nstrings, sizeof(FilterString),
			  compare_strings);
	if (rules->nnumbers > 1)
		qsort(rules->numbers, rules->nnumbers, sizeof(Decimal *),
			  compare_numbers);
}

/* Does any of the rules other than "anything-but" accept this string? */
static bool
accept_string(const FilterRules *rules, const char *chars, int length)
{
	FilterString key = {chars, length};
	const ListCell *cell;

	if (rules->accept_nonempty && length > 0)
		return true;
	if (rules->nstrings > 0 &&
		bsearch(&key, rules->strings, rules->nstrings, sizeof(FilterString),
				compare_strings))
		return true;
	foreach(cell, rules->patterns)
	{
		if (pattern_accepts_string(lfirst(cell), chars, length))
			return true;
	}
	return false;
}

/* Does any of the rules other than "anything-but" accept this number? */
static bool
accept_number(const FilterRules *rules, const Decimal *number)
{
	const ListCell *cell;

	if (rules->accept_nonempty)
		return true;
	if (rules->nnumbers > 0 &&
		bsearch(&number, rules->numbers, rules->nnumbers, sizeof(Decimal *),
				compare_numbers))
		return true;
	foreach(cell, rules->patterns)
	{
		const FilterPattern *pattern = lfirst(cell);

		if (pattern->op == PGN_FILTER_RANGE &&
			range_accepts(&pattern->u.range, number))
			return true;
	}
	return false;
}

/* Does the string match the pattern? */
static bool
pattern_accepts_string(const FilterPattern *pattern, const char *chars,
					   int length)
{
	const FilterString *string = &pattern->u.string;

	switch (pattern->op)
	{
		case PGN_FILTER_PREFIX:
			return length >= string->length &&
				memcmp(chars, string->chars, string->length) == 0;
		case PGN_FILTER_SUFFIX:
			return length >= string->length &&
				memcmp(chars + length - string->length, string->chars,
					   string->length) == 0;
		case PGN_FILTER_EQUALS_IGNORE_CASE:
			return equals_folded(string, chars, length);
		case PGN_FILTER_WILDCARD:
			return wildcard_matches(pattern->u.wildcard, chars, length);
		case PGN_FILTER_CIDR:
			return address_within(&pattern->u.cidr, chars, length);
		case PGN_FILTER_RANGE:
			break;				/* numbers only */
	}
	return false;
}

/* Is the number within the bounds? */
static bool
range_accepts(const FilterRange *range, const Decimal *number)
{
	if (range->low)
	{
		int			order = pgn_decimal_compare(number, range->low);

		if (order < 0 || (order == 0 && !range->low_inclusive))
			return false;
	}
	if (range->high)
	{
		int			order = pgn_decimal_compare(number, range->high);

		if (order > 0 || (order == 0 && !range->high_inclusive))
			return false;
	}
	return true;
}

/* Order strings, for qsort() and bsearch(). */
static int
compare_strings(const void *a, const void *b)
{
	const FilterString *x = a;
	const FilterString *y = b;

	return pgn_compare_bytes(x->chars, x->length, y->chars, y->length);
}

/* Order pointers to numbers, for qsort() and bsearch(). */
static int
compare_numbers(const void *a, const void *b)
{
	return pgn_decimal_compare(*(const Decimal *const *) a,
							   *(const Decimal *const *) b);
}

/* ---------- case ---------- */

/* Is this a string of ASCII characters, with no zero byte among them? */
static bool
is_plain_ascii(const char *chars, int length)
{
	for (int i = 0; i < length; i++)
	{
		if (chars[i] == '\0' || IS_HIGHBIT_SET(chars[i]))
			return false;
	}
	return true;
}

/* Fold case for "equals-ignore-case".  The result is null-terminated. */
char *
pgn_fold_case(const char *chars, int length)
{
	if (is_plain_ascii(chars, length))
		return asc_tolower(chars, length);
	return str_tolower(chars, length, DEFAULT_COLLATION_OID);
}

/* Is the string, when folded, the one that has been folded before? */
static bool
equals_folded(const FilterString *folded, const char *chars, int length)
{
	char	   *lower;
	bool		equal;

	if (is_plain_ascii(chars, length))
	{
		if (length != folded->length)
			return false;
		for (int i = 0; i < length; i++)
		{
			if (pg_ascii_tolower((unsigned char) chars[i]) !=
				(unsigned char) folded->chars[i])
				return false;
		}
		return true;
	}

	/* A zero byte stands for a character that no policy can contain. */
	if (length / MAX_SHRINKAGE > folded->length ||
		memchr(chars, '\0', length) != NULL)
		return false;
	lower = pgn_fold_case(chars, length);
	equal = strlen(lower) == folded->length &&
		memcmp(lower, folded->chars, folded->length) == 0;
	pfree(lower);
	return equal;
}

/* ---------- addresses ---------- */

/*
 * Read an IPv4 or IPv6 address.  Sets everything but the number of bits.
 * Returns false if it is none.
 */
bool
pgn_parse_address(const char *chars, int length, FilterCidr *result)
{
	char		buffer[INET6_ADDRSTRLEN];

	if (length >= sizeof(buffer) || memchr(chars, '\0', length) != NULL)
		return false;
	memcpy(buffer, chars, length);
	buffer[length] = '\0';
	memset(result->address, 0, sizeof(result->address));
	result->family = strchr(buffer, ':') ? AF_INET6 : AF_INET;
	return inet_pton(result->family, buffer, result->address) == 1;
}

/* Is this an address within the range? */
static bool
address_within(const FilterCidr *cidr, const char *chars, int length)
{
	FilterCidr	address;
	int			bytes = cidr->bits / 8;
	int			mask = 0xFF00 >> (cidr->bits % 8);

	if (!pgn_parse_address(chars, length, &address) ||
		address.family != cidr->family ||
		memcmp(address.address, cidr->address, bytes) != 0)
		return false;
	return cidr->bits % 8 == 0 ||
		((address.address[bytes] ^ cidr->address[bytes]) & mask & 0xFF) == 0;
}

/* ---------- wildcards ---------- */

/*
 * Build the matcher for a valid pattern with the given number of wildcards.
 * A backslash takes the special meaning from a "*" or "\" after it.
 */
FilterWildcard *
pgn_wildcard_build(const char *pattern, int length, int nwildcards)
{
	FilterWildcard *wildcard;
	struct FilterWildcardPart *part;
	char	   *to = palloc(length);

	wildcard = palloc0(offsetof(FilterWildcard, parts) +
					   (nwildcards + 1) * sizeof(struct FilterWildcardPart));
	wildcard->nparts = nwildcards + 1;
	part = wildcard->parts;
	part->string.chars = to;
	for (int i = 0; i < length; i++)
	{
		if (pattern[i] == '*')
		{
			part++;
			part->string.chars = to;
			continue;
		}
		if (pattern[i] == '\\')
			i++;
		*to++ = pattern[i];
		part->string.length++;
		wildcard->length++;
	}

	for (int i = 1; i < nwildcards; i++)
	{
		const char *chars = wildcard->parts[i].string.chars;
		int			n = wildcard->parts[i].string.length;
		int		   *borders = palloc(n * sizeof(int));
		int			border = 0;

		borders[0] = 0;
		for (int j = 1; j < n; j++)
		{
			while (border > 0 && chars[j] != chars[border])
				border = borders[border - 1];
			if (chars[j] == chars[border])
				border++;
			borders[j] = border;
		}
		wildcard->parts[i].borders = borders;
	}
	return wildcard;
}

/* Does the whole string match the pattern? */
static bool
wildcard_matches(const FilterWildcard *wildcard, const char *chars, int length)
{
	const FilterString *head = &wildcard->parts[0].string;
	const FilterString *tail = &wildcard->parts[wildcard->nparts - 1].string;
	const char *end;

	if (length < wildcard->length ||
		(wildcard->nparts == 1 && length > wildcard->length))
		return false;
	end = chars + length - tail->length;
	if (memcmp(chars, head->chars, head->length) != 0 ||
		memcmp(end, tail->chars, tail->length) != 0)
		return false;

	chars += head->length;
	for (int i = 1; i < wildcard->nparts - 1; i++)
	{
		chars = find_part(&wildcard->parts[i], chars, end);
		if (chars == NULL)
			return false;
	}
	return true;
}

/*
 * Find the first occurrence of a part and return its end, or NULL.
 * borders[i] is the length of the longest proper prefix of the part that is
 * also a suffix of its first i + 1 bytes: what is still matched after a
 * mismatch there.
 */
static const char *
find_part(const struct FilterWildcardPart *part, const char *chars,
		  const char *end)
{
	int			matched = 0;

	while (chars < end)
	{
		while (matched > 0 && *chars != part->string.chars[matched])
			matched = part->borders[matched - 1];
		if (*chars == part->string.chars[matched])
			matched++;
		chars++;
		if (matched == part->string.length)
			return chars;
	}
	return NULL;
}
