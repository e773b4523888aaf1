/*
 * decimal.c
 *		Exact comparison of decimal numbers in their written form.
 *
 * Filter policies compare numbers by value: 10, 10.0 and 1e1 are one number,
 * and nothing is rounded.  PostgreSQL's numeric would do, were it not that a
 * message body may hold any number JSON can write: numeric raises an error
 * for 1e999999, and spends 64 kB on 1e131071.  Comparing two numbers needs
 * neither arithmetic nor expansion, so this file only finds the significant
 * digits within the text and the power of ten they stand for.
 *
 * The exponent saturates at 10^17.  Two numbers beyond that with the same
 * digits count as equal, and nobody writes them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "decimal.h"

#define MAX_EXPONENT	INT64CONST(100000000000000000)

static int64 parse_exponent(const char *chars, const char *end);

/*
 * Read a number, which must be valid as a JSON number.  The result refers to
 * the text and is good for as long as the text is.
 */
void
pgn_decimal_parse(const char *chars, int length, Decimal *result)
{
	const char *end = chars + length;
	const char *first = NULL;	/* first significant digit */
	const char *last = NULL;	/* last significant digit */
	const char *at = chars;
	int64		position = 0;	/* digits before "at" */
	int64		first_position = 0;
	int64		point = -1;		/* digits before the decimal point */

	if (*at == '-')
		at++;
	for (; at < end && *at != 'e' && *at != 'E'; at++)
	{
		if (*at == '.')
		{
			point = position;
			continue;
		}
		if (*at != '0')
		{
			if (first == NULL)
			{
				first = at;
				first_position = position;
			}
			last = at;
		}
		position++;
	}

	if (first == NULL)
	{
		memset(result, 0, sizeof(Decimal));
		return;
	}
	result->sign = (*chars == '-') ? -1 : 1;
	result->digits = first;
	result->length = last - first + 1;
	result->exponent = (point >= 0 ? point : position) - first_position;
	if (at < end)
		result->exponent += parse_exponent(at + 1, end);
}

/* Read what follows the "e" of a number, up to the largest exponent. */
static int64
parse_exponent(const char *chars, const char *end)
{
	bool		negative = (*chars == '-');
	int64		exponent = 0;

	if (*chars == '-' || *chars == '+')
		chars++;
	for (; chars < end && exponent < MAX_EXPONENT; chars++)
		exponent = exponent * 10 + (*chars - '0');
	exponent = Min(exponent, MAX_EXPONENT);
	return negative ? -exponent : exponent;
}

/*
 * Take over a finite numeric.  The significant digits are copied to the
 * given context; the zeros that numeric writes out are not.
 */
void
pgn_decimal_from_numeric(Numeric number, MemoryContext cxt, Decimal *result)
{
	char	   *chars = DatumGetCString(DirectFunctionCall1(numeric_out,
															NumericGetDatum(number)));

	pgn_decimal_parse(chars, strlen(chars), result);
	if (result->sign != 0)
	{
		char	   *digits = MemoryContextAlloc(cxt, result->length);

		memcpy(digits, result->digits, result->length);
		result->digits = digits;
	}
	pfree(chars);
}

/* Order two numbers by value: negative, zero or positive, as in strcmp. */
int
pgn_decimal_compare(const Decimal *a, const Decimal *b)
{
	const char *p = a->digits;
	const char *q = b->digits;
	const char *p_end;
	const char *q_end;

	if (a->sign != b->sign)
		return a->sign < b->sign ? -1 : 1;
	if (a->sign == 0)
		return 0;
	if (a->exponent != b->exponent)
		return (a->exponent < b->exponent) ? -a->sign : a->sign;

	p_end = p + a->length;
	q_end = q + b->length;
	for (;;)
	{
		if (p < p_end && *p == '.')
			p++;
		if (q < q_end && *q == '.')
			q++;
		if (p == p_end || q == q_end)
			break;
		if (*p != *q)
			return (*p < *q) ? -a->sign : a->sign;
		p++;
		q++;
	}
	if (p == p_end && q == q_end)
		return 0;
	return (p == p_end) ? -a->sign : a->sign;
}
