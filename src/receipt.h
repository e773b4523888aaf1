/*
 * receipt.h
 *		The type pigeon.receipt.
 */
#ifndef PIGEON_RECEIPT_H
#define PIGEON_RECEIPT_H

#include "fmgr.h"

/* Fixed length, passed by reference; the SQL script says 24 bytes. */
typedef struct Receipt
{
	int64		message_id;
	int32		queue_id;
	int32		home;
	int32		lease;
	int32		padding;		/* zero */
} Receipt;

#define PG_GETARG_RECEIPT(n) ((Receipt *) PG_GETARG_POINTER(n))
#define DatumGetReceipt(d) ((Receipt *) DatumGetPointer(d))

#endif							/* PIGEON_RECEIPT_H */
