/*
 * admin.c
 *		What creating and altering queues and topics share.
 */
#include "postgres.h"

#include "commands/sequence.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "admin.h"
#include "archive.h"
#include "arguments.h"
#include "queue.h"

#define MIN_MAX_MESSAGE_SIZE 1024
#define MAX_MAX_MESSAGE_SIZE (512 * 1024 * 1024)
#define MAX_TAGS 50
#define MAX_TAG_KEY 128
#define MAX_TAG_VALUE 256

/* Fail because an attribute has a bad value. */
void
pgn_bad_attribute(const char *problem, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", problem),
			 hint ? errhint("%s", hint) : 0));
}

/*
 * The arguments of a create function, if places is NULL, or of an alter function, whose arguments stand in these places
 * of the create function's.
 */
void
pgn_take_arguments(FunctionCallInfo fcinfo, const int *places, Given *given)
{
	Assert(fcinfo->nargs <= PGN_MAX_ARGUMENTS);
	for (int i = 0; i < PGN_MAX_ARGUMENTS; i++)
		given->args[i].isnull = true;
	for (int i = 0; i < fcinfo->nargs; i++)
		given->args[places ? places[i] : i] = fcinfo->args[i];
}

/* The name that the caller gave, checked to be one that a queue or topic may have. */
char *
pgn_name_argument(const Given *given, const char *kind)
{
	char	   *name;
	int			chars;

	if (!GIVEN(given, 0))
		pgn_null_argument(kind);
	name = TextDatumGetCString(VALUE(given, 0));
	chars = pg_mbstrlen(name);
	if (chars < 1 || chars > PGN_NAME_CHARS)
		pgn_bad_attribute(psprintf("a %s's name must have 1 to %d characters", kind, PGN_NAME_CHARS), NULL);
	return name;
}

/* Fail because there is a queue or topic of this name, unless the argument at if_not_exists is true. */
void
pgn_refuse_existing(const Given *given, int if_not_exists, const char *kind, const char *name)
{
	if (!GIVEN(given, if_not_exists) || !DatumGetBool(VALUE(given, if_not_exists)))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s \"%s\" already exists", kind, name),
				 errhint("Pass if_not_exists => true if it may.")));
}

/* Fail unless this can be the largest size of a message. */
void
pgn_check_max_message_size(int32 size)
{
	if (size < MIN_MAX_MESSAGE_SIZE || size > MAX_MAX_MESSAGE_SIZE)
		pgn_bad_attribute("max_message_size must be between 1024 and 536870912 bytes", NULL);
}

/* Fail unless the tags are what SQS and SNS allow. */
void
pgn_check_tags(Jsonb *tags)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(tags))
		pgn_bad_attribute("tags must be a JSON object", "For example: {\"team\": \"shipping\"}.");
	if (JB_ROOT_COUNT(tags) > MAX_TAGS)
		pgn_bad_attribute("there may be at most 50 tags", NULL);
	it = JsonbIteratorInit(&tags->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY &&
			(value.val.string.len == 0 ||
			 pg_mbstrlen_with_len(value.val.string.val, value.val.string.len) > MAX_TAG_KEY))
			pgn_bad_attribute("a tag's key must have 1 to 128 characters", NULL);
		if (token == WJB_VALUE &&
			(value.type != jbvString ||
			 pg_mbstrlen_with_len(value.val.string.val, value.val.string.len) > MAX_TAG_VALUE))
			pgn_bad_attribute("a tag's value must be a string of at most 256 characters", NULL);
	}
}

/* Is there anything in the schema with a name that a queue or topic of this number has for its tables and indexes? */
static bool
id_is_taken(int32 id)
{
	static const char *const parts[][2] = {
		{"q", ""}, {"q", "_due"}, {"q", "_group"},
		{"g", ""}, {"g", "_due"}, {"g", "_group"},
		{"d", ""}, {"d", "_key"},
		{"t", ""}
	};
	bool		taken = false;

	for (int i = 0; i < lengthof(parts); i++)
		taken |= OidIsValid(pgn_relation(psprintf("%s_%d%s", parts[i][0], id, parts[i][1])));
	for (int segment = 0; segment < PGN_ARCHIVE_SEGMENTS; segment++)
		taken |= OidIsValid(pgn_relation(psprintf("t_%d_%d", id, segment)));
	return taken;
}

/*
 * The number of a new queue, topic or subscription.  Who may create queues may
 * create other tables in the schema, too; those must be in nobody's way.
 */
int32
pgn_new_id(void)
{
	int32		id;

	do
	{
		CHECK_FOR_INTERRUPTS();
		id = nextval_internal(pgn_relation("queue_id_seq"), false);
	} while (id_is_taken(id));
	return id;
}
