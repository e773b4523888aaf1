/*
 * log_growth.c
 *		Room in the log for messages to come.
 *
 * A heap that only grows asks the file system for each single page, and has it
 * write 8 kB of zeros: a fifth of the work of sending a batch, and more where
 * memory of the kernel is dear, as in a virtual machine.  So a segment grows by
 * many pages at once, which are allocated in the file but not written, before
 * it is full.  They are entered in the map of free space, where an insert looks
 * before it extends the heap.
 *
 * Since 16 PostgreSQL has a function for that, which fails if the disk is full.
 * For 15 it is done here (on a full disk the segment does not grow, and the heap
 * says so when it needs a page), with one more precaution: nobody else may find
 * a new page in the file before its buffer is there.  He (a vacuum, and then an
 * insert) might fill it, and have it written, before we come to make an empty
 * buffer of it.  So all the buffers are made and locked first.
 */
#include "postgres.h"

#include <fcntl.h>

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/fd.h"
#include "storage/freespace.h"
#include "storage/lmgr.h"

#include "log_growth.h"
#include "table.h"

/* A segment grows to twice its size, but by no more pages than this. */
#define MOST 64

/* It does so when no more than a fifth of its pages, and no more than these, are left. */
#define FEW 16

#if PG_VERSION_NUM >= 160000

/* Add up to n pages to a table that nobody else can extend now; returns how many. */
static uint32
add_pages(Relation rel, uint32 n, BlockNumber *first)
{
	Buffer		buffers[MOST];
	uint32		added;

	*first = ExtendBufferedRelBy(BMR_REL(rel), MAIN_FORKNUM, NULL, EB_SKIP_EXTENSION_LOCK, n, buffers, &added);
	for (uint32 i = 0; i < added; i++)
		ReleaseBuffer(buffers[i]);
	return added;
}

#else

/* Allocate pages at the end of one of a table's files; false if that is not possible. */
static bool
allocate(Relation rel, BlockNumber first, uint32 n)
{
	int			error = ENOSYS;
#ifdef HAVE_POSIX_FALLOCATE
	char	   *path = relpathperm(rel->rd_node, MAIN_FORKNUM);
	int			file;

	if (first >= RELSEG_SIZE)
		path = psprintf("%s.%u", path, first / RELSEG_SIZE);
	file = OpenTransientFile(path, O_RDWR | PG_BINARY);
	if (file < 0)
		return false;
	do
	{
		error = posix_fallocate(file, (off_t) (first % RELSEG_SIZE) * BLCKSZ, (off_t) n * BLCKSZ);
	} while (error == EINTR);
	CloseTransientFile(file);
#endif
	return error == 0;
}

/* Add up to n pages to a table that nobody else can extend now; returns how many. */
static uint32
add_pages(Relation rel, uint32 n, BlockNumber *first)
{
	Buffer		buffers[MOST];
	BlockNumber size = RelationGetNumberOfBlocks(rel);
	bool		done;

	/* At the end of a file the next one is not there yet. */
	n = Min(n, size % RELSEG_SIZE == 0 ? 0 : RELSEG_SIZE - size % RELSEG_SIZE);
	/* Others need buffers, too. */
	n = Min(n, NBuffers / 256);
	if (n == 0)
		return 0;
	for (uint32 i = 0; i < n; i++)
		buffers[i] = ReadBufferExtended(rel, MAIN_FORKNUM, size + i, RBM_ZERO_AND_LOCK, NULL);
	done = allocate(rel, size, n);
	for (uint32 i = 0; i < n; i++)
		UnlockReleaseBuffer(buffers[i]);
	*first = size;
	return done ? n : 0;
}

#endif

/* Is there enough room behind a page? */
static bool
has_room(Relation rel, BlockNumber used)
{
	return pgn_table_has_page(rel, used + Min(used / 4, FEW));
}

/* Give a segment more room if a page that has just been used is among its last, and nobody else does so. */
void
pgn_log_grow(Relation rel, BlockNumber used)
{
	BlockNumber first;
	uint32		added = 0;

	if (has_room(rel, used) || !ConditionalLockRelationForExtension(rel, ExclusiveLock))
		return;
	if (!has_room(rel, used))
		added = add_pages(rel, Min(used, MOST), &first);
	UnlockRelationForExtension(rel, ExclusiveLock);
	if (added == 0)
		return;
	for (BlockNumber page = first; page < first + added; page++)
		RecordPageWithFreeSpace(rel, page, BLCKSZ - SizeOfPageHeaderData);
	FreeSpaceMapVacuumRange(rel, first, first + added);
}
