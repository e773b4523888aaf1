/*
 * deduplication.c
 *		Recognising messages that were sent before.
 *
 * A FIFO queue has a third table, d_<id>, which remembers for a while (the
 * queue's deduplication_window) under which key each message was sent.  The
 * key is the deduplication id or, without one, the SHA-256 of the body in
 * hexadecimal, so that an id which is equal to the hash of an earlier body is
 * a duplicate of it, as in SQS.  If the queue deduplicates by message group,
 * the group is part of the key.
 *
 * What is stored is the first half of the SHA-256 of all that: rows of fixed
 * size, and nobody can find two ids that collide.
 *
 * Of two transactions that send the same key at the same time one stores the
 * message.  Each looks for the key and adds it under the key's latch, so one
 * of them comes second and finds the other's row.  It waits for the end of
 * that transaction (without the latch) and looks again: either the message is
 * there, and its message_id is the answer, or it was rolled back.
 *
 * The time counts from when a message was first accepted, and does not care
 * what became of it.  A row that has expired is as good as not there, and is
 * removed by maintenance.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "deduplication.h"
#include "message_group.h"
#include "table.h"

/* What is stored of a key. */
typedef struct Key
{
	int64		high;
	int64		low;
} Key;

/* A key and the place of its message in the batch. */
typedef struct KeyEntry
{
	Key			key;
	int			position;
} KeyEntry;

/* Columns of the table, in order. */
enum
{
	Anum_key_high = 1,
	Anum_key_low,
	Anum_key_message_id,
	Anum_key_expires_at,
	Natts_key = Anum_key_expires_at
};

static const PgnColumn key_columns[Natts_key] = {
	{"key_high", INT8OID, true},
	{"key_low", INT8OID, true},
	{"message_id", INT8OID, true},
	{"expires_at", TIMESTAMPTZOID, true},
};

static const AttrNumber key_index[] = {Anum_key_high};

/* A table of keys, open for one batch. */
typedef struct KeyTable
{
	Queue	   *queue;
	PgnTable	table;
	IndexScanDesc scan;
	TupleTableSlot *found;
	TupleTableSlot *new;
	SnapshotData dirty;
} KeyTable;

/* The statements that create the table of a queue. */
char *
pgn_deduplication_table_sql(int32 queue_id)
{
	return psprintf("CREATE TABLE pigeon.d_%d (key_high bigint NOT NULL, key_low bigint NOT NULL,"
					" message_id bigint NOT NULL, expires_at timestamptz NOT NULL);"
					"CREATE INDEX d_%d_key ON pigeon.d_%d (key_high)",
					queue_id, queue_id, queue_id);
}

/* The table of a queue. */
static Oid
key_table(const Queue *queue)
{
	char		name[NAMEDATALEN];
	Oid			relid;

	snprintf(name, sizeof(name), "d_%d", queue->id);
	relid = pgn_relation(name);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" of FIFO queue \"%s\" is missing", name, queue->name),
				 errhint("Drop the queue and create it again.")));
	return relid;
}

/* Open the table of a queue. */
static void
open_keys(KeyTable *keys, Queue *queue)
{
	TupleDesc	desc;

	keys->queue = queue;
	pgn_table_open(&keys->table, key_table(queue), RowExclusiveLock);
	pgn_table_check_columns(keys->table.rel, key_columns, Natts_key);
	desc = RelationGetDescr(keys->table.rel);
	InitDirtySnapshot(keys->dirty);
	keys->scan = pgn_index_beginscan(keys->table.rel, pgn_table_index(&keys->table, key_index, 1),
									 &keys->dirty, 1);
	keys->found = MakeSingleTupleTableSlot(desc, &TTSOpsBufferHeapTuple);
	keys->new = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
}

/* Close it. */
static void
close_keys(KeyTable *keys)
{
	index_endscan(keys->scan);
	ExecDropSingleTupleTableSlot(keys->found);
	ExecDropSingleTupleTableSlot(keys->new);
	pgn_table_close(&keys->table, NoLock);
}

/* Fail unless the table of a queue is as pigeon made it.  It stays locked as for an insert. */
void
pgn_deduplication_check(Queue *queue)
{
	KeyTable	keys;

	open_keys(&keys, queue);
	close_keys(&keys);
}

