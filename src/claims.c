/*
 * claims.c
 *		The deliveries that a receive takes, many at a time.
 *
 * A lease is a new version of a delivery's row, and one that does not stay in its
 * place (see delivery.c) needs new entries in the indexes.  Those of the
 * deliveries that one receive takes belong next to each other: they fall due
 * at the same time, and mostly were sent one after another.  So the rows are
 * updated first, and then their entries go into the indexes together; see
 * index_insert.c.
 *
 * Meanwhile the new versions cannot be found by anybody.  Others do not miss
 * them, since they find the old version, and that it is held.  Nor does the
 * receive, which looks for what is due now, and they fall due later.  Only
 * the delete by an older receipt would want to know whether the holder is
 * giving the delivery a new lease, so that it need not wait for him; so the
 * entries are made before anything else is done with the deliveries, be it to
 * read their bodies.
 *
 * If the receive fails in between, the rows are left without entries; but so
 * does its (sub)transaction, and a version that was aborted is looked for by
 * nobody.
 */
#include "postgres.h"

#include "claims.h"

/* Start without any. */
void
pgn_claims_begin(Claims *claims, DeliveryTable *deliveries)
{
	claims->deliveries = deliveries;
	claims->n = claims->nversions = 0;
}

/* Put the versions that are in no index yet into all of them. */
static void
insert_versions(Claims *claims)
{
	pgn_deliveries_insert_versions(claims->deliveries, claims->versions, claims->nversions, claims->first);
	claims->nversions = 0;
}

/* Replace the version at tid by a leased one, unless somebody else was first.  There must be room. */
void
pgn_claim_lease(Claims *claims, ItemPointer tid, const Delivery *row)
{
	bool		first = row->queue_receive_count == 1;

	if (claims->nversions > 0 && claims->first != first)
		insert_versions(claims);
	if (pgn_delivery_replace(claims->deliveries, tid, row, false, &claims->versions[claims->nversions]) != TM_Ok)
		return;
	claims->first = first;
	claims->nversions++;
	claims->rows[claims->n++] = *row;
}

/* Delete the version at tid, unless somebody else was first.  There must be room. */
void
pgn_claim_delete(Claims *claims, ItemPointer tid, const Delivery *row)
{
	if (pgn_delivery_delete(claims->deliveries, tid, false) == TM_Ok)
		claims->rows[claims->n++] = *row;
}

/* Complete what was claimed; to be called before anything else happens to the deliveries. */
void
pgn_claims_complete(Claims *claims)
{
	if (claims->nversions > 0)
		insert_versions(claims);
}
