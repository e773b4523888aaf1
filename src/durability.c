/*
 * durability.c
 *		Which commits need not wait for the disk.
 *
 * A lease that is lost in a crash costs one redelivery, never a message.  So a
 * transaction that wrote nothing but leases commits asynchronously, unless
 * pigeon.durable_leases is on.
 *
 * "Nothing but leases" is decided just before commit: the transaction had no
 * transaction id when it took its first lease, so had written nothing, and all
 * WAL records that this backend wrote since were written by lease updates.  Any
 * other record, be it of a business table, a sequence or a catalog, keeps the
 * commit as synchronous as it was.  Records that have nothing to do with the
 * transaction's outcome (pruning, hint bits) can only err on that side too.
 *
 * Two-phase commit is left alone; it always is synchronous.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/instrument.h"

#include "durability.h"
#include "pigeon.h"

static bool tracking = false;	/* leases were taken in this transaction */
static bool only_leases;		/* nothing was written before the first */
static int64 records_before;	/* WAL records at the first lease */
static int64 records_of_leases; /* of them, those written by leases */
static int64 records_at_begin;	/* WAL records when the current lease began */

static bool relaxed = false;	/* synchronous_commit was changed */
static int	synchronous_commit_before;

/* Relax this commit if only leases are at stake, and undo that afterwards. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (!tracking)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
	{
		if (only_leases && !pgn_durable_leases &&
			pgWalUsage.wal_records - records_before == records_of_leases)
		{
			synchronous_commit_before = synchronous_commit;
			synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
			relaxed = true;
		}
		return;
	}
	if (event == XACT_EVENT_PRE_PREPARE)
		return;
	if (relaxed)
		synchronous_commit = synchronous_commit_before;
	relaxed = tracking = false;
}

/* Call before writing leases. */
void
pgn_lease_begin(void)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
	if (!tracking)
	{
		tracking = true;
		only_leases = !TransactionIdIsValid(GetTopTransactionIdIfAny());
		records_before = pgWalUsage.wal_records;
		records_of_leases = 0;
	}
	records_at_begin = pgWalUsage.wal_records;
}

/* Call after writing leases; if an error comes between, they do not count as such. */
void
pgn_lease_end(void)
{
	records_of_leases += pgWalUsage.wal_records - records_at_begin;
}
