/*
 * shared.h
 *		What backends share: hints, wake-ups and counters.
 */
#ifndef PIGEON_SHARED_H
#define PIGEON_SHARED_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/hsearch.h"

#include "candidates.h"
#include "delivery.h"
#include "fair.h"
#include "filter_policy.h"
#include "frontier.h"
#include "queue.h"
#include "sleepers.h"

/* What is counted of a queue; see metrics.c. */
typedef enum QueueCounter
{
	COUNT_SENT,
	COUNT_SENT_BYTES,
	COUNT_DEDUPLICATED,
	COUNT_RECEIVED,
	COUNT_EMPTY_RECEIVES,
	COUNT_DELETED,
	COUNT_EXPIRED,
	COUNT_PURGED,
	COUNT_DEAD_LETTERED,
	COUNT_REDRIVEN,
	/* of topics, which share those of sending and dead letters */
	COUNT_DELIVERED,
	COUNT_FILTERED_OUT,			/* and one each for the reasons of
								 * filter_policy.h */
	COUNT_FAILED = COUNT_FILTERED_OUT + PGN_FILTER_RESULTS,
	COUNT_FAILED_TO_DEAD_LETTER,
	PGN_QUEUE_COUNTERS
} QueueCounter;

typedef struct SharedQueueKey
{
	Oid			database;
	Oid			relid;
} SharedQueueKey;

/* Where to look for due deliveries in one lane; see frontier.c. */
typedef struct SharedLane
{
	pg_atomic_uint64 frontier;
	slock_t		lock;			/* for the rest, and for moving the frontier */
	TimestampTz moved_at;		/* when the frontier moved up last */
	int			nstragglers;
	TimestampTz stragglers[PGN_STRAGGLERS];
	SleeperList sleepers;		/* see sleepers.c */
} SharedLane;

typedef struct SharedQueue
{
	SharedQueueKey key;
	int32		id;
	SharedLane	lanes[PGN_LANES];
	pg_atomic_uint64 doubted_at;	/* when the frontiers were last checked */
	Candidates	candidates;

	/* sleepers.c */
	pg_atomic_uint64 usual_timeout;
	pg_atomic_uint32 usual_votes;

	/* fair.c */
	slock_t		tenants_lock;
	Tenant		tenants[PGN_TENANTS];
	Tenant		all_tenants;
	pg_atomic_uint32 turn;		/* receives since there are tenants */
	pg_atomic_uint32 lane_turn; /* those that came to the noisy ones */

	/* wakeup.c */
	slock_t		mutex;			/* protects the list of waiters */
	int32		first_waiter;	/* index into pgn_waiters, NO_WAITER if none */
	int32		last_waiter;
	pg_atomic_uint32 nwaiters;	/* who waits, in the list or just woken */
	pg_atomic_uint64 due_at;	/* nothing falls due before that, unless it is
								 * past */

	/* jobs.c */
	pg_atomic_uint64 maintain_at;
	pg_atomic_uint64 notify_at;
	pg_atomic_uint64 notified_at;
	pg_atomic_uint32 failures;	/* of maintenance, in a row */
	pg_atomic_uint32 notify_failures;

	/* maintenance.c */
	pg_atomic_uint64 maintained_at; /* a FIFO queue, but for its keys */
	pg_atomic_uint64 oldest;	/* what its retention counts from at the
								 * earliest */
	pg_atomic_uint64 keys_at;	/* when its keys are to be read again */
	pg_atomic_uint32 key_page;	/* and from where on */

	/* vacuum.c */
	pg_atomic_uint64 vacuum_at; /* when it is due */
	pg_atomic_uint64 changes;	/* rows that were replaced or deleted */
	pg_atomic_uint64 vacuumed_at;	/* what it was like at the last one */
	pg_atomic_uint64 changes_vacuumed;
	pg_atomic_uint64 vacuum_horizon;

	pg_atomic_uint64 counters[PGN_QUEUE_COUNTERS];
} SharedQueue;

/* What the worker of a database does besides looking after its queues. */
typedef enum DatabaseJob
{
	JOB_REGISTRY,				/* look at every queue */
	JOB_REDRIVE,
	JOB_REPLAY,
	JOB_LOG,					/* rotate the log and free its segments */
	JOB_LOG_OLD,				/* clean the old generation of the log */
	PGN_DATABASE_JOBS
} DatabaseJob;

/* Tasks that have failed and are left alone until that time; the worker's own. */
#define PGN_FAILED_TASKS 16
typedef struct FailedTasks
{
	int64		ids[PGN_FAILED_TASKS];
	int			n;
	TimestampTz retry_at;
} FailedTasks;

typedef struct SharedDatabase
{
	Oid			oid;			/* hash key */
	pg_atomic_uint64 run_at;	/* when something is to be done */
	bool		checked;		/* the launcher knows whether to visit it */
	bool		visit;
	pg_atomic_uint32 holds;		/* who wants the worker to stay away */
	TimestampTz started_at;		/* when the launcher last started a worker */
	pg_atomic_uint32 starts;	/* how often since one did its work */
	pg_atomic_uint32 worker;	/* its process's number, NO_WAITER if none */
	pg_atomic_uint32 worker_pid;
	pg_atomic_uint32 at_work;	/* a worker has begun, and not ended well */
	pg_atomic_uint64 job_at[PGN_DATABASE_JOBS];
	pg_atomic_uint64 log_cleaned_until; /* see log_rotation.c */
	pg_atomic_uint32 failures[PGN_DATABASE_JOBS];	/* in a row */
	FailedTasks failed_tasks[PGN_DATABASE_JOBS];
} SharedDatabase;

/* A backend that waits for messages, by its process's number. */
#define NO_WAITER (-1)
typedef struct Waiter
{
	int32		next;
	int32		previous;
	bool		linked;			/* is it in a list? */
	Oid			database;
} Waiter;

typedef struct SharedState
{
	pg_atomic_uint32 launcher;	/* its process's number, NO_WAITER if none */
	pg_atomic_uint32 crowded;	/* databases wait for a worker */
	pg_atomic_uint32 databases_changed; /* the launcher has to look at the
										 * catalog */
} SharedState;

/* The lock protects the hash tables; NULL if there is no shared memory. */
extern LWLock *pgn_shared_lock;
extern SharedState *pgn_shared_state;
extern HTAB *pgn_shared_queues;
extern HTAB *pgn_shared_databases;
extern Waiter *pgn_waiters;
extern int	pgn_nwaiters;

extern void pgn_shared_init(void);
extern SharedQueue *pgn_shared_queue_entry(const SharedQueueKey *key, int32 id);
extern SharedQueue *pgn_shared_queue(Queue *queue);
extern SharedDatabase *pgn_shared_database_entry(Oid oid, bool create);
extern SharedDatabase *pgn_shared_database(Oid oid, bool create);
extern bool pgn_lower(pg_atomic_uint64 *time, TimestampTz to);

#endif							/* PIGEON_SHARED_H */
