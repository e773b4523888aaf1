/*
 * arguments.h
 *		Arguments of SQL functions.
 */
#ifndef PIGEON_ARGUMENTS_H
#define PIGEON_ARGUMENTS_H

#include "fmgr.h"
#include "utils/jsonb.h"

extern void pgn_null_argument(const char *what) __attribute__((noreturn));
extern int	pgn_array_argument(FunctionCallInfo fcinfo, int argno, const char *what, int n,
							   Datum **values, bool **nulls);
extern text *pgn_jsonb_body(Jsonb *document);

#endif							/* PIGEON_ARGUMENTS_H */
