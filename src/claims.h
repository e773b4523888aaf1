/*
 * claims.h
 *		The deliveries that a receive takes, many at a time.
 */
#ifndef PIGEON_CLAIMS_H
#define PIGEON_CLAIMS_H

#include "delivery.h"

/* Taken together: enough to share pages and WAL records, few enough to stay in the cache. */
#define PGN_CLAIMS 128

typedef struct Claims
{
	DeliveryTable *deliveries;
	bool		pop;			/* delete them */
	int			limit;			/* how many may be collected */
	int			n;
	Delivery	rows[PGN_CLAIMS];	/* as they are to be */
	ItemPointerData tids[PGN_CLAIMS];	/* where they were found */
	int			nversions;		/* that are in no index yet */
	HeapTuple	versions[PGN_CLAIMS];
	bool		first;			/* those are the first leases of their
								 * deliveries */
} Claims;

extern void pgn_claims_begin(Claims *claims, DeliveryTable *deliveries, bool pop);
extern bool pgn_is_claimed(const Claims *claims, const ItemPointerData *tid);
extern void pgn_claim(Claims *claims, ItemPointer tid, const Delivery *row);
extern void pgn_claims_complete(Claims *claims);

#endif							/* PIGEON_CLAIMS_H */
