/*
 * references.c
 *		Which messages of the log do deliveries refer to?
 *
 * The tables of deliveries belong to users, who can do to them what PostgreSQL
 * lets an owner do, and none of that may stop the maintenance of the log that
 * all share.  So of a table no more is used here than is needed: the columns
 * that name the message and its segment.  Triggers and other columns do not
 * matter; if the primary key is gone the whole table is read.
 *
 * A table that cannot be looked at may hold references to anything.  Then
 * nothing can be said, and an administrator is told which table it is, once
 * in each run of maintenance.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "delivery.h"
#include "owner.h"
#include "references.h"

/* Has this run of maintenance told of a table that is in its way? */
static bool told = false;

/* A run of maintenance begins. */
void
pgn_references_begin_run(void)
{
	told = false;
}

/* Tell why the log cannot be maintained, once in a run; false. */
static bool
in_the_way(const char *table, const char *why, const char *hint)
{
	if (!told)
		ereport(MyBackendType == B_BG_WORKER ? LOG : WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"pigeon.%s\" keeps the message log from being cleaned", table),
				 errdetail("%s", why),
				 hint ? errhint("%s", hint) : 0));
	told = true;
	return false;
}

/*
 * Are all tables of deliveries registered and loaded?  Not so while a dump is
 * being restored: then there are tables that are not in the registry yet, or
 * have no index yet, and deliveries to come.
 */
bool
pgn_references_complete(void)
{
	Datum		row[2];
	bool		isnull[2];

	if (!pgn_owner_row("SELECT relname, relhasindex FROM pg_class c"
					   " WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'r' AND relname ~ '^q_[0-9]+$'"
					   " AND (NOT relhasindex OR NOT EXISTS"
					   " (SELECT FROM pigeon.queue q WHERE 'q_' || q.id = c.relname)) LIMIT 1",
					   0, NULL, NULL, 2, row, isnull))
		return true;
	return in_the_way(NameStr(*DatumGetName(row[0])),
					  DatumGetBool(row[1]) ? "It is named as a queue's table, but there is no such queue." :
					  "It has no index, as while a dump is being restored.",
					  DatumGetBool(row[1]) ? "Unless a dump is being restored, drop or rename it." :
					  "Unless a dump is being restored, create its primary key again.");
}

/*
 * Was the table created or truncated after the snapshot was taken?  What a
 * truncation removes, no snapshot shows.
 */
static bool
rewritten_since(Oid relid, Snapshot snapshot)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	TransactionId xmin;

	if (!HeapTupleIsValid(tuple))
		return true;
	xmin = HeapTupleHeaderGetXmin(tuple->t_data);
	ReleaseSysCache(tuple);
	return !TransactionIdIsCurrentTransactionId(xmin) && XidInMVCCSnapshot(xmin, snapshot);
}

/* Has the table a column of this type in this place? */
static bool
has_column(Relation rel, AttrNumber attnum, Oid type)
{
	TupleDesc	desc = RelationGetDescr(rel);

	return desc->natts >= attnum && !TupleDescAttr(desc, attnum - 1)->attisdropped &&
		TupleDescAttr(desc, attnum - 1)->atttypid == type;
}

/*
 * Find the primary key, and lock it, if it is good for finding messages in any
 * snapshot; InvalidOid if not.  False if somebody else has locked it.
 */
static bool
lock_message_index(Relation rel, Oid *oid)
{
	Relation	index;
	bool		usable;

	list_free(RelationGetIndexList(rel));
	*oid = rel->rd_pkindex;
	if (!OidIsValid(*oid))
		return true;
	if (!ConditionalLockRelationOid(*oid, AccessShareLock))
		return false;
	index = index_open(*oid, NoLock);
	usable = index->rd_index->indisvalid && !index->rd_index->indcheckxmin &&
		index->rd_index->indkey.values[0] == Anum_delivery_message_id;
	index_close(index, usable ? NoLock : AccessShareLock);
	if (!usable)
		*oid = InvalidOid;
	return true;
}

/* Find references in an open table; false if that cannot be done, or the callback ended the search. */
static bool
scan_table(Relation rel, Snapshot snapshot, int64 from_id, int64 to_id, int segment,
		   PgnReferenceCallback callback, void *arg)
{
	Oid			index;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		more = true;

	if (!lock_message_index(rel, &index))
		return in_the_way(RelationGetRelationName(rel), "Somebody has locked its primary key exclusively.", NULL);
	ScanKeyInit(&keys[0], Anum_delivery_message_id, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from_id));
	ScanKeyInit(&keys[1], Anum_delivery_message_id, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(to_id));
	scan = systable_beginscan(rel, index, OidIsValid(index), snapshot, 2, keys);
	while (more && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		in_segment = heap_getattr(tuple, Anum_delivery_segment, RelationGetDescr(rel), &isnull);

		CHECK_FOR_INTERRUPTS();
		if (segment < 0 || isnull || DatumGetInt16(in_segment) == segment)
			more = callback(DatumGetInt64(heap_getattr(tuple, Anum_delivery_message_id,
													   RelationGetDescr(rel), &isnull)), arg);
	}
	systable_endscan(scan);
	if (OidIsValid(index))
		UnlockRelationOid(index, AccessShareLock);
	return more;
}

/* Find references in the table of a queue; false if it cannot be looked at, or that ended the search. */
static bool
search_queue(int32 queue_id, Snapshot snapshot, int64 from_id, int64 to_id, int segment,
			 PgnReferenceCallback callback, void *arg)
{
	char	   *name = psprintf("q_%d", queue_id);
	Oid			relid = pgn_relation(name);
	Relation	rel;
	bool		done;

	/*
	 * Dropped since the snapshot was taken, so deliveries may have moved
	 * before.
	 */
	if (!OidIsValid(relid))
		return in_the_way(name, "It does not exist any more.", NULL);
	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return in_the_way(name, "Somebody has locked it exclusively.", NULL);
	if (rewritten_since(relid, snapshot))
	{
		UnlockRelationOid(relid, AccessShareLock);
		return false;
	}
	rel = table_open(relid, NoLock);
	if (rel->rd_rel->relkind != RELKIND_RELATION || rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		!has_column(rel, Anum_delivery_message_id, INT8OID) ||
		!has_column(rel, Anum_delivery_segment, INT2OID))
		done = in_the_way(name, "Its columns are not those of a queue's table.",
						  "Undo the change that was made to the table, or drop the queue.");
	else
		done = scan_table(rel, snapshot, from_id, to_id, segment, callback, arg);
	table_close(rel, AccessShareLock);
	return done;
}

/*
 * Call back for each delivery in the snapshot that refers to a message in a
 * range of ids, only to those written to "segment" if that is not negative.
 * False if a queue could not be looked at, or the callback ended the search.
 */
bool
pgn_references_find(Snapshot snapshot, int64 from_id, int64 to_id, int segment,
					PgnReferenceCallback callback, void *arg)
{
	int			n;
	int32	   *queues = pgn_queue_ids(snapshot, &n);
	bool		done = true;

	for (int i = 0; done && i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		done = search_queue(queues[i], snapshot, from_id, to_id, segment, callback, arg);
	}
	pfree(queues);
	return done;
}
