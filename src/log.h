/*
 * log.h
 *		The message log: every body is written here once and never changed.
 */
#ifndef PIGEON_LOG_H
#define PIGEON_LOG_H

#include "access/genam.h"
#include "access/htup.h"
#include "executor/tuptable.h"
#include "storage/buf.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "message.h"

#define PGN_LOG_SEGMENTS 8		/* tables pigeon.log_0 .. pigeon.log_7 */
#define PGN_LOG_OLD PGN_LOG_SEGMENTS	/* table pigeon.log_old */

/* Columns of a log table, in order. */
enum
{
	Anum_log_message_id = 1,
	Anum_log_log_key,
	Anum_log_sent_at,
	Anum_log_sender,
	Anum_log_body,
	Anum_log_attributes,
	Anum_log_group_id,
	Anum_log_deduplication_id,
	Anum_log_topic,
	Anum_log_subject,
	Anum_log_replayed_message_id,
	Natts_log = Anum_log_replayed_message_id
};

/* A row of the log as it was read; good until the next is read. */
typedef struct LogEntry
{
	Datum		values[Natts_log];
	bool		isnull[Natts_log];
} LogEntry;

/* Reads messages; keeps the segments it used open until it is closed. */
typedef struct LogReader
{
	MemoryContext context;		/* that the reader was opened in */
	Snapshot	snapshot;		/* SnapshotAny, unless it is set to another */
	struct
	{
		Relation	rel;
		TupleTableSlot *slot;
		BlockNumber nblocks;	/* when it was opened */
		Buffer		buffer;		/* the page that was looked at last */
		HeapTupleData row;
		Relation	index;		/* NULL: nothing was looked for yet */
		IndexScanDesc scan;
		int64		last;		/* message that was asked for last */
		int64		walk_until; /* the scan goes on up to this message */
	}			segments[PGN_LOG_SEGMENTS + 1];
} LogReader;

extern void pgn_log_init(void);
extern void pgn_log_append(Message *messages, int n, TimestampTz sent_at);
extern void pgn_log_reader_open(LogReader *reader);
extern bool pgn_log_read(LogReader *reader, int64 message_id, int64 log_key, LogPlace place,
						 LogEntry *entry);
extern void pgn_log_reader_close(LogReader *reader);
extern int	pgn_log_current_segment(void);
extern Oid	pgn_log_segment(int segment);

#endif							/* PIGEON_LOG_H */
