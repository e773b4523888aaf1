/*
 * utility.c
 *		SQL commands that pigeon has to know of.
 *
 *	- DROP DATABASE, CREATE DATABASE, and ALTER DATABASE with RENAME or SET
 *	  TABLESPACE want nobody to be connected to a database: our worker leaves it
 *	  before, and stays away until the transaction has ended one way or the
 *	  other: until its commit the database looks as if it were still there.
 *	  Not so if the command will be refused: who has no right to it must not be
 *	  able to keep a worker from its work by trying again and again.
 *
 *	- COMMIT PREPARED and ROLLBACK PREPARED make messages available of which no
 *	  backend knows any more: all waiters of the database look again, and the
 *	  worker looks at every queue.
 *
 *	- CREATE EXTENSION pigeon: there is a database to look after.  DROP
 *	  EXTENSION pigeon: it leaves entries in shared memory.
 *
 * The hook is there only when the library is preloaded; without that there are
 * neither waiters nor workers that would have to be told.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "compat.h"
#include "jobs.h"
#include "launcher.h"
#include "shared.h"
#include "utility.h"
#include "wakeup.h"

static ProcessUtility_hook_type previous_hook = NULL;

/* The databases that workers stay away from until the end of this transaction. */
static List *held = NIL;

/* It creates, drops or changes databases, or has tried to. */
static bool changes_databases = false;

/* It drops the one that is held; then it does nothing else. */
static bool drops_database = false;

/* The value of an option of a command as a string, "otherwise" if it is not given. */
static const char *
option(List *options, const char *name, const char *otherwise)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *element = lfirst_node(DefElem, lc);

		if (strcmp(element->defname, name) == 0)
			return element->arg ? defGetString(element) : otherwise;
	}
	return otherwise;
}

/* The database that must have no connections for the command, NULL if it is no such command. */
static const char *
exclusive_database(Node *command)
{
	switch (nodeTag(command))
	{
		case T_DropdbStmt:
			return castNode(DropdbStmt, command)->dbname;
		case T_CreatedbStmt:
			return option(castNode(CreatedbStmt, command)->options, "template", "template1");
		case T_AlterDatabaseStmt:
			if (option(castNode(AlterDatabaseStmt, command)->options, "tablespace", NULL))
				return castNode(AlterDatabaseStmt, command)->dbname;
			return NULL;
		case T_RenameStmt:
			if (castNode(RenameStmt, command)->renameType == OBJECT_DATABASE)
				return castNode(RenameStmt, command)->subname;
			return NULL;
		default:
			return NULL;
	}
}

/* May the current user create databases? */
static bool
may_create_databases(void)
{
	HeapTuple	role = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool		may = superuser();

	if (HeapTupleIsValid(role))
	{
		may |= ((Form_pg_authid) GETSTRUCT(role))->rolcreatedb;
		ReleaseSysCache(role);
	}
	return may;
}

/* Is the database one that everybody may copy who may create databases? */
static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		is = false;

	if (HeapTupleIsValid(tuple))
	{
		is = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return is;
}

/* Has the current user the right to do that to the database?  The command asks the same, but only after we have acted. */
static bool
is_permitted(Node *command, Oid database)
{
	bool		owns = pgn_owns_database(database, GetUserId());

	if (IsA(command, CreatedbStmt))
		return may_create_databases() && (owns || is_template(database));
	return owns && (!IsA(command, RenameStmt) || may_create_databases());
}

/* Tell the launcher of what is visible now, and let workers come back.  It forgets a dropped database, which stays held. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;

	/*
	 * Also after an abort: a database that could not be dropped may be
	 * unusable.
	 */
	if (changes_databases)
		pgn_databases_changed();
	if (!drops_database || event != XACT_EVENT_COMMIT)
		foreach(lc, held)
			pgn_release_database(lfirst_oid(lc));
	held = NIL;
	changes_databases = drops_database = false;
}

/* Keep workers away from a database until the end of the transaction.  False if that is so already, or there is no room. */
static bool
hold_database(Oid database)
{
	MemoryContext old;

	if (list_member_oid(held, database))
		return false;
	old = MemoryContextSwitchTo(TopTransactionContext);
	held = lappend_oid(held, database);
	MemoryContextSwitchTo(old);
	if (pgn_hold_database(database))
		return true;
	held = list_delete_last(held);
	return false;
}

