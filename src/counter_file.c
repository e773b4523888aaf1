/*
 * counter_file.c
 *		Keeping the counters over a restart.
 *
 * As PostgreSQL does with its own cumulative statistics, the counters are
 * written to a file when the server is shut down, read when it is started, and
 * the file is removed then.  After a crash there is no file, and they start
 * from zero.  (A table would cost WAL, would be restored with a backup, and
 * could not be written while the last sessions end.)
 *
 * The postmaster does both, when no other process is there.
 */
#include "postgres.h"

#include <unistd.h>

#include "pgstat.h"
#include "storage/fd.h"
#include "storage/ipc.h"

#include "counter_file.h"
#include "shared.h"

#define COUNTER_FILE PGSTAT_STAT_PERMANENT_DIRECTORY "/pigeon.stat"

/* To be changed with the meaning of the file. */
#define MAGIC 0x50474e01

typedef struct FileHeader
{
	uint32		magic;
	uint32		ncounters;
	int64		nqueues;
} FileHeader;

typedef struct FileEntry
{
	SharedQueueKey key;
	int32		id;
	uint64		counters[PGN_QUEUE_COUNTERS];
} FileEntry;

/* Complain about the file, and do without it. */
static void
file_trouble(const char *verb, const char *name)
{
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not %s file \"%s\": %m", verb, name)));
}

/* Read the counters, as far as they can be read. */
static void
load_counters(void)
{
	FILE	   *file = AllocateFile(COUNTER_FILE, PG_BINARY_R);
	FileHeader	header;
	FileEntry	entry;

	if (file == NULL)
	{
		if (errno != ENOENT)
			file_trouble("read", COUNTER_FILE);
		return;
	}
	if (fread(&header, sizeof(header), 1, file) == 1 &&
		header.magic == MAGIC && header.ncounters == PGN_QUEUE_COUNTERS)
	{
		for (int64 i = 0; i < header.nqueues && fread(&entry, sizeof(entry), 1, file) == 1; i++)
		{
			SharedQueue *shared = pgn_shared_queue_entry(&entry.key, entry.id);

			for (int c = 0; shared && c < PGN_QUEUE_COUNTERS; c++)
				pg_atomic_write_u64(&shared->counters[c], entry.counters[c]);
		}
	}
	FreeFile(file);
	(void) unlink(COUNTER_FILE);
}

/* Write the counters of all queues to an open file; false if that fails. */
static bool
write_counters(FILE *file)
{
	FileHeader	header = {.magic = MAGIC,.ncounters = PGN_QUEUE_COUNTERS};
	HASH_SEQ_STATUS status;
	SharedQueue *shared;
	bool		good;

	header.nqueues = hash_get_num_entries(pgn_shared_queues);
	good = fwrite(&header, sizeof(header), 1, file) == 1;
	hash_seq_init(&status, pgn_shared_queues);
	while ((shared = hash_seq_search(&status)) != NULL)
	{
		FileEntry	entry;

		memset(&entry, 0, sizeof(entry));
		entry.key = shared->key;
		entry.id = shared->id;
		for (int c = 0; c < PGN_QUEUE_COUNTERS; c++)
			entry.counters[c] = pg_atomic_read_u64(&shared->counters[c]);
		good = good && fwrite(&entry, sizeof(entry), 1, file) == 1;
	}
	return good;
}

/* Write the counters at a clean shutdown. */
static void
save_counters(int code, Datum arg)
{
	const char *temporary = COUNTER_FILE ".tmp";
	FILE	   *file;
	bool		good;

	if (code != 0 || pgn_shared_queues == NULL)
		return;
	file = AllocateFile(temporary, PG_BINARY_W);
	if (file == NULL)
	{
		file_trouble("write", temporary);
		return;
	}
	good = write_counters(file);
	good = FreeFile(file) == 0 && good;
	if (good)
		(void) durable_rename(temporary, COUNTER_FILE, LOG);
	else
	{
		file_trouble("write", temporary);
		(void) unlink(temporary);
	}
}

/* Read the counters and see to it that they are written; called once by the postmaster. */
void
pgn_counter_file_init(void)
{
	on_shmem_exit(save_counters, (Datum) 0);
	load_counters();
}
