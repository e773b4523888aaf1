/*
 * transaction.h
 *		Transaction numbers that do not wrap around.
 */
#ifndef PIGEON_TRANSACTION_H
#define PIGEON_TRANSACTION_H

#include "access/transam.h"
#include "utils/snapmgr.h"

/* The long form of the number of a transaction that has begun. */
static inline uint64
pgn_widen_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();

	return U64FromFullTransactionId(next) - (uint32) (XidFromFullTransactionId(next) - xid);
}

/* Transactions before this one have ended. */
static inline uint64
pgn_oldest_running_xid(void)
{
	return pgn_widen_xid(GetLatestSnapshot()->xmin);
}

#endif							/* PIGEON_TRANSACTION_H */
