/*
 * arguments.h
 *		Arguments of SQL functions.
 */
#ifndef PIGEON_ARGUMENTS_H
#define PIGEON_ARGUMENTS_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "message.h"

extern void pgn_null_argument(const char *what) __attribute__((noreturn));
extern int	pgn_array_argument(FunctionCallInfo fcinfo, int argno, const char *what, int n,
							   Datum **values, bool **nulls);
extern void pgn_return_message_ids(FunctionCallInfo fcinfo, const Message *messages, int n);
extern Datum pgn_next_message_id(FunctionCallInfo fcinfo);
extern text *pgn_jsonb_body(Jsonb *document);

#endif							/* PIGEON_ARGUMENTS_H */
