/*
 * deduplication.c
 *		Recognising messages that were sent before.
 *
 * A FIFO queue has a third table, d_<id>, which remembers for a while (the
 * queue's deduplication_window) under which key each message was sent.  The
 * key is the deduplication id; a message sent without one gets the SHA-256 of its
 * body in hexadecimal, so that an id which is equal to the hash of an earlier
 * body is a duplicate of it, as in SQS.  If the queue deduplicates by message group,
 * the group is part of the key.
 *
 * What is stored is the first half of the SHA-256 of all that: rows of fixed
 * size, and nobody can find two ids that collide.
 *
 * A sender first adds its row, and the index says in the same step whether
 * there is another one with the key.  Nearly always there is none: the
 * message is new, at the cost of one insertion.  Otherwise the sender takes
 * the key's latch and looks at the others.  If they have all expired, the
 * message is new.  If not, the sender withdraws its row; then either a message
 * is there, and its message_id is the answer, or the sender waits for the
 * transaction that is adding (or removing) one, without the latch, and starts
 * again.
 *
 * So of two transactions that send a key at the same time only one stores the
 * message.  Say that both did.  If both were told by the index that they are
 * alone, the second was told so with the first one's row in the index.  If
 * one was told so and the other has looked, that one looked with its own row
 * in the index, and whichever came second saw the other's.  If both have
 * looked, the latch made them do so one after the other.
 *
 * Nor do they wait for each other.  A row is withdrawn in the same hold of the
 * latch that found another one, and a row that was withdrawn is passed over:
 * inserted and deleted by one (sub)transaction, it is dead whatever becomes of
 * that.  So if A waits for B, then B's row was there during A's last look;
 * B either has the key, or will look later than that.  There can be no circle
 * in which each looked later than the one before.  Keys of a batch are taken
 * in order, and the index entry of a key is not made before those of
 * the smaller keys are decided.
 *
 * The index is not a unique one, since rows that have expired stay until
 * maintenance removes them.  The time counts from when a message was first
 * accepted, and does not care what became of it.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "deduplication.h"
#include "message_group.h"
#include "message_id.h"
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

/* Rows of one multi-insert. */
#define INSERT_CHUNK 1000

/* A table of keys, open for one batch. */
typedef struct KeyTable
{
	Queue	   *queue;
	PgnTable	table;
	Relation	index;
	TimestampTz now;
} KeyTable;

/* The statements that create the table of a queue.  It has no key; for logical replication the whole row is one. */
char *
pgn_deduplication_table_sql(int32 queue_id)
{
	return psprintf("CREATE TABLE pigeon.d_%d (key_high bigint NOT NULL, key_low bigint NOT NULL,"
					" message_id bigint NOT NULL, expires_at timestamptz NOT NULL) USING heap;"
					"CREATE INDEX d_%d_key ON pigeon.d_%d (key_high) WITH (deduplicate_items = off);"
					"ALTER TABLE pigeon.d_%d REPLICA IDENTITY FULL",
					queue_id, queue_id, queue_id, queue_id);
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

/* Open the table of a queue; fails if it is not as it should be. */
static void
open_table(PgnTable *table, const Queue *queue, LOCKMODE lockmode)
{
	pgn_table_open(table, key_table(queue), lockmode);
	pgn_table_check_columns(table->rel, key_columns, Natts_key);
}

/* Lock the table of a queue to the end of the transaction; false if that has to wait, or it is not as it should be. */
bool
pgn_deduplication_lock_now(const Queue *queue, LOCKMODE lockmode)
{
	Oid			relid = pgn_relation(psprintf("d_%d", queue->id));
	PgnTable	table;
	bool		usable;

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, lockmode))
		return false;
	usable = pgn_table_try_open(&table, relid, lockmode);
	if (usable)
	{
		usable = pgn_table_has_columns(table.rel, key_columns, Natts_key);
		pgn_table_close(&table, lockmode);
	}
	if (!usable)
		UnlockRelationOid(relid, lockmode);
	return usable;
}

