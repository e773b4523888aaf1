/*
 * topic_admin.c
 *		create_topic, alter_topic and drop_topic.
 *
 * A topic is a row in the registry and a view (see topic.c), and the tables of
 * its archive if it has one.  View and tables are created by and belong to
 * the caller; the registry belongs to the extension, so it is written as its
 * owner.  Every attribute is checked before anything is written.
 *
 * Who creates, changes or drops topics holds a lock on the registry until the
 * end of the transaction; who only publishes never waits for it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/jsonb.h"

#include "activity.h"
#include "admin.h"
#include "archive.h"
#include "arguments.h"
#include "compat.h"
#include "deduplication.h"
#include "dropped.h"
#include "message.h"
#include "outbox.h"
#include "owner.h"
#include "registry.h"
#include "table.h"
#include "topic.h"

PG_FUNCTION_INFO_V1(pgn_create_topic);
PG_FUNCTION_INFO_V1(pgn_alter_topic);
PG_FUNCTION_INFO_V1(pgn_drop_topic);

#define MIN_ARCHIVE_RETENTION (60 * USECS_PER_SEC)

/* The arguments of create_topic, by position; alter_topic has most of them. */
enum
{
	ARG_TOPIC,
	ARG_FIFO,
	ARG_CONTENT_BASED_DEDUPLICATION,
	ARG_ARCHIVE_RETENTION,
	ARG_TAGS,
	ARG_IF_NOT_EXISTS,
	ARG_MAX_MESSAGE_SIZE
};

/* The arguments of alter_topic, in their places of create_topic. */
static const int alter_places[] = {
	ARG_TOPIC, ARG_CONTENT_BASED_DEDUPLICATION, ARG_ARCHIVE_RETENTION, ARG_TAGS,
	ARG_MAX_MESSAGE_SIZE
};

/* Change attributes to what the caller gave, and check the result. */
static void
apply(const Given *given, TopicAttributes *a)
{
	if (GIVEN(given, ARG_CONTENT_BASED_DEDUPLICATION))
		a->content_based_deduplication = DatumGetBool(VALUE(given, ARG_CONTENT_BASED_DEDUPLICATION));
	if (!a->fifo && a->content_based_deduplication)
		pgn_bad_attribute("only FIFO topics have deduplication attributes", NULL);
	if (GIVEN(given, ARG_ARCHIVE_RETENTION))
		a->archive_retention = pgn_interval(DatumGetIntervalP(VALUE(given, ARG_ARCHIVE_RETENTION)),
											"archive_retention");
	if (a->archive_retention != 0 && a->archive_retention < MIN_ARCHIVE_RETENTION)
		pgn_bad_attribute("archive_retention must be at least 60 seconds", "Zero means no archive.");
	if (GIVEN(given, ARG_MAX_MESSAGE_SIZE))
		a->max_message_size = DatumGetInt32(VALUE(given, ARG_MAX_MESSAGE_SIZE));
	pgn_check_max_message_size(a->max_message_size);
	if (GIVEN(given, ARG_TAGS))
		pgn_check_tags(DatumGetJsonbP(VALUE(given, ARG_TAGS)));
}

/* Write a topic to the registry: a new row, or its new attributes. */
static void
write_registry(bool is_new, int32 id, const char *name, const TopicAttributes *a, const Given *given)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, TEXTOID, BOOLOID, BOOLOID, INT4OID, INT8OID, JSONBOID};
	Datum		values[] = {
		Int32GetDatum(id), CStringGetTextDatum(name), BoolGetDatum(a->fifo),
		BoolGetDatum(a->content_based_deduplication), Int32GetDatum(a->max_message_size),
		Int64GetDatum(a->archive_retention), VALUE(given, ARG_TAGS)
	};
	char		nulls[lengthof(values) + 1];

	memset(nulls, ' ', sizeof(nulls));
	if (a->archive_retention == 0)
		nulls[Anum_topic_archive_retention - 1] = 'n';
	if (!GIVEN(given, ARG_TAGS))
		nulls[Anum_topic_tags - 1] = 'n';

	pgn_owner_begin(&as_owner);
	pgn_owner_execute(is_new ?
					  "INSERT INTO pigeon.topic VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, '{}'))" :
					  "UPDATE pigeon.topic SET name = $2, fifo = $3, content_based_deduplication = $4,"
					  " max_message_size = $5, archive_retention = $6, tags = coalesce($7, tags),"
					  " archive_since = CASE WHEN archive_retention IS NULL THEN now() ELSE archive_since END,"
					  " altered_at = now() WHERE id = $1",
					  lengthof(values), types, values, nulls);
	pgn_owner_end(&as_owner);
}

