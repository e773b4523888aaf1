/*
 * notify.h
 *		NOTIFY for workers outside of the database.
 */
#ifndef PIGEON_NOTIFY_H
#define PIGEON_NOTIFY_H

#include "datatype/timestamp.h"

extern TimestampTz pgn_job_notify(int64 queue_id);
extern TimestampTz pgn_job_notify_pending(int64 queue_id);

#endif							/* PIGEON_NOTIFY_H */
