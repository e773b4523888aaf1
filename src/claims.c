/*
 * claims.c
 *		The deliveries that a receive takes, many at a time.
 *
 * Those that one receive takes mostly stand next to each other, since they
 * were sent one after another.  So a scan first collects what it finds, and then
 * all of it is claimed: what is in one page together (see page_change.c), the
 * rest row by row.  Claiming never waits; who was faster keeps what he has, and
 * the caller is left with what he got.
 *
 * What was found at a place is still there then, or its traces are: the caller
 * has a snapshot that was taken before, so no row version that was not deleted
 * when it was found is removed meanwhile, nor its place given to another.
 * Where snapshots may become too old for that, nothing is collected.
 *
 * A lease is a new version of a delivery's row, and one that does not stay in its
 * place (see delivery.c) needs new entries in the indexes.  Those belong next to
 * each other, too.  So the rows are updated first, and then their entries go
 * into the indexes together; see index_insert.c.
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

#include "storage/proc.h"

#include "claims.h"
#include "compat.h"
#include "page_change.h"

/* Start without any; "pop": they are to be deleted, not leased. */
void
pgn_claims_begin(Claims *claims, DeliveryTable *deliveries, bool pop)
{
	claims->deliveries = deliveries;
	claims->pop = pop;
	claims->limit = pgn_snapshots_keep_rows() ? PGN_CLAIMS : 1;
	claims->n = claims->nversions = 0;
	claims->first = false;
}

/* Was what is at a place collected already? */
bool
pgn_is_claimed(const Claims *claims, const ItemPointerData *tid)
{
	for (int i = 0; i < claims->n; i++)
		if (ItemPointerEquals(unconstify(ItemPointerData *, &claims->tids[i]), unconstify(ItemPointerData *, tid)))
			return true;
	return false;
}

/* Collect what was found at a place; *row is to replace it, unless this is a pop.  There must be room. */
void
pgn_claim(Claims *claims, ItemPointer tid, const Delivery *row)
{
	claims->tids[claims->n] = *tid;
	claims->rows[claims->n++] = *row;
}

/* Put the versions that are in no index yet into all of them. */
static void
insert_versions(Claims *claims)
{
	if (claims->nversions > 0)
		pgn_deliveries_insert_versions(claims->deliveries, claims->versions, claims->nversions, claims->first);
	claims->nversions = 0;
}

/* Versions of the first leases of deliveries, or of others, come next; they are not mixed. */
static void
expect_versions(Claims *claims, const Delivery *row)
{
	bool		first = row->queue_receive_count == 1;

	if (claims->first != first)
		insert_versions(claims);
	claims->first = first;
}

/* How many claims, from this one on, may be completed together. */
static int
run_of_claims(const Claims *claims, int from)
{
	int			run = pgn_page_run(&claims->tids[from], claims->n - from);

	for (int i = 0; i < run && !claims->pop; i++)
		if (!pgn_is_in_place(&claims->rows[from + i]))
			return i;
	return run;
}

/* Complete a run of claims as far as that can be done together; how many that are. */
static int
claim_together(Claims *claims, int from, int run)
{
	int			done;

	/* A single one is claimed by itself. */
	if (run < 2)
		return 0;
	if (claims->pop)
		return pgn_deliveries_delete_in_page(claims->deliveries, &claims->tids[from], run);
	expect_versions(claims, &claims->rows[from]);
	done = pgn_deliveries_replace_in_page(claims->deliveries, &claims->tids[from], &claims->rows[from], run,
										  &claims->versions[claims->nversions]);
	claims->nversions += done;
	return done;
}

/* Complete a single claim; false if somebody else was faster. */
static bool
claim_one(Claims *claims, int i)
{
	if (claims->pop)
		return pgn_delivery_delete(claims->deliveries, &claims->tids[i], false) == TM_Ok;
	expect_versions(claims, &claims->rows[i]);
	if (pgn_delivery_replace(claims->deliveries, &claims->tids[i], &claims->rows[i], false,
							 &claims->versions[claims->nversions]) != TM_Ok)
		return false;
	claims->nversions++;
	return true;
}

/* Keep n claims, from this one on, behind those that are kept. */
static int
keep(Claims *claims, int kept, int from, int n)
{
	memmove(&claims->rows[kept], &claims->rows[from], n * sizeof(Delivery));
	return kept + n;
}

/* Claim what was collected; what is left is ours. */
void
pgn_claims_complete(Claims *claims)
{
	int			kept = 0,
				i = 0;

	Assert(claims->n == 0 || TransactionIdIsValid(MyProc->xmin));
	while (i < claims->n)
	{
		int			run = run_of_claims(claims, i);
		int			done = claim_together(claims, i, run);

		kept = keep(claims, kept, i, done);
		i += done;
		if (i == claims->n || (done > 0 && done == run))
			continue;
		if (claim_one(claims, i))
			kept = keep(claims, kept, i, 1);
		i++;
	}
	claims->n = kept;
	insert_versions(claims);
}
