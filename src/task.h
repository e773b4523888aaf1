/*
 * task.h
 *		What redrive and replay tasks have in common.
 */
#ifndef PIGEON_TASK_H
#define PIGEON_TASK_H

#include "datatype/timestamp.h"

extern int64 *pgn_tasks_running(const char *table, int *n);
extern int	pgn_task_budget(TimestampTz started_at, int max_per_second, int64 done, int most);

#endif							/* PIGEON_TASK_H */
