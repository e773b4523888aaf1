/*
 * outbox_admin.c
 *		publish_changes and stop_publishing_changes.
 *
 * One trigger for each event is attached to the table, by CREATE TRIGGER and
 * with the rights of the caller: so a dump holds them, a partitioned table
 * hands them on to its partitions, and they go with the table.  There is no
 * other record of them; what is published is asked of pg_trigger.
 *
 * Triggers of an event fire in the order of their names.  Ours come first, so
 * that the changes of a row are published in the order in which they were made:
 * a trigger of somebody else may change it again.
 *
 * The search_path is the caller's, since the caller's condition is parsed with
 * it.  Everything else is named with its schema.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "admin.h"
#include "arguments.h"
#include "compat.h"
#include "condition.h"
#include "outbox.h"
#include "table.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_publish_changes);
PG_FUNCTION_INFO_V1(pgn_stop_publishing_changes);

/* What can happen to a table. */
static const struct
{
	const char *name;
	const char *absent;			/* row that the event lacks */
}			events[] =

{
	{"insert", "old"},
	{"update", NULL},
	{"delete", "new"},
	{"truncate", NULL},
};

#define NEVENTS lengthof(events)
#define TRUNCATE (NEVENTS - 1)

/* Of the event and the topic's number. */
#define TRIGGER_NAME "!pigeon_%s_%d"

/* The trigger function. */
static Oid
trigger_function(void)
{
	return LookupFuncName(list_make2(makeString("pigeon"), makeString("publish_change")), 0, NULL, false);
}

/* The table as it is written in SQL. */
static char *
sql_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/*
 * Open a table whose changes the current user can publish; an error if it is
 * not one.  It is locked only if it is, so that nobody waits for a stranger.
 */
static Relation
open_source(Oid relid, LOCKMODE lockmode)
{
	char	   *name = get_rel_name(relid);
	char		relkind = get_rel_relkind(relid);

	if (name == NULL || relkind == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (relkind != RELKIND_RELATION && relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name)));
	if (!pgn_is_owner(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table \"%s\"", name)));
	if (get_rel_namespace(relid) == pgn_schema())
		pgn_bad_attribute("changes of tables in schema pigeon cannot be published", NULL);
	return table_open(relid, lockmode);
}

/* The names of the table's own triggers that publish to the topic. */
static List *
find_triggers(Relation source, const char *topic)
{
	TriggerDesc *triggers = source->trigdesc;
	Oid			function = trigger_function();
	List	   *names = NIL;

	for (int i = 0; triggers && i < triggers->numtriggers; i++)
	{
		Trigger    *t = &triggers->triggers[i];

		if (t->tgfoid == function && !t->tgisclone && t->tgnargs >= PGN_OUTBOX_COLUMNS &&
			strcmp(t->tgargs[PGN_OUTBOX_TOPIC], topic) == 0)
			names = lappend(names, pstrdup(t->tgname));
	}
	return names;
}

/* Mark the events that the argument names. */
static void
parse_events(const char *argument, bool *chosen)
{
	char	   *rest = pstrdup(argument);
	List	   *names;
	ListCell   *lc;

	if (!SplitIdentifierString(rest, ',', &names) || names == NIL)
		pgn_bad_attribute("events must be a list such as \"insert,update,delete\"", NULL);
	foreach(lc, names)
	{
		int			i = 0;

		while (i < NEVENTS && strcmp(lfirst(lc), events[i].name) != 0)
			i++;
		if (i == NEVENTS)
			pgn_bad_attribute(psprintf("unknown event \"%s\"", (char *) lfirst(lc)),
							  "Events are insert, update, delete and truncate.");
		chosen[i] = true;
	}
}

/* Fail unless the table has the column, and triggers know its value. */
static void
check_column(Relation source, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(source), name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, RelationGetRelationName(source))));
	if (pgn_is_virtual(TupleDescAttr(RelationGetDescr(source), attnum - 1)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("column \"%s\" of relation \"%s\" is a virtual generated column",
						name, RelationGetRelationName(source)),
				 errhint("Make it a stored one, or publish the columns it is made of.")));
}

/* The arguments of the triggers, as they are written in SQL. */
static char *
trigger_arguments(Relation source, const char *topic, const char *group_by, ArrayType *columns)
{
	StringInfoData list;
	Datum	   *names;
	bool	   *nulls;
	int			n = 0;

	initStringInfo(&list);
	appendStringInfo(&list, "%s, %s", quote_literal_cstr(topic), quote_literal_cstr(group_by));
	if (columns)
	{
		deconstruct_array(columns, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR, &names, &nulls, &n);
		if (n == 0)
			pgn_bad_attribute("columns must not be empty", "Without it, all columns are published.");
	}
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			pgn_null_argument("column");
		check_column(source, NameStr(*DatumGetName(names[i])));
		appendStringInfo(&list, ", %s", quote_literal_cstr(NameStr(*DatumGetName(names[i]))));
	}
	return list.data;
}