/* Undo that. */
void
pgn_deduplication_unlock(const Queue *queue, LOCKMODE lockmode)
{
	UnlockRelationOid(key_table(queue), lockmode);
}

/* Prepare for accepting keys. */
static void
open_keys(KeyTable *keys, Queue *queue, TimestampTz now)
{
	keys->queue = queue;
	keys->now = now;
	open_table(&keys->table, queue, RowExclusiveLock);
	keys->index = pgn_table_index(&keys->table, key_index, 1);
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
sha256(pg_cryptohash_ctx *context, const uint8 *pieces[], const size_t lengths[], int n, uint8 *digest)
{
	bool		ok = context != NULL && pg_cryptohash_init(context) == 0;

	for (int i = 0; ok && i < n; i++)
		ok = pg_cryptohash_update(context, pieces[i], lengths[i]) == 0;
	if (!ok || pg_cryptohash_final(context, digest, PG_SHA256_DIGEST_LENGTH) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 hash")));
}

/* The SHA-256 of a body in hexadecimal, as a deduplication id. */
static text *
content_id(pg_cryptohash_ctx *context, const text *body)
{
	const uint8 *pieces[] = {(const uint8 *) VARDATA_ANY(body)};
	const size_t lengths[] = {VARSIZE_ANY_EXHDR(body)};
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	char		id[2 * PG_SHA256_DIGEST_LENGTH + 1];

	sha256(context, pieces, lengths, 1, digest);
	for (int i = 0; i < PG_SHA256_DIGEST_LENGTH; i++)
		sprintf(id + 2 * i, "%02x", digest[i]);
	return cstring_to_text(id);
}

/* The key of a message.  Ids have no blanks, so one separates the parts. */
static Key
message_key(pg_cryptohash_ctx *context, const Queue *queue, const Message *message)
{
	const text *id = message->deduplication_id;
	const text *group = message->group_id;
	const uint8 *pieces[] = {
		(const uint8 *) VARDATA_ANY(id), (const uint8 *) " ", (const uint8 *) VARDATA_ANY(group)
	};
	const size_t lengths[] = {VARSIZE_ANY_EXHDR(id), 1, VARSIZE_ANY_EXHDR(group)};
	uint8		digest[PG_SHA256_DIGEST_LENGTH];
	Key			key;

	sha256(context, pieces, lengths, queue->attributes.deduplicate_by_group ? 3 : 1, digest);
	memcpy(&key, digest, sizeof(key));
	return key;
}

/* What a look for other rows of a key has found. */
typedef enum Found
{
	FOUND_NOTHING,
	FOUND_MESSAGE,
	FOUND_BUSY					/* an open transaction is adding or removing
								 * it */
} Found;

/* Was a row inserted and deleted by one and the same (sub)transaction? */
static bool
is_withdrawn(TupleTableSlot *slot)
{
	bool		should_free;
	HeapTupleHeader header = ExecFetchSlotHeapTuple(slot, false, &should_free)->t_data;

	return !(header->t_infomask & (HEAP_XMAX_INVALID | HEAP_XMAX_IS_MULTI)) &&
		!HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
		TransactionIdEquals(HeapTupleHeaderGetRawXmin(header), HeapTupleHeaderGetRawXmax(header));
}

/* Look for a row of a key, but the one at "own", that has not expired.  The caller has the key's latch. */
static Found
find_other(KeyTable *keys, const Key *key, ItemPointer own, int64 *message_id, TransactionId *holder)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(keys->table.rel),
													&TTSOpsBufferHeapTuple);
	SnapshotData dirty;
	IndexScanDesc scan;
	ScanKeyData scankey;
	Found		found = FOUND_NOTHING;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key->high));
	scan = pgn_index_beginscan(keys->table.rel, keys->index, &dirty, 1);
	index_rescan(scan, &scankey, 1, NULL, 0);
	while (found != FOUND_MESSAGE && index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		Datum	   *values = slot->tts_values;
		bool		busy = TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax);

		slot_getallattrs(slot);
		if (DatumGetInt64(values[Anum_key_low - 1]) != key->low ||
			DatumGetTimestampTz(values[Anum_key_expires_at - 1]) <= keys->now ||
			ItemPointerEquals(&slot->tts_tid, own) || (busy && is_withdrawn(slot)))
			continue;
		found = busy ? FOUND_BUSY : FOUND_MESSAGE;
		*message_id = DatumGetInt64(values[Anum_key_message_id - 1]);
		if (busy)
			*holder = TransactionIdIsValid(dirty.xmin) ? dirty.xmin : dirty.xmax;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

