/*
 * log_scan.h
 *		Looking through a segment of the message log, which has no index.
 */
#ifndef PIGEON_LOG_SCAN_H
#define PIGEON_LOG_SCAN_H

#include "utils/rel.h"
#include "utils/snapshot.h"

#include "message.h"

/* What is searched for, and where. */
typedef struct LogSearch
{
	Relation	rel;
	BlockNumber nblocks;		/* of the segment */
	Snapshot	snapshot;		/* that must show the row */
	int64		message_id;
	int64		log_key;
} LogSearch;

extern bool pgn_log_search(const LogSearch *search, LogPlace *place);
extern void pgn_log_range(Relation rel, int64 *first, int64 *last);

#endif							/* PIGEON_LOG_SCAN_H */
