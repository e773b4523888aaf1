/*
 * maintenance.h
 *		The jobs that keep queues in order.
 */
#ifndef PIGEON_MAINTENANCE_H
#define PIGEON_MAINTENANCE_H

#include "datatype/timestamp.h"

/*
 * A job takes one step and returns when it wants to be called again:
 * PGN_AGAIN if there is more to do right away, PGN_IDLE if there is no reason.
 */
typedef TimestampTz (*PgnJob) (int64 argument);

#define PGN_AGAIN PG_INT64_MIN
#define PGN_IDLE PG_INT64_MAX

extern TimestampTz pgn_job_queue(int64 queue_id);
extern TimestampTz pgn_job_queue_in_time(int64 queue_id);
extern TimestampTz pgn_job_redrive(int64 task_id);
extern TimestampTz pgn_job_replay(int64 task_id);
extern TimestampTz pgn_job_rotate_log(int64 unused);
extern TimestampTz pgn_job_free_segment(int64 segment);
extern TimestampTz pgn_job_free_segment_in_time(int64 segment);
extern TimestampTz pgn_job_clean_log(int64 unused);
extern bool pgn_is_replicated(void);
extern ErrorData *pgn_take_error(MemoryContext context);
extern void pgn_report_failure(const char *what, ErrorData *error);
extern bool pgn_run_job(PgnJob job, int64 argument, const char *what, TimestampTz *next);

#endif							/* PIGEON_MAINTENANCE_H */
