/*
 * known_place.c
 *		Where this backend has put rows that it may look for again.
 *
 * A worker mostly deletes a message over the connection that it received it
 * by.  So a backend remembers where it put the rows of its last leases, and the
 * entries of the message groups they belong to: to look there costs less than a
 * look in an index, and touches less memory, which counts when there are many
 * connections.
 *
 * It is but a hint.  The row may have been moved, changed or deleted, and its
 * place given to another one.  So who looks there compares what it finds with
 * what it is looking for, and asks the index if that is anything but the
 * version of the row that counts.
 */
#include "postgres.h"

#include "known_place.h"

/* Consecutive numbers do not displace each other: as many as a large batch has. */
#define NPLACES 1024

typedef struct KnownPlace
{
	int64		key;
	Oid			relid;			/* InvalidOid: nothing is known */
	ItemPointerData place;
} KnownPlace;

static KnownPlace places[NPLACES];

/* Where a row of this table with this key is remembered. */
static KnownPlace *
slot_of(Oid relid, int64 key)
{
	return &places[(uint32) (key ^ (key >> 32) ^ relid * 31) % NPLACES];
}

/* A row was put there.  Whatever the table, "key" is one of its columns. */
void
pgn_place_remember(Oid relid, int64 key, ItemPointerData place)
{
	*slot_of(relid, key) = (KnownPlace)
	{
		.key = key,.relid = relid,.place = place
	};
}

/* Where the last row with this key was put; false if that is not known (any more). */
bool
pgn_place_recall(Oid relid, int64 key, ItemPointerData *place)
{
	const KnownPlace *slot = slot_of(relid, key);

	*place = slot->place;
	return slot->relid == relid && slot->key == key;
}