/* Would an insert into the table of a queue succeed?  It is locked as for one. */
bool
pgn_deduplication_usable(const Queue *queue)
{
	Oid			relid = pgn_relation(psprintf("d_%d", queue->id));
	PgnTable	table;
	bool		usable;

	if (!OidIsValid(relid) || !pgn_table_try_open(&table, relid, RowExclusiveLock))
		return false;
	usable = pgn_table_has_columns(table.rel, key_columns, Natts_key) &&
		pgn_table_unique_by(&table, NULL, 0) &&
		pgn_table_find_index(&table, key_index, lengthof(key_index));
	pgn_table_close(&table, NoLock);
	return usable;
}

/* SHA-256 of up to three pieces. */
static void
sha256(const uint8 *pieces[], const size_t lengths[], int n, uint8 *digest)
{
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);
	bool		ok = context != NULL && pg_cryptohash_init(context) == 0;

	for (int i = 0; ok && i < n; i++)
		ok = pg_cryptohash_update(context, pieces[i], lengths[i]) == 0;
	if (!ok || pg_cryptohash_final(context, digest, PG_SHA256_DIGEST_LENGTH) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash")));
	pg_cryptohash_free(context);
}

/* The SHA-256 of a body in hexadecimal, as a deduplication id. */
static void
content_id(const text *body, char *id)
{
	const uint8 *pieces[] = {(const uint8 *) VARDATA_ANY(body)};
	const size_t lengths[] = {VARSIZE_ANY_EXHDR(body)};
	uint8		digest[PG_SHA256_DIGEST_LENGTH];

	sha256(pieces, lengths, 1, digest);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		sprintf(id + 2 * i, "%02x", digest[i]);
}

/* The key of a message.  Ids have no blanks, so one separates the parts. */
static Key
message_key(const Queue *queue, const Message *message)
{
	const text *group = message->group_id;
	bool		by_group = queue->attributes.deduplicate_by_group;
	char		id[2 * PG_SHA256_DIGEST_LENGTH + 1];
	const uint8 *pieces[3];
	size_t		lengths[3];
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	Key			key;

	if (message->deduplication_id)
	{
		pieces[0] = (const uint8 *) VARDATA_ANY(message->deduplication_id);
		lengths[0] = VARSIZE_ANY_EXHDR(message->deduplication_id);
	}
	else
	{
		content_id(message->body, id);
		pieces[0] = (const uint8 *) id;
		lengths[0] = strlen(id);
	}
	pieces[1] = (const uint8 *) " ";
	lengths[1] = 1;
	pieces[2] = (const uint8 *) VARDATA_ANY(group);
	lengths[2] = VARSIZE_ANY_EXHDR(group);
	sha256(pieces, lengths, by_group ? 3 : 1, digest);
	memcpy(&key, digest, sizeof(key));
	return key;
}

/* What a look for a key has found. */
typedef enum Found
{
	FOUND_NOTHING,
	FOUND_MESSAGE,
	FOUND_BUSY					/* an open transaction is adding or removing
								 * it */
} Found;

/* Look for a key that has not expired. */
static Found
find_key(KeyTable *keys, const Key *key, TimestampTz now, int64 *message_id, TransactionId *holder)
{
	ScanKeyData scankey;

	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key->high));
	index_rescan(keys->scan, &scankey, 1, NULL, 0);
	while (index_getnext_slot(keys->scan, ForwardScanDirection, keys->found))
	{
		Datum	   *values = keys->found->tts_values;

		slot_getallattrs(keys->found);
		if (DatumGetInt64(values[Anum_key_low - 1]) != key->low ||
			DatumGetTimestampTz(values[Anum_key_expires_at - 1]) <= now)
			continue;
		*message_id = DatumGetInt64(values[Anum_key_message_id - 1]);
		*holder = TransactionIdIsValid(keys->dirty.xmin) ? keys->dirty.xmin : keys->dirty.xmax;
		ExecClearTuple(keys->found);
		return TransactionIdIsValid(*holder) ? FOUND_BUSY : FOUND_MESSAGE;
	}
	return FOUND_NOTHING;
}

