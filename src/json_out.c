/*
 * json_out.c
 *		Writing JSON.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "json_out.h"

/* Append a text as a JSON string. */
void
pgn_json_text(StringInfo json, const char *text, int len)
{
	escape_json(json, pnstrdup(text, len));
}

/* Append a time as a JSON string in ISO 8601: UTC, with this many digits of the second (up to 6). */
void
pgn_json_time(StringInfo json, TimestampTz time, int digits)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	for (int i = digits; i < 6; i++)
		fsec /= 10;
	appendStringInfo(json, "\"%04d-%02d-%02dT%02d:%02d:%02d.%0*dZ\"", tm.tm_year, tm.tm_mon, tm.tm_mday,
					 tm.tm_hour, tm.tm_min, tm.tm_sec, digits, (int) fsec);
}
