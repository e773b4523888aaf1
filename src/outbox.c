/*
 * outbox.c
 *		Publishing the changes of a table: the trigger.
 *
 * publish_changes() attaches row triggers to a table that publish what
 * happened to it, in the transaction in which it happened: an outbox without
 * an outbox table.  The message is
 *
 *		{"schema": ..., "table": ..., "operation": "insert" | "update" |
 *		 "delete" | "truncate", "time": ..., "transaction_id": ...,
 *		 "old": {...} | null, "new": {...} | null}
 *
 * Schema, table and operation are message attributes too, so that subscribers
 * can choose by them.
 *
 * The trigger publishes with the right of the table's owner, which is looked
 * at each time: who writes to the table needs no right on the topic, and who
 * has none cannot get to the topic by attaching the trigger to a table of his.
 *
 * Each change is published when its trigger fires.  Collecting them until the
 * end of the statement would be faster, but neither the rows that logical
 * replication applies nor those of a partition come with a statement trigger
 * that could be relied on to end it.
 *
 * Columns are known by name, since arguments of triggers are texts: who renames
 * a column must attach the trigger anew, and gets an error until then.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "json_out.h"
#include "outbox.h"
#include "publish.h"

PG_FUNCTION_INFO_V1(pgn_publish_change);

/* What all changes of one statement have in common. */
typedef struct Source
{
	char	   *schema;
	char	   *table;
	Oid			owner;
	const char *operation;
	char	   *topic;
	AttrNumber	group_by;		/* 0: none */
	bool		chosen;			/* the columns were */
	int			ncolumns;		/* 0: all */
	AttrNumber *columns;
	TupleDesc	shown;			/* the row type of the columns */
	Jsonb	   *attributes;		/* of the messages */
} Source;

/* The name of an operation. */
static const char *
operation_name(TriggerEvent event)
{
	return TRIGGER_FIRED_BY_INSERT(event) ? "insert" :
		TRIGGER_FIRED_BY_UPDATE(event) ? "update" :
		TRIGGER_FIRED_BY_DELETE(event) ? "delete" : "truncate";
}

/* The table that the trigger was attached to: for a partition, the ancestor it came from. */
static Oid
source_relid(const TriggerData *trigger)
{
	Oid			relid = RelationGetRelid(trigger->tg_relation);
	List	   *ancestors;
	ListCell   *lc;

	if (!trigger->tg_trigger->tgisclone)
		return relid;
	ancestors = get_partition_ancestors(relid);
	foreach(lc, ancestors)
	{
		Relation	ancestor = table_open(lfirst_oid(lc), AccessShareLock);
		TriggerDesc *triggers = ancestor->trigdesc;

		relid = lfirst_oid(lc);
		for (int i = 0; triggers && i < triggers->numtriggers; i++)
		{
			if (strcmp(triggers->triggers[i].tgname, trigger->tg_trigger->tgname) != 0 ||
				triggers->triggers[i].tgisclone)
				continue;
			table_close(ancestor, NoLock);
			return relid;
		}
		table_close(ancestor, NoLock);
	}
	return relid;
}

/* The number of a column; an error if there is none of this name. */
static AttrNumber
column_number(Relation rel, const char *name)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), name);

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist", name, RelationGetRelationName(rel)),
				 errdetail("Changes of the relation are published, and the column was chosen for that."),
				 errhint("Call pigeon.stop_publishing_changes() and pigeon.publish_changes() again.")));
	return attnum;
}

/* Show all columns but virtual generated ones, if there are such: their values are not in the row. */
static void
leave_out_virtual(Source *source, TupleDesc desc)
{
	int			n = 0;

	source->columns = palloc(desc->natts * sizeof(AttrNumber));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (pgn_is_virtual(attr))
			source->ncolumns = -1;
		else if (!attr->attisdropped)
			source->columns[n++] = attr->attnum;
	}
	if (source->ncolumns < 0)
		source->ncolumns = n;
}

/* The row type that is shown. */
static TupleDesc
shown_type(Relation rel, int ncolumns, const AttrNumber *columns)
{
	TupleDesc	desc = CreateTemplateTupleDesc(ncolumns);

	for (int i = 0; i < ncolumns; i++)
		TupleDescCopyEntry(desc, i + 1, RelationGetDescr(rel), columns[i]);
	return BlessTupleDesc(desc);
}

