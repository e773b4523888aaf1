/*
 * delivery_row.c
 *		Deliveries as rows: what they say, and how they are stored.
 *
 * Each message leaves two versions of its row, which stay for as long as some
 * snapshot keeps vacuum from removing them.  So a row ends before the first
 * column from which on there is nothing to say: the version that is sent mostly
 * has 9 columns, the one that is received 12 or 13, of 18.  To PostgreSQL it is
 * like a row from before these columns were added: they are null.  A column that
 * is null, wherever the row came from, means
 *
 *		visible_at				due_at
 *		first_received_at		received_at
 *		queue_receive_count		receive_count
 *		received_at				PGN_NEVER
 *		all others				0
 *
 * and in memory no column is null.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "catalog/pg_type.h"

#include "delivery_row.h"

const PgnColumn pgn_delivery_columns[Natts_delivery] = {
	{"message_id", INT8OID, true},
	{"log_key", INT8OID, true},
	{"enqueued_at", TIMESTAMPTZOID, true},
	{"home", INT4OID, true},
	{"log_block", INT4OID, true},
	{"segment", INT2OID, true},
	{"log_offset", INT2OID, true},
	{"lane", INT2OID, true},
	{"due_at", TIMESTAMPTZOID, true},
	{"received_at", TIMESTAMPTZOID, false},
	{"lease", INT4OID, false},
	{"receive_count", INT4OID, false},
	{"visible_at", TIMESTAMPTZOID, false},
	{"group_key", INT8OID, false},
	{"subscription", INT4OID, false},
	{"source", INT4OID, false},
	{"first_received_at", TIMESTAMPTZOID, false},
	{"queue_receive_count", INT4OID, false},
};

/* Where a row ends that has the columns up to this one. */
#define END_OF(column) (offsetof(Delivery, column) + sizeof(((Delivery *) 0)->column))

static const size_t column_ends[Natts_delivery] = {
	END_OF(message_id),
	END_OF(log_key),
	END_OF(enqueued_at),
	END_OF(home),
	END_OF(log_block),
	END_OF(segment),
	END_OF(log_offset),
	END_OF(lane),
	END_OF(due_at),
	END_OF(received_at),
	END_OF(lease),
	END_OF(receive_count),
	END_OF(visible_at),
	END_OF(group_key),
	END_OF(subscription),
	END_OF(source),
	END_OF(first_received_at),
	END_OF(queue_receive_count),
};

/* How many columns of the row have something to say. */
static int
columns_needed(const Delivery *row)
{
	if (row->first_received_at != row->received_at || row->queue_receive_count != row->receive_count)
		return Anum_delivery_queue_receive_count;
	if (row->source != 0 || row->subscription != 0)
		return Anum_delivery_source;
	if (row->group_key != 0)
		return Anum_delivery_group_key;
	if (row->visible_at != row->due_at)
		return Anum_delivery_visible_at;
	if (row->received_at != PGN_NEVER || row->lease != PGN_NO_LEASE || row->receive_count != 0)
		return Anum_delivery_receive_count;
	return Anum_delivery_due_at;
}

/* A delivery as the table has it. */
HeapTuple
pgn_delivery_form_row(const Delivery *row)
{
	int			natts = columns_needed(row);
	int			hoff = MAXALIGN(SizeofHeapTupleHeader);
	size_t		size = column_ends[natts - 1];
	HeapTuple	tuple = palloc0(HEAPTUPLESIZE + hoff + size);

	tuple->t_len = hoff + size;
	tuple->t_data = (HeapTupleHeader) ((char *) tuple + HEAPTUPLESIZE);
	ItemPointerSetInvalid(&tuple->t_self);
	ItemPointerSetInvalid(&tuple->t_data->t_ctid);
	tuple->t_data->t_hoff = hoff;
	HeapTupleHeaderSetNatts(tuple->t_data, natts);
	memcpy(GETSTRUCT(tuple), row, size);
	return tuple;
}

/* The same for one of an array. */
HeapTuple
pgn_delivery_form_row_of_array(TupleDesc desc, int i, void *rows)
{
	return pgn_delivery_form_row((Delivery *) rows + i);
}

/* The length of the row of a delivery. */
Size
pgn_delivery_row_length(const Delivery *row)
{
	return MAXALIGN(SizeofHeapTupleHeader) + column_ends[columns_needed(row) - 1];
}

/* Has the delivery in a row never been received, nor is it being changed? */
bool
pgn_delivery_row_is_waiting(HeapTupleHeader row)
{
	if (!(row->t_infomask & HEAP_XMAX_INVALID))
		return false;
	return (row->t_infomask & HEAP_HASNULL) || HeapTupleHeaderGetNatts(row) < Anum_delivery_received_at ||
		((Delivery *) ((char *) row + row->t_hoff))->received_at == PGN_NEVER;
}

/* What the version that a receive makes of a row of this length takes of a page. */
Size
pgn_delivery_lease_size(Size length)
{
	Size		least = MAXALIGN(SizeofHeapTupleHeader) + column_ends[Anum_delivery_visible_at - 1];

	return MAXALIGN(Max(length, least)) + sizeof(ItemIdData);
}

/* Complain about a row that no version of pigeon has written. */
void
pgn_bad_row(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("unexpected row in table \"%s\"", RelationGetRelationName(rel)),
			 errhint("Do not write to the table other than by functions of pigeon.")));
}

/* Read a row that has nulls: one that was written by other means than ours. */
static void
read_columns(Relation rel, HeapTuple tuple, Delivery *row, bool *isnull)
{
	Datum		values[Natts_delivery];

	heap_deform_tuple(tuple, RelationGetDescr(rel), values, isnull);
	for (int i = 0; i < Natts_delivery; i++)
	{
		int			size = TupleDescAttr(RelationGetDescr(rel), i)->attlen;

		if (!isnull[i])
			store_att_byval((char *) row + column_ends[i] - size, values[i], size);
		else if (pgn_delivery_columns[i].not_null)
			pgn_bad_row(rel);
	}
}

/* Read a row of a queue's table. */
void
pgn_delivery_read_row(Relation rel, HeapTuple tuple, Delivery *row)
{
	static const Delivery blank = {.received_at = PGN_NEVER};
	int			natts = HeapTupleHeaderGetNatts(tuple->t_data);
	bool		has_visible = natts >= Anum_delivery_visible_at;
	bool		has_first = natts >= Anum_delivery_first_received_at;
	bool		has_count = natts >= Anum_delivery_queue_receive_count;

	*row = blank;
	if (HeapTupleHasNulls(tuple))
	{
		bool		isnull[Natts_delivery];

		read_columns(rel, tuple, row, isnull);
		has_visible = !isnull[Anum_delivery_visible_at - 1];
		has_first = !isnull[Anum_delivery_first_received_at - 1];
		has_count = !isnull[Anum_delivery_queue_receive_count - 1];
	}
	else if (natts < Anum_delivery_due_at || natts > Natts_delivery ||
			 tuple->t_len < tuple->t_data->t_hoff + column_ends[natts - 1])
		pgn_bad_row(rel);
	else
		memcpy(row, GETSTRUCT(tuple), column_ends[natts - 1]);
	if (!has_visible || row->visible_at < row->due_at)
		row->visible_at = row->due_at;
	if (!has_first)
		row->first_received_at = row->received_at;
	if (!has_count)
		row->queue_receive_count = row->receive_count;
}
