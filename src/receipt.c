/*
 * receipt.c
 *		The type pigeon.receipt: proof of one receive of one message.
 *
 * A receipt is logical: queue, message, the queue the message was first put
 * into (two subscribers of one topic may share a dead-letter queue, and the
 * same message then lies there twice) and the random number of the lease.  It
 * survives dump and restore.  It is not a secret: what one may do with it is
 * decided by the rights on the queue.
 *
 * The text form is four numbers, "queue-message-home-lease", the lease in
 * hexadecimal.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"

#include "receipt.h"

StaticAssertDecl(sizeof(Receipt) == 24, "pigeon.receipt is declared with 24 bytes");

/* More than the text form ever takes. */
#define MAX_TEXT 64

PG_FUNCTION_INFO_V1(pgn_receipt_in);
PG_FUNCTION_INFO_V1(pgn_receipt_out);
PG_FUNCTION_INFO_V1(pgn_receipt_recv);
PG_FUNCTION_INFO_V1(pgn_receipt_send);
PG_FUNCTION_INFO_V1(pgn_receipt_eq);
PG_FUNCTION_INFO_V1(pgn_receipt_hash);

/*
 * Read an unsigned number up to "max" and the character behind it; move *p
 * past both.  False if there is none, or if it has leading zeros or blanks
 * (a receipt has one spelling).
 */
static bool
read_number(const char **p, int base, uint64 max, char terminator, uint64 *number)
{
	const char *start = *p;
	uint64		value = 0;

	for (;; (*p)++)
	{
		char		c = **p;
		int			digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (base == 16 && c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else
			break;
		if (value > (max - digit) / base)
			return false;
		value = value * base + digit;
	}
	if (*p == start || **p != terminator || (*start == '0' && *p > start + 1))
		return false;
	if (terminator != '\0')
		(*p)++;
	*number = value;
	return true;
}

/* Write a number in hexadecimal, without leading zeros; returns its end. */
static char *
put_hexadecimal(uint32 number, char *p)
{
	int			shift = 28;

	while (shift > 0 && number >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		*p++ = "0123456789abcdef"[(number >> shift) & 15];
	return p;
}

/* Input function: the text form, or an error 22P02. */
Datum
pgn_receipt_in(PG_FUNCTION_ARGS)
{
	char	   *input = PG_GETARG_CSTRING(0);
	const char *p = input;
	Receipt    *receipt = palloc0(sizeof(Receipt));
	uint64		queue_id,
				message_id,
				home,
				lease;

	if (!read_number(&p, 10, PG_INT32_MAX, '-', &queue_id) ||
		!read_number(&p, 10, PG_INT64_MAX, '-', &message_id) ||
		!read_number(&p, 10, PG_INT32_MAX, '-', &home) ||
		!read_number(&p, 16, PG_UINT32_MAX, '\0', &lease))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "pigeon.receipt", input),
				 errhint("Pass the receipt as pigeon.receive() returned it.")));
	receipt->queue_id = queue_id;
	receipt->message_id = message_id;
	receipt->home = home;
	receipt->lease = (int32) (uint32) lease;
	PG_RETURN_POINTER(receipt);
}

/* Output function: the text form. */
Datum
pgn_receipt_out(PG_FUNCTION_ARGS)
{
	Receipt    *receipt = PG_GETARG_RECEIPT(0);
	char	   *text = palloc(MAX_TEXT);
	char	   *p = text;

	/* By hand, since a client who gets many messages gets as many of these. */
	p += pg_ultoa_n(receipt->queue_id, p);
	*p++ = '-';
	p += pg_ulltoa_n(receipt->message_id, p);
	*p++ = '-';
	p += pg_ultoa_n(receipt->home, p);
	*p++ = '-';
	p = put_hexadecimal(receipt->lease, p);
	*p = '\0';
	PG_RETURN_CSTRING(text);
}

/* Binary input: the four numbers, or an error 22P03. */
Datum
pgn_receipt_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	Receipt    *receipt = palloc0(sizeof(Receipt));

	receipt->queue_id = pq_getmsgint(buf, 4);
	receipt->message_id = pq_getmsgint64(buf);
	receipt->home = pq_getmsgint(buf, 4);
	receipt->lease = pq_getmsgint(buf, 4);
	if (receipt->queue_id < 0 || receipt->message_id < 0 || receipt->home < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("invalid external \"%s\" value", "pigeon.receipt")));
	PG_RETURN_POINTER(receipt);
}

/* Binary output: the four numbers. */
Datum
pgn_receipt_send(PG_FUNCTION_ARGS)
{
	Receipt    *receipt = PG_GETARG_RECEIPT(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint32(&buf, receipt->queue_id);
	pq_sendint64(&buf, receipt->message_id);
	pq_sendint32(&buf, receipt->home);
	pq_sendint32(&buf, receipt->lease);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/* Are the receipts the same? */
Datum
pgn_receipt_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(memcmp(PG_GETARG_RECEIPT(0), PG_GETARG_RECEIPT(1), sizeof(Receipt)) == 0);
}

/* Hash, for DISTINCT and hash joins. */
Datum
pgn_receipt_hash(PG_FUNCTION_ARGS)
{
	return hash_any((unsigned char *) PG_GETARG_RECEIPT(0), sizeof(Receipt));
}
