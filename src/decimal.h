/*
 * decimal.h
 *		Exact comparison of decimal numbers in their written form.
 */
#ifndef PIGEON_DECIMAL_H
#define PIGEON_DECIMAL_H

#include "utils/numeric.h"

/*
 * The number sign * 0.DIGITS * 10^exponent, where DIGITS starts and ends with
 * a digit other than zero.  The digits may be part of the text the number was
 * read from, so a decimal point may stand among them; it does not count.
 */
typedef struct Decimal
{
	int			sign;			/* -1, 0 or 1; zero has no digits */
	int			length;			/* of digits, in bytes */
	int64		exponent;
	const char *digits;			/* not null-terminated */
} Decimal;

extern void pgn_decimal_parse(const char *chars, int length, Decimal *result);
extern void pgn_decimal_from_numeric(Numeric number, MemoryContext cxt,
									 Decimal *result);
extern int	pgn_decimal_compare(const Decimal *a, const Decimal *b);

#endif							/* PIGEON_DECIMAL_H */