/* Have the topics of the registry these tags? */
static bool
has_tags(const Topic *topic, Datum tags)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT4OID, JSONBOID};
	Datum		values[] = {Int32GetDatum(topic->id), tags};
	bool		found;

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("SELECT FROM pigeon.topic WHERE id = $1 AND tags = $2", 2, types, values, NULL);
	found = SPI_processed == 1;
	pgn_owner_end(&as_owner);
	return found;
}

/* Fail if the existing topic differs in what the caller of create_topic gave. */
static void
check_same(const Topic *topic, const Given *given)
{
	TopicAttributes old = topic->attributes,
				new = topic->attributes;
	const char *differs = NULL;

	if (GIVEN(given, ARG_FIFO))
		new.fifo = DatumGetBool(VALUE(given, ARG_FIFO));
	/* What it could be given then does not matter. */
	if (old.fifo == new.fifo)
		apply(given, &new);
	if (GIVEN(given, ARG_TAGS) && !has_tags(topic, VALUE(given, ARG_TAGS)))
		differs = "tags";
#define COMPARE(attribute) if (old.attribute != new.attribute) differs = #attribute
	COMPARE(max_message_size);
	COMPARE(archive_retention);
	COMPARE(content_based_deduplication);
	COMPARE(fifo);
#undef COMPARE
	if (differs)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("topic \"%s\" already exists with another %s", topic->name, differs),
				 errhint("Change the attribute with pigeon.alter_topic().")));
}

/* Run statements as the caller. */
static void
execute(const char *sql)
{
	SPI_connect();
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "statement failed: %s", sql);
	SPI_finish();
}

/* Give the segments of an archive to the owner of the topic's view, if the caller is another. */
static void
give_archive_to_owner(const Topic *topic)
{
	Relation	view = relation_open(topic->relid, AccessShareLock);
	Oid			owner = view->rd_rel->relowner;

	relation_close(view, NoLock);
	if (owner != GetUserId())
		execute(pgn_archive_owner_sql(topic->id, GetUserNameFromId(owner, false)));
}

/* Make the view of a new topic, and the tables that belong to it. */
static void
create_view(int32 id, const TopicAttributes *a)
{
	bool		archived = a->archive_retention > 0;

	if (archived)
		execute(pgn_archive_create_sql(id));
	if (a->fifo)
		pgn_owner_create_table(pgn_deduplication_table_sql(id), psprintf("d_%d", (int) id));
	execute(pgn_topic_view_sql(id, archived));
	execute(psprintf("CREATE TRIGGER publish_row INSTEAD OF INSERT ON pigeon.t_%d"
					 " FOR EACH ROW EXECUTE FUNCTION pigeon.publish_rows();"
					 "CREATE TRIGGER publish_rows AFTER INSERT ON pigeon.t_%d"
					 " FOR EACH STATEMENT EXECUTE FUNCTION pigeon.publish_rows()", id, id));
}

/* Forget a topic of this name if its view was renamed or moved away: nobody can use it any more. */
static void
forget_remains(const char *name)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	int64		id = pgn_owner_number("SELECT id::bigint FROM pigeon.topic WHERE name = $1",
									  1, types, values, 0);

	if (id != 0)
		pgn_forget_topic(id);
}

