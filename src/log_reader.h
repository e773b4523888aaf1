/*
 * log_reader.h
 *		Reading messages from the log.
 */
#ifndef PIGEON_LOG_READER_H
#define PIGEON_LOG_READER_H

#include "access/genam.h"
#include "access/htup.h"
#include "executor/tuptable.h"
#include "storage/buf.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "log.h"
#include "log_scan.h"

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
		Relation	rel;		/* NULL: not open */
		TupleTableSlot *slot;
		LogSearch	search;
		Buffer		buffer;		/* the page that was looked at last */
		HeapTupleData row;
	}			segments[PGN_LOG_SEGMENTS + 1];
	Relation	old_index;		/* of the old generation; NULL: not open */
	IndexScanDesc old_scan;
} LogReader;

extern void pgn_log_reader_open(LogReader *reader);
extern bool pgn_log_read(LogReader *reader, int64 message_id, int64 log_key, LogPlace place,
						 LogEntry *entry);
extern void pgn_log_reader_close(LogReader *reader);

#endif							/* PIGEON_LOG_READER_H */