/* Execute a command that wants a database for itself. */
static void
execute_alone(Oid database, ProcessUtility_hook_type next, PlannedStmt *pstmt, const char *query,
			  bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	bool		holds = hold_database(database);

	PG_TRY();
	{
		next(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	}
	PG_CATCH();
	{
		/*
		 * It may be a subtransaction only that ends now, or a transaction
		 * that the command has begun.
		 */
		if (holds && list_member_oid(held, database))
		{
			held = list_delete_oid(held, database);
			pgn_databases_changed();
			pgn_release_database(database);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (!IsA(pstmt->utilityStmt, DropdbStmt))
		return;
	/* While it waited, the name may have passed to another. */
	CommandCounterIncrement();
	drops_database = !SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database));
}

/*
 * Nobody knows what a prepared transaction has done: look at everything.  What
 * many such in a row make to do is done once a second, but for notifications,
 * which have an interval of their own.
 */
static void
look_again(void)
{
	HASH_SEQ_STATUS status;
	SharedQueue *shared;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz soon = now + USECS_PER_SEC;
	SharedDatabase *database;
	bool		notify = false;

	if (!OidIsValid(get_extension_oid("pigeon", true)))
	{
		pgn_wake_database();
		return;
	}
	LWLockAcquire(pgn_shared_lock, LW_SHARED);
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
	{
		/* Has anybody ever been notified? */
		bool		notifies = (TimestampTz) pg_atomic_read_u64(&shared->notified_at) != PG_INT64_MIN;

		if (shared->key.database != MyDatabaseId)
			continue;
		pgn_candidates_discard(&shared->candidates, PG_INT64_MIN);
		(void) pgn_lower(&shared->due_at, PG_INT64_MIN);
		(void) pgn_lower(&shared->notify_at, notifies ? now : soon);
		(void) pgn_lower(&shared->maintain_at, soon);
		notify |= notifies;
	}
	LWLockRelease(pgn_shared_lock);
	pgn_database_job_request(JOB_REGISTRY, soon);
	database = pgn_shared_database(MyDatabaseId, false);
	if (database && notify)
		pgn_run_at(database, now);
	pgn_wake_database();
}

/* Does the command end a prepared transaction? */
static bool
ends_prepared(Node *command)
{
	return IsA(command, TransactionStmt) &&
		(castNode(TransactionStmt, command)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 castNode(TransactionStmt, command)->kind == TRANS_STMT_ROLLBACK_PREPARED);
}

/* Does the command create or drop this extension? */
static bool
changes_extension(Node *command)
{
	DropStmt   *drop = IsA(command, DropStmt) ? castNode(DropStmt, command) : NULL;
	ListCell   *lc;

	if (IsA(command, CreateExtensionStmt))
		return strcmp(castNode(CreateExtensionStmt, command)->extname, "pigeon") == 0;
	if (drop && drop->removeType == OBJECT_EXTENSION)
		foreach(lc, drop->objects)
			if (strcmp(strVal(lfirst(lc)), "pigeon") == 0)
			return true;
	return false;
}

/* Execute a command. */
static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	static bool registered = false;
	ProcessUtility_hook_type next = previous_hook ? previous_hook : standard_ProcessUtility;
	Node	   *command = pstmt->utilityStmt;
	const char *name = exclusive_database(command);
	Oid			database = name ? get_database_oid(name, true) : InvalidOid;
	bool		prepared = ends_prepared(command);
	bool		extension = changes_extension(command);

	if (name || IsA(command, AlterDatabaseStmt))
	{
		if (!registered)
			RegisterXactCallback(at_transaction_end, NULL);
		registered = changes_databases = true;
	}
	if (OidIsValid(database) && is_permitted(command, database))
		execute_alone(database, next, pstmt, query, read_only_tree, context, params,
					  environment, dest, completion);
	else
		next(pstmt, query, read_only_tree, context, params, environment, dest, completion);
	if (prepared)
		look_again();
	if (extension)
		pgn_activity_job(JOB_REGISTRY);
}

/* Install the hook; called while libraries are preloaded. */
void
pgn_utility_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
