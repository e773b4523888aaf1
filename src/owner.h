/*
 * owner.h
 *		SQL run as the owner of the extension.
 */
#ifndef PIGEON_OWNER_H
#define PIGEON_OWNER_H

#include "executor/spi.h"

extern void pgn_owner_begin(void);
extern void pgn_owner_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);
extern void pgn_owner_end(void);
extern void pgn_owner_run(const char *sql);
extern bool pgn_owner_row(const char *sql, int nargs, Oid *types, Datum *values,
						  int ncolumns, Datum *row, bool *isnull);
extern int64 pgn_owner_number(const char *sql, int nargs, Oid *types, Datum *values, int64 otherwise);
extern int64 *pgn_owner_numbers(const char *sql, int nargs, Oid *types, Datum *values, int *n);

#endif							/* PIGEON_OWNER_H */