/* Take back a row that this command has inserted. */
static void
withdraw(KeyTable *keys, TupleTableSlot *row)
{
	/* What this command has written can change only as a new one. */
	CommandCounterIncrement();
	if (pgn_table_delete(&keys->table, &row->tts_tid, false) != TM_Ok)
		elog(ERROR, "could not delete a row of table \"%s\"", RelationGetRelationName(keys->table.rel));
}

/*
 * The message_id of the message that a key was sent with before; if there is
 * none, remember the key for "message_id" and return that.  "row" is the key's,
 * inserted, but without index entries.  Waits for a transaction that is sending
 * the same key.
 */
static int64
accept_key(KeyTable *keys, const Key *key, TupleTableSlot *row, int64 message_id)
{
	while (!pgn_table_insert_entries(&keys->table, row, keys->index))
	{
		int64		earlier;
		TransactionId holder;
		Found		found;

		pgn_deduplication_latch(keys->queue, key->high);
		found = find_other(keys, key, &row->tts_tid, &earlier, &holder);
		if (found != FOUND_NOTHING)
			withdraw(keys, row);
		pgn_deduplication_unlatch(keys->queue, key->high);
		if (found == FOUND_NOTHING)
			break;
		if (found == FOUND_MESSAGE)
			return earlier;
		XactLockTableWait(holder, keys->table.rel, NULL, XLTW_None);
		pgn_table_insert_rows(&keys->table, &row, 1);
	}
	return message_id;
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

/* Are the keys of two messages the same? */
static bool
same_key(const KeyEntry *a, const KeyEntry *b)
{
	return a->key.high == b->key.high && a->key.low == b->key.low;
}

/* The keys of messages, in order.  Gives those a deduplication id that have none. */
static KeyEntry *
sorted_keys(const Queue *queue, Message *messages, int n)
{
	KeyEntry   *entries = palloc(n * sizeof(KeyEntry));
	pg_cryptohash_ctx *context = pg_cryptohash_create(PG_SHA256);

	for (int i = 0; i < n; i++)
	{
		if (messages[i].deduplication_id == NULL)
			messages[i].deduplication_id = content_id(context, messages[i].body);
		entries[i].key = message_key(context, queue, &messages[i]);
		entries[i].position = i;
	}
	pg_cryptohash_free(context);
	qsort(entries, n, sizeof(KeyEntry), compare_keys);
	return entries;
}

/* Put the row of a key into a slot. */
static void
store_row(const KeyTable *keys, const Key *key, int64 message_id, TupleTableSlot *slot)
{
	Datum		values[Natts_key] = {
		Int64GetDatum(key->high),
		Int64GetDatum(key->low),
		Int64GetDatum(message_id),
		TimestampTzGetDatum(keys->now + keys->queue->attributes.deduplication_window)
	};
	bool		isnull[Natts_key] = {0};

	ExecStoreHeapTuple(heap_form_tuple(slot->tts_tupleDescriptor, values, isnull), slot, true);
}

/*
 * Accept some different keys, in order.  Each message is given the message_id
 * that holds for it instead of its own.
 */
static void
accept_keys(KeyTable *keys, const KeyEntry *entries, int n, Message *messages, TupleTableSlot **slots)
{
	for (int i = 0; i < n; i++)
		store_row(keys, &entries[i].key, messages[entries[i].position].message_id, slots[i]);
	pgn_table_insert_rows(&keys->table, slots, n);
	for (int i = 0; i < n; i++)
	{
		Message    *message = &messages[entries[i].position];

		CHECK_FOR_INTERRUPTS();
		message->message_id = accept_key(keys, &entries[i].key, slots[i], message->message_id);
	}
}

/* Accept different keys, in order. */
static void
accept_all(Queue *queue, const KeyEntry *entries, int n, Message *messages, TimestampTz now)
{
	int			nslots = Min(n, INSERT_CHUNK);
	TupleTableSlot **slots = palloc(nslots * sizeof(TupleTableSlot *));
	KeyTable	keys;

	open_keys(&keys, queue, now);
	for (int i = 0; i < nslots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(keys.table.rel), &TTSOpsHeapTuple);
	for (int done = 0; done < n; done += nslots)
		accept_keys(&keys, &entries[done], Min(n - done, nslots), messages, slots);
	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	pfree(slots);
	pgn_table_close(&keys.table, NoLock);
}

/*
 * Give each message its message_id: a new one (unless it has one), or that of
 * the message that it repeats, which may be one of the same batch.  Copies those that are not
 * duplicates to "fresh", in order, and returns how many they are.
 */
int
pgn_deduplicate(Queue *queue, Message *messages, int n, TimestampTz now, Message *fresh)
{
	KeyEntry   *entries = sorted_keys(queue, messages, n);
	KeyEntry   *distinct = palloc(n * sizeof(KeyEntry));
	int64	   *new_ids = palloc(n * sizeof(int64));
	int			ndistinct = 0,
				nfresh = 0;

	pgn_number_messages(messages, n);
	for (int i = 0; i < n; i++)
		new_ids[i] = messages[i].message_id;
	for (int i = 0; i < n; i++)
		if (i == 0 || !same_key(&entries[i - 1], &entries[i]))
			distinct[ndistinct++] = entries[i];
	accept_all(queue, distinct, ndistinct, messages, now);
	for (int i = 1; i < n; i++)
		if (same_key(&entries[i - 1], &entries[i]))
			messages[entries[i].position].message_id = messages[entries[i - 1].position].message_id;

	for (int i = 0; i < n; i++)
		if (messages[i].message_id == new_ids[i])
			fresh[nfresh++] = messages[i];
	pfree(entries);
	pfree(distinct);
	pfree(new_ids);
	return nfresh;
}

/* Forget the keys that have expired, on some of the table's pages. */
static void
expire_on_pages(PgnTable *table, BlockNumber first, BlockNumber n, TimestampTz now)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan_strat(table->rel, snapshot, 0, NULL, true, false);
	HeapTuple	tuple;

	heap_setscanlimits(scan, first, n);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;
		Datum		expires_at = heap_getattr(tuple, Anum_key_expires_at,
											  RelationGetDescr(table->rel), &isnull);

		CHECK_FOR_INTERRUPTS();
		if (DatumGetTimestampTz(expires_at) <= now)
			(void) pgn_table_delete(table, &tuple->t_self, false);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/*
 * Forget the keys that have expired, from a page of the table on.  Looks at no
 * more pages than "most", and returns the one to go on with, 0 after the last.
 * Never waits.
 */
BlockNumber
pgn_deduplication_expire(Queue *queue, TimestampTz now, BlockNumber first, BlockNumber most)
{
	PgnTable	table;
	BlockNumber pages,
				n;

	open_table(&table, queue, RowExclusiveLock);
	pages = RelationGetNumberOfBlocks(table.rel);
	n = first < pages ? Min(pages - first, most) : 0;
	if (n > 0)
		expire_on_pages(&table, first, n, now);
	pgn_table_close(&table, NoLock);
	return first + n < pages ? first + n : 0;
}