/* The attributes of the messages. */
static Jsonb *
message_attributes(const Source *source)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"schema\": ");
	pgn_json_text(&json, source->schema, strlen(source->schema));
	appendStringInfoString(&json, ", \"table\": ");
	pgn_json_text(&json, source->table, strlen(source->table));
	appendStringInfo(&json, ", \"operation\": \"%s\"}", source->operation);
	return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}

/* Find out what changes of this statement have in common; lives in the current memory context. */
static Source *
make_source(const TriggerData *trigger)
{
	Relation	rel = trigger->tg_relation;
	char	  **args = trigger->tg_trigger->tgargs;
	int			nargs = trigger->tg_trigger->tgnargs;
	Source	   *source = palloc0(sizeof(Source));
	Relation	root;

	if (nargs < PGN_OUTBOX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be attached by pigeon.publish_changes()", "publish_change")));
	root = table_open(source_relid(trigger), AccessShareLock);
	source->schema = get_namespace_name(RelationGetNamespace(root));
	source->table = pstrdup(RelationGetRelationName(root));
	source->owner = root->rd_rel->relowner;
	table_close(root, NoLock);

	source->topic = pstrdup(args[PGN_OUTBOX_TOPIC]);
	if (args[PGN_OUTBOX_GROUP_BY][0] != '\0')
		source->group_by = column_number(rel, args[PGN_OUTBOX_GROUP_BY]);
	source->ncolumns = nargs - PGN_OUTBOX_COLUMNS;
	source->chosen = source->ncolumns > 0;
	source->columns = palloc(source->ncolumns * sizeof(AttrNumber));
	for (int i = 0; i < source->ncolumns; i++)
		source->columns[i] = column_number(rel, args[PGN_OUTBOX_COLUMNS + i]);
	if (!source->chosen)
		leave_out_virtual(source, RelationGetDescr(rel));
	if (source->ncolumns > 0)
		source->shown = shown_type(rel, source->ncolumns, source->columns);
	source->operation = operation_name(trigger->tg_event);
	source->attributes = message_attributes(source);
	return source;
}

/* Did an update change none of the columns that were chosen? */
static bool
nothing_changed(const Source *source, TupleDesc desc, HeapTuple old, HeapTuple new)
{
	for (int i = 0; i < source->ncolumns && source->chosen; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, source->columns[i] - 1);
		bool		old_isnull,
					new_isnull;
		Datum		old_value = heap_getattr(old, source->columns[i], desc, &old_isnull);
		Datum		new_value = heap_getattr(new, source->columns[i], desc, &new_isnull);

		if (old_isnull != new_isnull)
			return false;
		if (!old_isnull && !datum_image_eq(old_value, new_value, attr->attbyval, attr->attlen))
			return false;
	}
	return source->chosen;
}

/* Append JSON, with escapes for the two characters that a message must not have as such. */
static void
append_json(StringInfo json, const char *value)
{
	static const char start[] = "\xEF\xBF"; /* of U+FFFE, U+FFFF, and others */
	const char *p;

	while (GetDatabaseEncoding() == PG_UTF8 && (p = strstr(value, start)) != NULL)
	{
		unsigned char last = p[2];

		appendBinaryStringInfo(json, value, p - value);
		if (last >= 0xBE)
			appendStringInfo(json, "\\uff%s", last == 0xBE ? "fe" : "ff");
		else
			appendBinaryStringInfo(json, p, 3);
		value = p + 3;
	}
	appendStringInfoString(json, value);
}

/* Append a row as a JSON object, null if there is none. */
static void
append_row(StringInfo json, const char *name, const Source *source, TupleDesc desc, HeapTuple tuple)
{
	Datum		row;

	appendStringInfo(json, ", \"%s\": ", name);
	if (tuple == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	if (source->shown)
	{
		Datum	   *values = palloc(source->ncolumns * sizeof(Datum));
		bool	   *isnull = palloc(source->ncolumns * sizeof(bool));

		for (int i = 0; i < source->ncolumns; i++)
			values[i] = heap_getattr(tuple, source->columns[i], desc, &isnull[i]);
		row = HeapTupleGetDatum(heap_form_tuple(source->shown, values, isnull));
	}
	else
		row = heap_copy_tuple_as_datum(tuple, desc);
	append_json(json, TextDatumGetCString(DirectFunctionCall1(row_to_json, row)));
}

/* The body of the message. */
static text *
message_body(const Source *source, const TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"schema\": ");
	pgn_json_text(&json, source->schema, strlen(source->schema));
	appendStringInfoString(&json, ", \"table\": ");
	pgn_json_text(&json, source->table, strlen(source->table));
	appendStringInfo(&json, ", \"operation\": \"%s\", \"time\": ", source->operation);
	pgn_json_time(&json, GetCurrentTimestamp(), 6);
	appendStringInfo(&json, ", \"transaction_id\": " UINT64_FORMAT,
					 U64FromFullTransactionId(GetTopFullTransactionId()));
	append_row(&json, "old", source, desc, old);
	append_row(&json, "new", source, desc, new);
	appendStringInfoChar(&json, '}');
	return cstring_to_text_with_len(json.data, json.len);
}

