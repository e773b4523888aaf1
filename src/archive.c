/*
 * archive.c
 *		The archive of a topic: what was published, for a time.
 *
 * The archive is a ring of segments, ordinary tables of the topic's owner.
 * Published messages are appended to the current one.  When it covers its
 * share of the retention, the next one becomes current; a segment is emptied
 * by truncation, when the newest message in it has outlived the retention.  So
 * expiry costs the same for a thousand messages or a billion, nothing in the
 * archive needs vacuum, and no table is made or dropped after the archive was
 * turned on.  The price is that a message is kept for up to a sixth longer
 * than it need be.
 *
 * The topic's view shows all segments.  Partitions would do the same, but need
 * a job that makes them in time, and a row trigger on a partitioned table
 * cannot give the column by which it is partitioned.
 *
 * The key of a segment is (published_at, message_id): the order in which a
 * replay reads it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "archive.h"
#include "table.h"

/* Rows of one multi-insert. */
#define APPEND_CHUNK 1000

static const PgnColumn archive_columns[Natts_archive] = {
	{"body", TEXTOID, true},
	{"subject", TEXTOID, false},
	{"attributes", JSONBOID, false},
	{"group_id", TEXTOID, false},
	{"deduplication_id", TEXTOID, false},
	{"message_id", INT8OID, true},
	{"published_at", TIMESTAMPTZOID, true},
	{"publisher", NAMEOID, true},
};

/* The name of a column's type. */
static const char *
type_name(const PgnColumn *column)
{
	return column->type == TEXTOID ? "text" :
		column->type == JSONBOID ? "jsonb" :
		column->type == INT8OID ? "bigint" :
		column->type == NAMEOID ? "name" : "timestamptz";
}

/* The statement that makes a topic's view, or changes what it shows. */
char *
pgn_topic_view_sql(int32 topic_id, bool archived)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE OR REPLACE VIEW pigeon.t_%d AS ", topic_id);
	for (int segment = 0; archived && segment < PGN_ARCHIVE_SEGMENTS; segment++)
	{
		appendStringInfoString(&sql, segment > 0 ? " UNION ALL SELECT " : "SELECT ");
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", archive_columns[i].name);
		appendStringInfo(&sql, " FROM pigeon.t_%d_%d", topic_id, segment);
	}
	if (!archived)
	{
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s NULL::%s AS %s", i > 0 ? "," : "SELECT",
							 type_name(&archive_columns[i]), archive_columns[i].name);
		appendStringInfoString(&sql, " WHERE false");
	}
	return sql.data;
}

/* The statements that make the segments of an archive. */
char *
pgn_archive_create_sql(int32 topic_id)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
	{
		appendStringInfo(&sql, "CREATE TABLE pigeon.t_%d_%d (", topic_id, segment);
		for (int i = 0; i < Natts_archive; i++)
			appendStringInfo(&sql, "%s %s%s, ", archive_columns[i].name, type_name(&archive_columns[i]),
							 archive_columns[i].not_null ? " NOT NULL" : "");
		appendStringInfoString(&sql, "PRIMARY KEY (published_at, message_id)) USING heap;");
	}
	return sql.data;
}

/* The statement that drops the segments of an archive. */
char *
pgn_archive_drop_sql(int32 topic_id)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "DROP TABLE ");
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
		appendStringInfo(&sql, "%spigeon.t_%d_%d", segment > 0 ? ", " : "", topic_id, segment);
	return sql.data;
}

/* Fail unless the view has the columns of a topic. */
void
pgn_archive_check_view(Relation view)
{
	TupleDesc	desc = RelationGetDescr(view);
	bool		same = desc->natts == Natts_archive;

	for (int i = 0; same && i < Natts_archive; i++)
		same = TupleDescAttr(desc, i)->atttypid == archive_columns[i].type;
	if (!same)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("columns of view \"%s\" are not those of this version of pigeon",
						RelationGetRelationName(view)),
				 errhint("Undo the change that was made to the view, or run ALTER EXTENSION pigeon UPDATE.")));
}

/* The row of a message. */
static HeapTuple
form_row(TupleDesc desc, const Message *message, TimestampTz now, Name publisher)
{
	Datum		values[Natts_archive];
	bool		isnull[Natts_archive] = {0};

#define SET(column, value) values[Anum_archive_##column - 1] = (value)
#define SET_POINTER(column, pointer) \
	(values[Anum_archive_##column - 1] = PointerGetDatum(pointer), \
	 isnull[Anum_archive_##column - 1] = (pointer) == NULL)
	SET_POINTER(body, message->body);
	SET_POINTER(subject, message->subject);
	SET_POINTER(attributes, message->attributes);
	SET_POINTER(group_id, message->group_id);
	SET_POINTER(deduplication_id, message->deduplication_id);
	SET(message_id, Int64GetDatum(message->message_id));
	SET(published_at, TimestampTzGetDatum(now));
	SET(publisher, NameGetDatum(message->sender ? message->sender : publisher));
#undef SET
#undef SET_POINTER
	return heap_form_tuple(desc, values, isnull);
}

/* Append messages, already numbered, to the archive of a topic that has one. */
void
pgn_archive_append(const Topic *topic, const Message *messages, int n, TimestampTz now)
{
	Oid			relid = pgn_relation(psprintf("t_%d_%d", topic->id, topic->attributes.archive_segment));
	PgnTable	table;
	NameData	publisher;
	TupleTableSlot **slots;
	int			nslots = Min(n, APPEND_CHUNK);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the archive of topic \"%s\" is incomplete", topic->name),
				 errhint("Turn it off and on again with pigeon.alter_topic().")));
	namestrcpy(&publisher, GetUserNameFromId(GetUserId(), false));
	pgn_table_open(&table, relid, RowExclusiveLock);
	pgn_table_check_columns(table.rel, archive_columns, Natts_archive);
	slots = palloc(nslots * sizeof(TupleTableSlot *));
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(table.rel), &TTSOpsHeapTuple);
	for (int done = 0; done < n;)
	{
		int			chunk = Min(n - done, APPEND_CHUNK);

		for (int i = 0; i < chunk; i++)
			ExecStoreHeapTuple(form_row(RelationGetDescr(table.rel), &messages[done + i], now, &publisher),
							   slots[i], true);
		pgn_table_multi_insert(&table, slots, chunk);
		done += chunk;
	}
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
	pgn_table_close(&table, NoLock);
}
