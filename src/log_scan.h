/*
 * log_scan.h
 *		Looking through a segment of the message log, which has no index.
 */
#ifndef PIGEON_LOG_SCAN_H
#define PIGEON_LOG_SCAN_H

#include "utils/rel.h"
#include "utils/snapshot.h"

#include "message.h"

/* A row of a segment. */
typedef struct LogRow
{
	int64		message_id;
	int64		log_key;
	BlockNumber block;
	OffsetNumber offset;
} LogRow;

/* Searches in a segment. */
typedef struct LogSearch
{
	Relation	rel;
	BlockNumber nblocks;		/* that are searched; invalid: no search yet */
	Snapshot	snapshot;		/* that must show the row */
	int64		pages;			/* looked at by all searches so far */
	LogRow	   *rows;			/* all there are, in order; NULL: not read yet */
	int64		nrows;
	int64		size;
} LogSearch;

extern void pgn_log_search_begin(LogSearch *search, Relation rel, Snapshot snapshot);
extern bool pgn_log_search(LogSearch *search, int64 message_id, int64 log_key, LogPlace *place);
extern void pgn_log_range(Relation rel, int64 *first, int64 *last);

#endif							/* PIGEON_LOG_SCAN_H */
