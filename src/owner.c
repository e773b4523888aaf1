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
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "owner.h"
#include "queue.h"

/* The user to go back to; calls do not nest. */
static Oid	caller_userid;
static int	caller_context;
static int	caller_settings;

/* Become the owner and connect to SPI.  An error undoes it all. */
void
pgn_owner_begin(void)
{
	Relation	registry = table_open(pgn_relation("queue"), AccessShareLock);
	Oid			owner = registry->rd_rel->relowner;

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
}
