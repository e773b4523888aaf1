/*
 * message.h
 *		A message on its way in: what the sender gave, checked.
 */
#ifndef PIGEON_MESSAGE_H
#define PIGEON_MESSAGE_H

#include "datatype/timestamp.h"
#include "storage/block.h"
#include "storage/off.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* How many attributes a message in a queue may have. */
#define PGN_MAX_ATTRIBUTES 10

/* Where a message was written to: a segment of the log, and the row's place there. */
typedef struct LogPlace
{
	int16		segment;
	OffsetNumber offset;
	BlockNumber block;
} LogPlace;

/* One message to be written to the log.  NULL pointers are SQL NULLs. */
typedef struct Message
{
	int64		message_id;		/* given by the log, unless it is there */
	int64		log_key;		/* given by the log */
	LogPlace	place;			/* given by the log */
	text	   *body;
	Jsonb	   *attributes;
	text	   *group_id;
	text	   *deduplication_id;
	text	   *topic;
	text	   *subject;
	int64		replayed_message_id;	/* 0: none */
	TimestampTz published_at;	/* of one that is replayed */
	Name		sender;			/* NULL: the current user */
	int64		size;			/* of body and attributes, as SQS counts it */
} Message;

extern void pgn_check_body(const text *body);
extern int64 pgn_attributes_size(Jsonb *attributes);
extern void pgn_check_attribute_count(Jsonb *attributes);
extern void pgn_check_size(int64 size, int64 limit, const char *name);
extern bool pgn_is_id(const char *text, int len);
extern void pgn_check_id(const text *id, const char *what);
extern int64 pgn_interval(const Interval *interval, const char *what);
extern TimestampTz pgn_timestamp_plus(TimestampTz time, int64 microseconds);

#endif							/* PIGEON_MESSAGE_H */
