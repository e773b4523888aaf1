/*
 * log.c
 *		The message log: every body is written here once and never changed.
 *
 * The log is a generational heap.  A ring of segment tables takes appends,
 * one of them at a time; log_rotation.c truncates a sealed segment when no
 * delivery refers to it any more, and moves the few messages that keep it
 * alive to the old generation (pigeon.log_old) first.  So nothing in a segment
 * ever needs vacuum, and space is bounded even while a long transaction holds
 * back the xmin horizon.
 *
 * A segment has no index.  A delivery says in which segment its message was
 * written, and at which place; log_reader.c tells how it is found if it is not
 * there.  One entry less in an index is a tenth less work for a batch that is
 * sent.
 *
 * Which segment is current is kept in pigeon.log_state and cached here.  A
 * sender that has not yet heard of a rotation appends to a sealed segment;
 * that is harmless, since a segment is judged by what is in it when it is
 * truncated, not by what was in it when it was sealed.
 *
 * Link and secret.  A log row and the deliveries of its message carry the
 * same random log_key.  Queue tables belong to the users who create queues,
 * so anybody may write a row there that names some message_id; without the
 * key of that message it reads nothing.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "log.h"
#include "log_growth.h"
#include "message_id.h"
#include "queue.h"
#include "table.h"

/* The current segment as this backend knows it. */
static int	current_segment = -1;
static Oid	log_state_relid = InvalidOid;

/* Relations that were looked up by their names. */
static Oid	segment_relids[PGN_LOG_OLD + 1];

/*
 * Relcache callback.  A rotation sends an invalidation for pigeon.log_state; a
 * relation that is dropped or renamed, one for itself.
 */
static void
invalidate_log(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == log_state_relid)
		current_segment = -1;
	for (int i = 0; i <= PGN_LOG_OLD; i++)
		if (!OidIsValid(relid) || relid == segment_relids[i])
			segment_relids[i] = InvalidOid;
}

/* Register for invalidations; called once per backend. */
void
pgn_log_init(void)
{
	CacheRegisterRelcacheCallback(invalidate_log, (Datum) 0);
}

/* The table of a segment, or of the old generation. */
Oid
pgn_log_segment(int segment)
{
	char		name[NAMEDATALEN] = "log_old";
	Oid			relid;

	if (segment >= 0 && segment <= PGN_LOG_OLD && OidIsValid(segment_relids[segment]))
		return segment_relids[segment];
	if (segment != PGN_LOG_OLD)
		snprintf(name, sizeof(name), "log_%d", segment);
	relid = segment >= 0 && segment <= PGN_LOG_OLD ? pgn_relation(name) : InvalidOid;
	if (!OidIsValid(relid))
		elog(ERROR, "message log table \"%s\" is missing", name);
	return segment_relids[segment] = relid;
}

/* The segment to append to, as of the last rotation that we have heard of. */
int
pgn_log_current_segment(void)
{
	if (current_segment < 0)
	{
		Relation	state;
		Snapshot	snapshot;
		SysScanDesc scan;
		HeapTuple	tuple;
		int			segment = 0;

		log_state_relid = pgn_relation("log_state");
		state = table_open(log_state_relid, AccessShareLock);
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		scan = systable_beginscan(state, InvalidOid, false, snapshot, 0, NULL);
		tuple = systable_getnext(scan);
		if (HeapTupleIsValid(tuple))
		{
			bool		isnull;

			segment = DatumGetInt16(heap_getattr(tuple, 2, RelationGetDescr(state), &isnull));
		}
		systable_endscan(scan);
		UnregisterSnapshot(snapshot);
		table_close(state, AccessShareLock);
		current_segment = segment;
	}
	return current_segment;
}

/* A key nobody can guess.  Random bytes are bought by the page. */
static int64
random_key(void)
{
	static int64 keys[64];
	static int	left = 0;

	if (left == 0)
	{
		if (!pg_strong_random(keys, sizeof(keys)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random number")));
		left = lengthof(keys);
	}
	return keys[--left];
}

/* Messages on their way into the log. */
typedef struct LogAppend
{
	Message    *messages;
	TimestampTz sent_at;
	text	   *sender;			/* of those that do not say it */
	int			segment;
} LogAppend;

/* Give a message its key, and make its row. */
static HeapTuple
form_row(TupleDesc desc, int i, void *state)
{
	LogAppend  *append = state;
	Message    *message = &append->messages[i];
	Datum		values[Natts_log];
	bool		isnull[Natts_log] = {0};

	message->log_key = random_key();
	message->place.segment = append->segment;

#define SET(column, value) values[Anum_log_##column - 1] = (value)
#define SET_POINTER(column, pointer) \
	(values[Anum_log_##column - 1] = PointerGetDatum(pointer), \
	 isnull[Anum_log_##column - 1] = (pointer) == NULL)
	SET(message_id, Int64GetDatum(message->message_id));
	SET(log_key, Int64GetDatum(message->log_key));
	SET(sent_at, TimestampTzGetDatum(message->replayed_message_id == 0 ? append->sent_at : message->published_at));
	SET(sender, PointerGetDatum(message->sender ? cstring_to_text(NameStr(*message->sender)) : append->sender));
	SET_POINTER(body, message->body);
	SET_POINTER(attributes, message->attributes);
	SET_POINTER(group_id, message->group_id);
	SET_POINTER(deduplication_id, message->deduplication_id);
	SET_POINTER(topic, message->topic);
	SET_POINTER(subject, message->subject);
	SET(replayed_message_id, Int64GetDatum(message->replayed_message_id));
	isnull[Anum_log_replayed_message_id - 1] = message->replayed_message_id == 0;
#undef SET
#undef SET_POINTER
	return heap_form_tuple(desc, values, isnull);
}

/*
 * Write messages to the log.  Gives each its message_id, in order (unless it
 * has one), its log_key and its place.  The segment's lock is kept to the
 * end of the transaction: who holds AccessExclusiveLock on a segment knows that
 * nobody who appended to it is still open.
 */
void
pgn_log_append(Message *messages, int n, TimestampTz sent_at)
{
	PgnTable	table;
	ItemPointerData *places = palloc(n * sizeof(ItemPointerData));
	PgnInserted wanted = {.places = places};
	BlockNumber last = 0;
	LogAppend	append = {
		.messages = messages,
		.sent_at = sent_at
	};

	/*
	 * What sealed the segment may not have been heard of by who holds his
	 * locks already.
	 */
	AcceptInvalidationMessages();
	append.segment = pgn_log_current_segment();
	pgn_number_messages(messages, n);
	append.sender = cstring_to_text(GetUserNameFromId(GetUserId(), false));
	pgn_table_open(&table, pgn_log_segment(append.segment), RowExclusiveLock);
	pgn_table_insert_many(&table, n, form_row, &append, &wanted);
	for (int i = 0; i < n; i++)
	{
		messages[i].place.block = ItemPointerGetBlockNumber(&places[i]);
		messages[i].place.offset = ItemPointerGetOffsetNumber(&places[i]);
		last = Max(last, messages[i].place.block);
	}
	pgn_log_grow(table.rel, last);
	pgn_table_close(&table, NoLock);
	pfree(places);
}
