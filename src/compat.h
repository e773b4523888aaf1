/*
 * compat.h
 *		What differs between PostgreSQL 15 and 18, in one place.
 */
#ifndef PIGEON_COMPAT_H
#define PIGEON_COMPAT_H

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "commands/sequence.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* Is this a column that is computed when it is read, so that rows do not have it?  There are such since 18. */
static inline bool
pgn_is_virtual(Form_pg_attribute column)
{
#if PG_VERSION_NUM >= 180000
	return column->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL;
#else
	return false;
#endif
}

/* Start an index scan; since 18 the executor may pass instrumentation. */
static inline IndexScanDesc
pgn_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* Find the leaf page of a B-tree where a key belongs, lock and pin it; returns the way to it. */
static inline BTStack
pgn_bt_search(Relation heap, Relation index, BTScanInsert key, Buffer *buffer, int access)
{
#if PG_VERSION_NUM >= 170000
	return _bt_search(index, heap, key, buffer, access);
#elif PG_VERSION_NUM >= 160000
	return _bt_search(index, heap, key, buffer, access, NULL);
#else
	return _bt_search(index, key, buffer, access, NULL);
#endif
}

/* The columns that are in any index, as a set of numbers that begin at the first system column's. */
static inline Bitmapset *
pgn_indexed_columns(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	return bms_join(RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_HOT_BLOCKING),
					RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_SUMMARIZED));
#else
	return RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_ALL);
#endif
}

/* What the WAL record of a sequence says first: which one. */
static inline xl_seq_rec
pgn_sequence_record(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	return (xl_seq_rec)
	{
		.locator = rel->rd_locator
	};
#else
	return (xl_seq_rec)
	{
		.node = rel->rd_node
	};
#endif
}

/* Replace a row version; since 16 it also says what summarizing indexes need, which our tables never have. */
static inline TM_Result
pgn_heap_update(Relation rel, ItemPointer tid, HeapTuple row, CommandId cid, bool wait)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	return heap_update(rel, tid, row, cid, InvalidSnapshot, wait, &failure, &lockmode, &indexes);
#else
	return heap_update(rel, tid, row, cid, InvalidSnapshot, wait, &failure, &lockmode);
#endif
}

/* Count an update that has left the row in its page, and needs no entries in indexes. */
static inline void
pgn_count_hot_update(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	pgstat_count_heap_update(rel, true, false);
#else
	pgstat_count_heap_update(rel, true);
#endif
}

/*
 * Is no row version that was not deleted when it was found removed as long as
 * the snapshot is there that was taken before?  Until 16 snapshots can be set
 * to become too old for that.
 */
static inline bool
pgn_snapshots_keep_rows(void)
{
#if PG_VERSION_NUM < 170000
	return old_snapshot_threshold < 0;
#else
	return true;
#endif
}

/* Does the role own the database? */
static inline bool
pgn_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

/* May the role create objects in the schema? */
static inline bool
pgn_may_create_in_schema(Oid schema, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(NamespaceRelationId, schema, role, ACL_CREATE) == ACLCHECK_OK;
#else
	return pg_namespace_aclcheck(schema, role, ACL_CREATE) == ACLCHECK_OK;
#endif
}

/* This process's number, by which GetPGProcByNumber finds it. */
static inline int
pgn_my_proc_number(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/*
 * A wait event to be shown in pg_stat_activity; *event keeps it from one call
 * to the next.  Before 17 extensions cannot name theirs.
 */
static inline uint32
pgn_wait_event(uint32 *event, const char *name)
{
	if (*event == 0)
#if PG_VERSION_NUM >= 170000
		*event = WaitEventExtensionNew(name);
#else
		*event = PG_WAIT_EXTENSION;
#endif
	return *event;
}

/*
 * The time from now until then in milliseconds, as WaitLatch takes it.  Before
 * 16 the server's own function overflows if that is far away or long ago.
 */
static inline long
pgn_milliseconds_until(TimestampTz then)
{
	TimestampTz now = GetCurrentTimestamp();

	then = Min(then, now + INT_MAX * INT64CONST(1000));
	return then <= now ? 0 : (then - now + 999) / 1000;
}

/* The number of the current transaction in this backend. */
static inline LocalTransactionId
pgn_local_transaction(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProc->vxid.lxid;
#else
	return MyProc->lxid;
#endif
}

/* Does this backend hold the lock in exactly this mode? */
static inline bool
pgn_lock_held(const LOCKTAG *tag, LOCKMODE lockmode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, lockmode, false);
#else
	return LockHeldByMe(tag, lockmode);
#endif
}

#endif							/* PIGEON_COMPAT_H */
