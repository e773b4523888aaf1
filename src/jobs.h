/*
 * jobs.h
 *		When the worker of a database has something to do.
 */
#ifndef PIGEON_JOBS_H
#define PIGEON_JOBS_H

#include "datatype/timestamp.h"

#include "shared.h"

extern void pgn_database_job_request(DatabaseJob job, TimestampTz at);
extern void pgn_queue_job_request(pg_atomic_uint64 *job_at, TimestampTz at);
extern void pgn_notify_request(SharedQueue *shared, TimestampTz at);
extern void pgn_run_at(SharedDatabase *database, TimestampTz at);

#endif							/* PIGEON_JOBS_H */