/* create_topic(topic, fifo, content_based_deduplication, ...) */
Datum
pgn_create_topic(PG_FUNCTION_ARGS)
{
	TopicAttributes a = {.max_message_size = 1024 * 1024};
	Given		given;
	char	   *name;
	Topic	   *existing;
	int32		id;

	pgn_begin_write("pigeon.create_topic()");
	pgn_take_arguments(fcinfo, NULL, &given);
	name = pgn_name_argument(&given, PGN_TOPIC);
	pgn_check_may_create(PGN_TOPIC);
	LockRelationOid(pgn_relation("topic"), ShareRowExclusiveLock);

	existing = pgn_topic_find(name);
	if (existing)
	{
		pgn_refuse_existing(&given, ARG_IF_NOT_EXISTS, PGN_TOPIC, name);
		check_same(existing, &given);
		PG_RETURN_VOID();
	}

	if (GIVEN(&given, ARG_FIFO))
		a.fifo = DatumGetBool(VALUE(&given, ARG_FIFO));
	apply(&given, &a);

	forget_remains(name);
	id = pgn_new_id();
	create_view(id, &a);
	write_registry(true, id, name, &a, &given);
	pgn_activity_job(JOB_REGISTRY);
	PG_RETURN_VOID();
}

/* Fail unless there is a topic of this name, and the caller is its owner. */
static void
check_own_topic(const char *name)
{
	Topic	   *topic = pgn_topic_find(name);

	if (topic == NULL)
		pgn_unknown(PGN_TOPIC, name);
	pgn_topic_check_owner(topic);
}

/*
 * The topic that the arguments name, locked; the caller must be its owner.
 * That is checked before any lock, so that only who may change a topic can
 * make others wait.  The registry is locked, too.
 */
static Topic *
open_own_topic(const char *name)
{
	Topic	   *topic;

	check_own_topic(name);
	LockRelationOid(pgn_relation("topic"), ShareRowExclusiveLock);
	topic = pgn_topic_open(name, 0, AccessShareLock);
	pgn_topic_check_owner(topic);
	return topic;
}

/* alter_topic(topic, content_based_deduplication, ...) */
Datum
pgn_alter_topic(PG_FUNCTION_ARGS)
{
	Given		given;
	Topic	   *topic;
	TopicAttributes a;
	bool		was_archived;

	pgn_begin_write("pigeon.alter_topic()");
	pgn_take_arguments(fcinfo, alter_places, &given);
	topic = open_own_topic(pgn_name_argument(&given, PGN_TOPIC));
	a = topic->attributes;
	was_archived = a.archive_retention > 0;
	apply(&given, &a);

	/* Replacing the view waits for everybody who is publishing. */
	if (a.archive_retention > 0 && !was_archived)
	{
		execute(pgn_archive_create_sql(topic->id));
		give_archive_to_owner(topic);
	}
	if (was_archived != (a.archive_retention > 0))
		execute(pgn_topic_view_sql(topic->id, a.archive_retention > 0));
	if (a.archive_retention == 0 && was_archived)
		execute(pgn_archive_drop_sql(topic->id));
	write_registry(false, topic->id, topic->name, &a, &given);
	CacheInvalidateRelcacheByRelid(topic->relid);
	pgn_activity_job(JOB_REGISTRY);
	pgn_activity_maintain(&topic->queue, PG_INT64_MIN);
	PG_RETURN_VOID();
}

/* drop_topic(topic, if_exists) */
Datum
pgn_drop_topic(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	Topic	   *topic;
	char	   *source;

	pgn_begin_write("pigeon.drop_topic()");
	if (PG_GETARG_BOOL(1) && pgn_topic_find(name) == NULL)
		PG_RETURN_BOOL(false);
	check_own_topic(name);
	LockRelationOid(pgn_relation("topic"), ShareRowExclusiveLock);
	if (PG_GETARG_BOOL(1) && pgn_topic_find(name) == NULL)
		PG_RETURN_BOOL(false);
	topic = open_own_topic(name);
	if (topic->attributes.archive_retention > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("topic \"%s\" has an archive", topic->name),
				 errhint("Give the archive up first, with pigeon.alter_topic(topic, archive_retention => '0').")));
	LockRelationOid(topic->relid, AccessExclusiveLock);
	source = pgn_outbox_source(topic);
	if (source)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("changes of table \"%s\" are published to topic \"%s\"", source, topic->name),
				 errhint("Stop that with pigeon.stop_publishing_changes() first.")));
	execute(psprintf("DROP VIEW pigeon.t_%d", topic->id));
	/* The event trigger did this, unless somebody disabled it. */
	pgn_forget_topic(topic->id);
	PG_RETURN_BOOL(true);
}
