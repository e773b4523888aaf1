/*
 * task.h
 *		What redrive and replay tasks have in common.
 */
#ifndef PIGEON_TASK_H
#define PIGEON_TASK_H

#include "datatype/timestamp.h"

/* So many tasks of a queue or subscription are kept; SQS and SNS show 10 of the last ones. */
#define PGN_TASKS_KEPT 100

extern void pgn_tasks_forget(const char *table, const char *column, int32 id);
extern void pgn_tasks_end(const char *table, const char *column, Datum ids, const char *reason);
extern bool pgn_tasks_active(const char *table);
extern int64 *pgn_tasks_running(const char *table, int *n);
extern int64 pgn_task_origin(void);
extern const char *pgn_task_status(bool restored, bool failed, bool more);
extern int	pgn_task_budget(TimestampTz *paid_until, int max_per_second, int most);
extern void pgn_task_pay(TimestampTz *paid_until, int max_per_second, int n);

#endif							/* PIGEON_TASK_H */
