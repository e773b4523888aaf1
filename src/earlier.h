/*
 * earlier.h
 *		The earlier and the later of two times.
 *
 * Min() and Max() are macros: they would call a function that says a time
 * twice, and what it says may have changed meanwhile.  So nothing that is a call
 * is given to them; scripts/test sees to that.
 */
#ifndef PIGEON_EARLIER_H
#define PIGEON_EARLIER_H

#include "datatype/timestamp.h"

static inline TimestampTz
pgn_earlier(TimestampTz a, TimestampTz b)
{
	return a < b ? a : b;
}

static inline TimestampTz
pgn_later(TimestampTz a, TimestampTz b)
{
	return a < b ? b : a;
}

#endif							/* PIGEON_EARLIER_H */
