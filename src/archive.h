/*
 * archive.h
 *		The archive of a topic: what was published, for a time.
 */
#ifndef PIGEON_ARCHIVE_H
#define PIGEON_ARCHIVE_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "message.h"
#include "table.h"
#include "topic.h"

#define PGN_ARCHIVE_SEGMENTS 8	/* tables pigeon.t_<id>_0 .. pigeon.t_<id>_7 */

/* Columns of a topic's view and of its archive's segments, in order. */
enum
{
	Anum_archive_body = 1,
	Anum_archive_subject,
	Anum_archive_attributes,
	Anum_archive_group_id,
	Anum_archive_deduplication_id,
	Anum_archive_message_id,	/* from here on given by the topic */
	Anum_archive_published_at,
	Anum_archive_publisher,
	Natts_archive = Anum_archive_publisher
};

extern char *pgn_topic_view_sql(int32 topic_id, bool archived);
extern char *pgn_archive_create_sql(int32 topic_id);
extern char *pgn_archive_owner_sql(int32 topic_id, const char *owner);
extern char *pgn_archive_drop_sql(int32 topic_id);
extern void pgn_archive_check_view(Relation view);
extern TimestampTz pgn_archive_maintain(Topic *topic, TimestampTz now);
extern void pgn_archive_append(const Topic *topic, const Message *messages, int n, TimestampTz now);


/* A walk over an archive in the order of publication. */
typedef struct ArchiveScan
{
	int			next;			/* the segment whose row comes next, -1: none */
	struct
	{
		PgnTable	table;
		IndexScanDesc scan;
		TupleTableSlot *slot;	/* its next row, empty at the end */
	}			segments[PGN_ARCHIVE_SEGMENTS];
} ArchiveScan;

extern void pgn_archive_scan_begin(ArchiveScan *scan, const Topic *topic, TimestampTz from, Snapshot snapshot);
extern TupleTableSlot *pgn_archive_scan_next(ArchiveScan *scan);
extern void pgn_archive_scan_end(ArchiveScan *scan);

#endif							/* PIGEON_ARCHIVE_H */