/* Begin to write values as every session does, whatever its settings are; to be ended with AtEOXact_GUC(). */
static int
begin_common_settings(void)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"bytea_output", "hex"}, {"extra_float_digits", "1"}, {"lc_monetary", "C"},
		{"search_path", "pg_catalog"}, {"quote_all_identifiers", "off"}
	};
	int			level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

/* A value as text, the same in every session. */
static char *
common_text(Oid type, Datum value)
{
	Oid			output;
	bool		is_varlena;
	char	   *text;
	int			level;

	getTypeOutputInfo(type, &output, &is_varlena);
	switch (getBaseType(type))
	{
		case BOOLOID:
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case NUMERICOID:
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
		case UUIDOID:
		case NAMEOID:
		case OIDOID:
			return OidOutputFunctionCall(output, value);
		default:
			level = begin_common_settings();
			text = OidOutputFunctionCall(output, value);

			AtEOXact_GUC(true, level);
			return text;
	}
}

/*
 * The message group of a change: the value by which changes are grouped, or
 * its hash if the value cannot be the name of a group.
 */
static text *
message_group(const Source *source, TupleDesc desc, HeapTuple tuple)
{
	bool		isnull;
	Datum		value;
	char	   *text;

	if (source->group_by == 0)
		return NULL;
	if (tuple == NULL)
		return cstring_to_text("truncate");
	value = heap_getattr(tuple, source->group_by, desc, &isnull);
	if (isnull)
		return cstring_to_text("null");
	text = common_text(TupleDescAttr(desc, source->group_by - 1)->atttypid, value);

	if (!pgn_is_id(text, strlen(text)))
		text = psprintf("%016llx", (unsigned long long)
						hash_bytes_extended((unsigned char *) text, strlen(text), 0));

	return cstring_to_text(text);
}

/* A deduplication id that no other change has, and nobody can use up before. */
static text *
unique_id(void)
{
	Datum		uuid = DirectFunctionCall1(gen_random_uuid, (Datum) 0);

	return cstring_to_text(psprintf("pigeon-change-%s", DatumGetCString(DirectFunctionCall1(uuid_out, uuid))));
}

/* Publish one change. */
static void
publish_change(const Source *source, const TriggerData *trigger, HeapTuple old, HeapTuple new)
{
	Topic	   *topic;
	Message		message = {0};

	pgn_topic_begin_publish();
	topic = pgn_topic_open(source->topic, 0, RowExclusiveLock);
	pgn_topic_check_rights(topic, PGN_ACL_PUBLISH, source->owner);
	message.body = message_body(source, trigger, old, new);
	message.attributes = source->attributes;
	message.group_id = message_group(source, RelationGetDescr(trigger->tg_relation), new ? new : old);
	if (topic->attributes.fifo)
		message.deduplication_id = unique_id();
	pgn_check_publish(topic, &message);
	(void) pgn_publish_messages(topic, &message, 1, 0);
}

/* publish_change(topic, group_by, column, ...): the trigger function. */
Datum
pgn_publish_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	MemoryContext old_context;
	Source	   *source;
	HeapTuple	old = NULL,
				new = NULL;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager", "publish_change")));
	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		TRIGGER_FIRED_FOR_ROW(trigger->tg_event) == TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be attached by pigeon.publish_changes()", "publish_change")));

	source = fcinfo->flinfo->fn_extra;
	if (source == NULL || source->operation != operation_name(trigger->tg_event))
	{
		old_context = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = source = make_source(trigger);
		MemoryContextSwitchTo(old_context);
	}

	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		new = trigger->tg_trigtuple;
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		old = trigger->tg_trigtuple;
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		old = trigger->tg_trigtuple;
		new = trigger->tg_newtuple;
		if (nothing_changed(source, RelationGetDescr(trigger->tg_relation), old, new))
			PG_RETURN_POINTER(NULL);
	}
	publish_change(source, trigger, old, new);
	PG_RETURN_POINTER(NULL);
}
