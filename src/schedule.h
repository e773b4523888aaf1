/*
 * schedule.h
 *		When the message groups of a FIFO queue may have something to deliver.
 */
#ifndef PIGEON_SCHEDULE_H
#define PIGEON_SCHEDULE_H

#include "access/genam.h"
#include "datatype/timestamp.h"

#include "queue.h"
#include "table.h"

/*
 * A row of a FIFO queue's schedule, laid out as PostgreSQL stores it: the group
 * has no message below first_message_id, and nothing to deliver before
 * visible_at.
 */
typedef struct ScheduleEntry
{
	int64		group_key;
	int64		first_message_id;
	TimestampTz visible_at;
	bool		final;			/* the group's head had its last receive */
} ScheduleEntry;

/* Columns of a schedule, in order. */
enum
{
	Anum_schedule_group_key = 1,
	Anum_schedule_first_message_id,
	Anum_schedule_visible_at,
	Anum_schedule_final,
	Natts_schedule = Anum_schedule_final
};

/* The schedule of a queue, open. */
typedef struct Schedule
{
	Queue	   *queue;
	PgnTable	table;
	TupleTableSlot *slot;		/* for looks at single entries */
} Schedule;

/* A row version that was found, and who that is still open wrote or changes it. */
typedef struct ScheduleVersion
{
	ScheduleEntry row;
	ItemPointerData tid;
	TransactionId inserter;
	TransactionId changer;
	bool		superseded;		/* it has a changer, or its inserter changed
								 * it again */
} ScheduleVersion;

/* The latest entries of a group, as far as one look finds them. */
#define PGN_LOOKUP_VERSIONS 8
typedef struct ScheduleLookup
{
	ScheduleVersion versions[PGN_LOOKUP_VERSIONS];
	int			n;
} ScheduleLookup;

/* A walk over the entries that are due, in parts of increasing length. */
typedef struct ScheduleScan
{
	TimestampTz until;
	TimestampTz part_until;
	int64		part;
	Schedule   *schedule;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	SnapshotData dirty;
} ScheduleScan;

extern char *pgn_schedule_table_sql(int32 queue_id);
extern void pgn_schedule_open(Schedule *schedule, Queue *queue, LOCKMODE lockmode);
extern bool pgn_schedule_try_open(Schedule *schedule, Queue *queue, LOCKMODE lockmode);
extern bool pgn_schedule_lock_now(const Queue *queue, LOCKMODE lockmode);
extern void pgn_schedule_unlock(const Queue *queue, LOCKMODE lockmode);
extern bool pgn_schedule_usable(const Queue *queue, LOCKMODE unlock);
extern void pgn_schedule_close(Schedule *schedule, LOCKMODE lockmode);
extern void pgn_schedule_scan_begin(ScheduleScan *scan, Schedule *schedule,
									TimestampTz from, TimestampTz until);
extern bool pgn_schedule_scan_next(ScheduleScan *scan, ScheduleVersion *version);
extern bool pgn_schedule_scan_next_within(ScheduleScan *scan, ScheduleVersion *version, int64 *limit);
extern int64 pgn_schedule_scan_count(ScheduleScan *scan, int64 limit);
extern void pgn_schedule_scan_end(ScheduleScan *scan);
extern bool pgn_schedule_is_free(Schedule *schedule, const ScheduleVersion *version);
extern void pgn_schedule_lookup(Schedule *schedule, int64 group_key, bool any, ScheduleLookup *lookup);
extern bool pgn_schedule_covers(const ScheduleLookup *lookup, const ScheduleEntry *entry,
								const ItemPointerData *except);
extern void pgn_schedule_ensure(Schedule *schedule, const ScheduleLookup *lookup,
								const ScheduleEntry *entry, TimestampTz now);
extern int64 pgn_schedule_first_message(const ScheduleLookup *lookup);
extern bool pgn_schedule_lower(Schedule *schedule, int64 group_key, int64 message_id, bool *changed);
extern void pgn_schedule_clear(Schedule *schedule, const ScheduleLookup *lookup);
extern bool pgn_schedule_move(Schedule *schedule, const ScheduleVersion *version,
							  const ScheduleEntry *entry);
extern bool pgn_schedule_remove(Schedule *schedule, const ScheduleVersion *version);

#endif							/* PIGEON_SCHEDULE_H */
