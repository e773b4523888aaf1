/*
 * vacuum.h
 *		Vacuum of small queues by the worker.
 */
#ifndef PIGEON_VACUUM_H
#define PIGEON_VACUUM_H

#include "datatype/timestamp.h"

#include "shared.h"

extern void pgn_vacuum_count(SharedQueue *shared, int64 changes, TimestampTz now);
extern char *pgn_vacuum_command(int32 queue_id);
extern void pgn_vacuum_execute(const char *command);

#endif							/* PIGEON_VACUUM_H */
