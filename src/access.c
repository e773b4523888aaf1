/*
 * access.c
 *		grant_access and revoke_access.
 *
 * The rights on a queue are rights on its table, and the rights on a topic
 * rights on its view, so GRANT and REVOKE work as well; these functions know
 * the names of the actions.  A queue and a topic may share a name; the action
 * tells which of them is meant.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "admin.h"
#include "table.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_grant_access);
PG_FUNCTION_INFO_V1(pgn_revoke_access);

#define ACTIONS_HINT "Actions are send, receive, delete, peek and purge for a queue, publish, subscribe and read_archive for a topic."

/* What can be allowed. */
static const struct
{
	const char *action;
	bool		of_topic;
	const char *privilege;
}			actions[] =

{
	{"send", false, "INSERT"},
	{"receive", false, "UPDATE"},
	{"delete", false, "DELETE"},
	{"peek", false, "SELECT"},
	{"purge", false, "TRUNCATE"},
	{"publish", true, "INSERT"},
	{"subscribe", true, "REFERENCES"},
	{"read_archive", true, "SELECT"},
};

/* Add the privilege of an action to the list for queues or the one for topics. */
static void
add_privilege(const char *action, StringInfo queue_privileges, StringInfo topic_privileges)
{
	for (int i = 0; i < lengthof(actions); i++)
	{
		StringInfo	list = actions[i].of_topic ? topic_privileges : queue_privileges;

		if (strcmp(action, actions[i].action) != 0)
			continue;
		appendStringInfo(list, "%s%s", list->len > 0 ? ", " : "", actions[i].privilege);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("unknown action \"%s\"", action),
			 errhint(ACTIONS_HINT)));
}

/* Run GRANT or REVOKE, as the caller. */
static void
execute(const char *verb, const char *privileges, const char *table, const char *preposition,
		const char *grantee)
{
	SPI_connect();
	if (SPI_execute(psprintf("%s %s ON TABLE pigeon.%s %s %s", verb, privileges, table, preposition,
							 strcmp(grantee, "public") == 0 ? "PUBLIC" : quote_identifier(grantee)),
					false, 0) < 0)
		elog(ERROR, "could not change the rights on \"%s\"", table);
	SPI_finish();
}

/* Grant or revoke the actions that are the third argument. */
static void
change_access(FunctionCallInfo fcinfo, const char *verb, const char *preposition)
{
	const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	const char *grantee = NameStr(*PG_GETARG_NAME(1));
	StringInfoData queue_privileges,
				topic_privileges;
	Datum	   *values;
	bool	   *nulls;
	int			n;
	Queue	   *queue = NULL;
	Topic	   *topic = NULL;

	initStringInfo(&queue_privileges);
	initStringInfo(&topic_privileges);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &n);
	for (int i = 0; i < n; i++)
		add_privilege(nulls[i] ? "" : TextDatumGetCString(values[i]), &queue_privileges, &topic_privileges);
	if (n == 0)
		pgn_bad_attribute("there must be at least one action", ACTIONS_HINT);

	/* Look before anything is changed. */
	if (queue_privileges.len > 0)
	{
		queue = pgn_queue_open(name, 0, AccessShareLock);
		pgn_queue_check_owner(queue);
	}
	if (topic_privileges.len > 0)
	{
		topic = pgn_topic_open(name, 0, AccessShareLock);
		pgn_topic_check_owner(topic);
	}
	if (queue)
		execute(verb, queue_privileges.data, psprintf("q_%d", queue->id), preposition, grantee);
	if (topic)
		execute(verb, topic_privileges.data, psprintf("t_%d", topic->id), preposition, grantee);
}

/* grant_access(queue_or_topic, grantee, actions) */
Datum
pgn_grant_access(PG_FUNCTION_ARGS)
{
	pgn_begin_write("pigeon.grant_access()");
	change_access(fcinfo, "GRANT", "TO");
	PG_RETURN_VOID();
}

/* revoke_access(queue_or_topic, grantee, actions) */
Datum
pgn_revoke_access(PG_FUNCTION_ARGS)
{
	pgn_begin_write("pigeon.revoke_access()");
	change_access(fcinfo, "REVOKE", "FROM");
	PG_RETURN_VOID();
}
