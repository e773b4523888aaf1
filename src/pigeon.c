/*
 * pigeon.c
 *		What happens when the library is loaded: settings and caches.
 *
 * The library works loaded on first use, in any session, and better when it is
 * in shared_preload_libraries.
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/guc.h"

#include "filter_policy.h"
#include "launcher.h"
#include "log.h"
#include "message_id.h"
#include "pigeon.h"
#include "queue.h"
#include "shared.h"
#include "topic.h"
#include "utility.h"

PG_MODULE_MAGIC;

int			pgn_max_queues = 1000;
int			pgn_log_segment_size = 64 * 1024;
int			pgn_log_segment_age = 60 * 60;
int			pgn_log_snapshot_threshold = 60;
bool		pgn_durable_leases = false;
int			pgn_max_visibility = 12 * 60 * 60;
int			pgn_poll_interval = 100;
int			pgn_notify_interval = 100;
int			pgn_max_workers = 3;

void		_PG_init(void);

/* Define the settings. */
static void
define_settings(void)
{
	DefineCustomIntVariable("pigeon.log_segment_size",
							"Size at which the next segment of the message log becomes the current one.",
							NULL, &pgn_log_segment_size, 64 * 1024, 64, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.log_segment_age",
							"Age at which the next segment of the message log becomes the current one.",
							NULL, &pgn_log_segment_age, 60 * 60, 1, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.log_snapshot_threshold",
							"Longest time for which a segment of the message log that is not needed any more is kept for older snapshots.",
							"Such a snapshot is that of a pg_dump that has not locked its tables yet.",
							&pgn_log_snapshot_threshold, 60, 0, INT_MAX / 1000,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomBoolVariable("pigeon.durable_leases",
							 "Whether a transaction that only received messages waits for the disk when it commits.",
							 "A lease lost in a crash costs one redelivery, never a message.",
							 &pgn_durable_leases, false,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.max_visibility",
							"Longest time that a message can stay invisible after a receive.",
							"SQS allows 12 hours.", &pgn_max_visibility, 12 * 60 * 60, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.poll_interval",
							"How often a waiting receive looks for messages when nothing wakes it.",
							NULL, &pgn_poll_interval, 100, 1, 60 * 1000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.notify_interval",
							"Shortest time between two notifications for the same queue.",
							NULL, &pgn_notify_interval, 100, 0, 60 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("pigeon.max_workers",
							"How many background workers there are at a time, each for one database.",
							"0 means none: call pigeon.maintain() instead.",
							&pgn_max_workers, 3, 0, MAX_BACKENDS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	if (process_shared_preload_libraries_in_progress)
		DefineCustomIntVariable("pigeon.max_queues",
								"How many queues shared memory has room for; others work, but slower.",
								NULL, &pgn_max_queues, 1000, 1, 1000000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);
	pgn_filter_init();
	MarkGUCPrefixReserved("pigeon");
}

/* Called by PostgreSQL when the library is loaded. */
void
_PG_init(void)
{
	define_settings();
	pgn_queue_init();
	pgn_topic_init();
	pgn_log_init();
	pgn_message_id_init();
	if (process_shared_preload_libraries_in_progress)
	{
		pgn_shared_init();
		pgn_launcher_init();
		pgn_utility_init();
	}
}