/* Run a statement as the caller. */
static void
execute(const char *sql)
{
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "statement failed: %s", sql);
}

/* publish_changes(source, topic, events, columns, condition, group_by, include_replicated) */
Datum
pgn_publish_changes(PG_FUNCTION_ARGS)
{
	bool		chosen[NEVENTS] = {0};
	char	   *condition = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	char	   *group_by = PG_ARGISNULL(5) ? "" : NameStr(*PG_GETARG_NAME(5));
	Oid			relid;
	Relation	source;
	Topic	   *topic;
	char	   *table;
	char	   *arguments;

	pgn_begin_write("pigeon.publish_changes()");
	if (PG_ARGISNULL(0))
		pgn_null_argument("source");
	if (PG_ARGISNULL(1))
		pgn_null_argument("topic");
	relid = PG_GETARG_OID(0);
	source = open_source(relid, ShareRowExclusiveLock);
	topic = pgn_topic_open(text_to_cstring(PG_GETARG_TEXT_PP(1)), PGN_ACL_PUBLISH, AccessShareLock);
	/* The table's owner publishes, whoever writes to it. */
	if (!pgn_has_right(topic->relid, PGN_ACL_PUBLISH, source->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of table \"%s\" may not publish to topic \"%s\"",
						RelationGetRelationName(source), topic->name),
				 errhint("Grant the right to role \"%s\" with pigeon.grant_access().",
						 GetUserNameFromId(source->rd_rel->relowner, false))));
	parse_events(PG_ARGISNULL(2) ? "insert,update,delete" : text_to_cstring(PG_GETARG_TEXT_PP(2)), chosen);
	if (find_triggers(source, topic->name) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("changes of table \"%s\" are already published to topic \"%s\"",
						RelationGetRelationName(source), topic->name),
				 errhint("Stop that with pigeon.stop_publishing_changes() first.")));
	if (group_by[0] != '\0')
		check_column(source, group_by);
	else if (topic->attributes.fifo)
		pgn_bad_attribute("a FIFO topic needs group_by",
						  "Changes with the same value of that column are delivered in their order.");
	arguments = trigger_arguments(source, topic->name, group_by,
								  PG_ARGISNULL(3) ? NULL : PG_GETARG_ARRAYTYPE_P(3));
	table = sql_name(relid);
	/* ALTER TABLE minds an open relation; the lock stays. */
	table_close(source, NoLock);

	SPI_connect();
	for (int i = 0; i < NEVENTS; i++)
	{
		char	   *name = psprintf("\"" TRIGGER_NAME "\"", events[i].name, topic->id);
		char	   *when = "";

		if (!chosen[i])
			continue;
		if (condition && i != TRUNCATE)
			when = psprintf(" WHEN (%s)", pgn_condition(condition, relid, events[i].absent));
		execute(psprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH %s%s"
						 " EXECUTE FUNCTION pigeon.publish_change(%s)", name, events[i].name, table,
						 i == TRUNCATE ? "STATEMENT" : "ROW", when, arguments));
		if (!PG_ARGISNULL(6) && PG_GETARG_BOOL(6))
			execute(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER %s", table, name));
	}
	SPI_finish();
	PG_RETURN_VOID();
}

/* stop_publishing_changes(source, topic): false if they were not published */
Datum
pgn_stop_publishing_changes(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	source;
	List	   *names;
	ListCell   *lc;

	pgn_begin_write("pigeon.stop_publishing_changes()");
	source = open_source(relid, AccessExclusiveLock);
	names = find_triggers(source, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	table_close(source, NoLock);
	SPI_connect();
	foreach(lc, names)
		execute(psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(lc)), sql_name(relid)));
	SPI_finish();
	PG_RETURN_BOOL(names != NIL);
}

/* May the owner of a table publish to the topic? */
static bool
owner_may_publish(Oid table, Oid topic_relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	bool		may = false;

	if (HeapTupleIsValid(tuple))
	{
		may = pgn_has_right(topic_relid, PGN_ACL_PUBLISH, ((Form_pg_class) GETSTRUCT(tuple))->relowner);
		ReleaseSysCache(tuple);
	}
	return may;
}

/*
 * The name of a table whose changes are published to the topic, NULL if there
 * is none.  Triggers of those who may not publish do not count: everybody can
 * create one.
 */
char *
pgn_outbox_source(const Topic *topic)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	Oid			function = trigger_function();
	char	   *name = NULL;
	SysScanDesc scan = systable_beginscan(triggers, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (name == NULL && (tuple = systable_getnext(scan)) != NULL)
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		isnull;
		bytea	   *args;

		if (form->tgfoid != function || form->tgnargs == 0)
			continue;
		args = DatumGetByteaPP(heap_getattr(tuple, Anum_pg_trigger_tgargs, RelationGetDescr(triggers), &isnull));
		/* Each argument ends with a null byte. */
		if (strcmp(VARDATA_ANY(args), topic->name) == 0 && owner_may_publish(form->tgrelid, topic->relid))
			name = get_rel_name(form->tgrelid);
	}
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	return name;
}