/* Remember a key. */
static void
add_key(KeyTable *keys, const Key *key, int64 message_id, TimestampTz now)
{
	Datum		values[Natts_key] = {
		Int64GetDatum(key->high),
		Int64GetDatum(key->low),
		Int64GetDatum(message_id),
		TimestampTzGetDatum(now + keys->queue->attributes.deduplication_window)
	};
	bool		isnull[Natts_key] = {0};

	ExecStoreHeapTuple(heap_form_tuple(keys->new->tts_tupleDescriptor, values, isnull),
					   keys->new, true);
	pgn_table_insert(&keys->table, keys->new);
}

/*
 * The message_id of the message that a key was sent with before; if there is
 * none, remember the key for "message_id" and return that.  Waits for a
 * transaction that is sending the same key.
 */
static int64
accept_key(KeyTable *keys, const Key *key, int64 message_id, TimestampTz now)
{
	for (;;)
	{
		int64		earlier;
		TransactionId holder;
		Found		found;

		pgn_deduplication_latch(keys->queue, key->high);
		found = find_key(keys, key, now, &earlier, &holder);
		if (found == FOUND_NOTHING)
			add_key(keys, key, message_id, now);
		pgn_deduplication_unlatch(keys->queue, key->high);
		if (found == FOUND_NOTHING)
			return message_id;
		if (found == FOUND_MESSAGE)
			return earlier;
		XactLockTableWait(holder, keys->table.rel, NULL, XLTW_None);
	}
}

/* Order of keys; of equal ones the first in the batch comes first. */
static int
compare_keys(const void *a, const void *b)
{
	const KeyEntry *x = a;
	const KeyEntry *y = b;

	if (x->key.high != y->key.high)
		return x->key.high < y->key.high ? -1 : 1;
	if (x->key.low != y->key.low)
		return x->key.low < y->key.low ? -1 : 1;
	return x->position < y->position ? -1 : 1;
}

/*
 * Give each message its message_id: a new one (unless it has one), or that of
 * the message that it repeats, which may be one of the same batch.  Copies those that are not
 * duplicates to "fresh", in order, and returns how many they are.
 */
int
pgn_deduplicate(Queue *queue, Message *messages, int n, TimestampTz now, Message *fresh)
{
	Oid			sequence = pgn_relation("message_id_seq");
	KeyEntry   *entries = palloc(n * sizeof(KeyEntry));
	int64	   *new_ids = palloc(n * sizeof(int64));
	int			nfresh = 0;
	KeyTable	keys;

	for (int i = 0; i < n; i++)
	{
		entries[i].key = message_key(queue, &messages[i]);
		entries[i].position = i;
		new_ids[i] = messages[i].message_id;
		if (new_ids[i] == 0)
			new_ids[i] = nextval_internal(sequence, false);
	}
	qsort(entries, n, sizeof(KeyEntry), compare_keys);

	open_keys(&keys, queue);
	for (int i = 0; i < n; i++)
	{
		int			position = entries[i].position;

		CHECK_FOR_INTERRUPTS();
		messages[position].message_id = accept_key(&keys, &entries[i].key, new_ids[position], now);
	}
	close_keys(&keys);

	for (int i = 0; i < n; i++)
		if (messages[i].message_id == new_ids[i])
			fresh[nfresh++] = messages[i];
	pfree(entries);
	pfree(new_ids);
	return nfresh;
}

/* Forget the keys that have expired.  Never waits. */
void
pgn_deduplication_expire(Queue *queue, TimestampTz now)
{
	PgnTable	table;
	TableScanDesc scan;
	Snapshot	snapshot;
	HeapTuple	tuple;

	pgn_table_open(&table, key_table(queue), RowExclusiveLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(table.rel, snapshot, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Datum		expires_at = heap_getattr(tuple, Anum_key_expires_at,
											  RelationGetDescr(table.rel), &isnull);

		CHECK_FOR_INTERRUPTS();
		if (DatumGetTimestampTz(expires_at) <= now)
			(void) pgn_table_delete(&table, &tuple->t_self, false);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	pgn_table_close(&table, NoLock);
}
