/*
 * owner.c
 *		SQL run as the owner of the extension.
 *
 * The registry and the other tables of the extension belong to its owner, and
 * users have no rights on them.  What a user may do has been checked before
 * in terms of queues; then it is done here.
 *
 * The statements name everything with its schema and run with a search_path
 * that nobody else can put an operator into.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "owner.h"
#include "queue.h"

/* Become the owner and connect to SPI.  An error undoes it all.  Calls may nest: what is run may fire triggers that call us. */
void
pgn_owner_begin(PgnOwner *state)
{
	Relation	registry = table_open(pgn_relation("queue"), AccessShareLock);
	Oid			owner = registry->rd_rel->relowner;

	table_close(registry, NoLock);
	GetUserIdAndSecContext(&state->caller, &state->context);
	SetUserIdAndSecContext(owner, state->context | SECURITY_LOCAL_USERID_CHANGE);
	state->settings = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

/* Run a statement in a snapshot that is newer than the transaction's; answers as SPI does. */
static int
execute_latest(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, types);
	int			code;

	if (plan == NULL)
		elog(ERROR, "statement failed with %s: %s", SPI_result_code_string(SPI_result), sql);
	code = SPI_execute_snapshot(plan, values, nulls, snapshot, InvalidSnapshot, false, true, 0);
	SPI_freeplan(plan);
	UnregisterSnapshot(snapshot);
	return code;
}

/*
 * Run one statement; results are where SPI leaves them.  It sees what is
 * committed, whatever the caller's isolation level is: locks and catalogs are
 * not of a snapshot either, and who drops a queue that his does not show must
 * not leave half of it.
 */
void
pgn_owner_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			code;

	if (IsolationUsesXactSnapshot())
		code = execute_latest(sql, nargs, types, values, nulls);
	else
		code = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);
	if (code < 0)
		elog(ERROR, "statement failed with %s: %s", SPI_result_code_string(code), sql);
}

/* Disconnect and become the caller again. */
void
pgn_owner_end(const PgnOwner *state)
{
	SPI_finish();
	AtEOXact_GUC(true, state->settings);
	SetUserIdAndSecContext(state->caller, state->context);
}

/* Run statements as the owner; what they create is where the database is. */
void
pgn_owner_run(const char *sql)
{
	PgnOwner	state;

	pgn_owner_begin(&state);
	(void) set_config_option("default_tablespace", "", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	pgn_owner_execute(sql, 0, NULL, NULL, NULL);
	pgn_owner_end(&state);
}

/* Create a table of the extension's, on which nobody gets rights by default. */
void
pgn_owner_create_table(const char *sql, const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	Datum		revoke;
	bool		isnull;

	pgn_owner_run(sql);
	if (pgn_owner_row("SELECT string_agg(DISTINCT format('REVOKE ALL ON %s FROM %s;', oid::regclass,"
					  " CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END), ' ')"
					  " FROM pg_class, aclexplode(relacl)"
					  " WHERE relnamespace = 'pigeon'::regnamespace AND relname = $1 AND grantee <> relowner",
					  1, types, values, 1, &revoke, &isnull) && !isnull)
		pgn_owner_run(TextDatumGetCString(revoke));
}

/*
 * Run one statement as the owner and copy the columns of its first row to the
 * caller's memory context.  False if it returned none.
 */
bool
pgn_owner_row(const char *sql, int nargs, Oid *types, Datum *values,
			  int ncolumns, Datum *row, bool *isnull)
{
	MemoryContext caller = CurrentMemoryContext;
	PgnOwner	state;
	bool		found;

	pgn_owner_begin(&state);
	pgn_owner_execute(sql, nargs, types, values, NULL);
	found = SPI_processed > 0 && SPI_tuptable != NULL;
	for (int i = 0; found && i < ncolumns; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(SPI_tuptable->tupdesc, i);
		MemoryContext spi;

		row[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, i + 1, &isnull[i]);
		if (isnull[i])
			continue;
		spi = MemoryContextSwitchTo(caller);
		row[i] = attr->attlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(row[i])) :
			datumCopy(row[i], attr->attbyval, attr->attlen);
		MemoryContextSwitchTo(spi);
	}
	pgn_owner_end(&state);
	return found;
}

/* Run one statement as the owner; the number of its first row, or "otherwise" if there is none. */
int64
pgn_owner_number(const char *sql, int nargs, Oid *types, Datum *values, int64 otherwise)
{
	Datum		number;
	bool		isnull;

	if (!pgn_owner_row(sql, nargs, types, values, 1, &number, &isnull) || isnull)
		return otherwise;
	return DatumGetInt64(number);
}

/* Run one statement as the owner; the bigint numbers that it returned, and how many they are. */
int64 *
pgn_owner_numbers(const char *sql, int nargs, Oid *types, Datum *values, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	PgnOwner	state;
	int64	   *numbers;

	pgn_owner_begin(&state);
	pgn_owner_execute(sql, nargs, types, values, NULL);
	*n = SPI_processed;
	numbers = MemoryContextAlloc(caller, (*n + 1) * sizeof(int64));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		numbers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	pgn_owner_end(&state);
	return numbers;
}
