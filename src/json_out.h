/*
 * json_out.h
 *		Writing JSON.
 */
#ifndef PIGEON_JSON_OUT_H
#define PIGEON_JSON_OUT_H

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"

extern void pgn_json_text(StringInfo json, const char *text, int len);
extern void pgn_json_time(StringInfo json, TimestampTz time, int digits);

#endif							/* PIGEON_JSON_OUT_H */
