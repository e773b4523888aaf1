/*
 * owner.h
 *		SQL run as the owner of the extension.
 */
#ifndef PIGEON_OWNER_H
#define PIGEON_OWNER_H

#include "executor/spi.h"

/* Who is to be gone back to. */
typedef struct PgnOwner
{
	Oid			caller;
	int			context;
	int			settings;
} PgnOwner;

extern void pgn_owner_begin(PgnOwner *state);
extern void pgn_owner_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls);
extern void pgn_owner_end(const PgnOwner *state);
extern void pgn_owner_run(const char *sql);
extern void pgn_owner_create_table(const char *sql, const char *name);
extern bool pgn_owner_row(const char *sql, int nargs, Oid *types, Datum *values,
						  int ncolumns, Datum *row, bool *isnull);
extern int64 pgn_owner_number(const char *sql, int nargs, Oid *types, Datum *values, int64 otherwise);
extern int64 *pgn_owner_numbers(const char *sql, int nargs, Oid *types, Datum *values, int *n);

#endif							/* PIGEON_OWNER_H */
