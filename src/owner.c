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
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "compat.h"
#include "owner.h"
#include "queue.h"

/*
 * The user to go back to.  Calls do not nest; a (sub)transaction that fails
 * takes an unfinished one with it.
 */
static Oid	caller_userid;
static int	caller_context;
static int	caller_settings;
static bool in_use = false;
static LocalTransactionId used_in;
static SubTransactionId used_in_sub;

/* Become the owner and connect to SPI.  An error undoes it all. */
void
pgn_owner_begin(void)
{
	Relation	registry = table_open(pgn_relation("queue"), AccessShareLock);
	Oid			owner = registry->rd_rel->relowner;

	Assert(!in_use || used_in != pgn_local_transaction() || used_in_sub != GetCurrentSubTransactionId());
	in_use = true;
	used_in = pgn_local_transaction();
	used_in_sub = GetCurrentSubTransactionId();
	table_close(registry, NoLock);
	GetUserIdAndSecContext(&caller_userid, &caller_context);
	SetUserIdAndSecContext(owner, caller_context | SECURITY_LOCAL_USERID_CHANGE);
	caller_settings = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

/* Run one statement; results are where SPI leaves them. */
void
pgn_owner_execute(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls)
{
	int			code = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (code < 0)
		elog(ERROR, "statement failed with %s: %s", SPI_result_code_string(code), sql);
}

/* Disconnect and become the caller again. */
void
pgn_owner_end(void)
{
	SPI_finish();
	AtEOXact_GUC(true, caller_settings);
	SetUserIdAndSecContext(caller_userid, caller_context);
	in_use = false;
}

/* Run statements as the owner. */
void
pgn_owner_run(const char *sql)
{
	pgn_owner_begin();
	pgn_owner_execute(sql, 0, NULL, NULL, NULL);
	pgn_owner_end();
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
	bool		found;

	pgn_owner_begin();
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
	pgn_owner_end();
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
	int64	   *numbers;

	pgn_owner_begin();
	pgn_owner_execute(sql, nargs, types, values, NULL);
	*n = SPI_processed;
	numbers = MemoryContextAlloc(caller, (*n + 1) * sizeof(int64));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		numbers[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	pgn_owner_end();
	return numbers;
}
