/*
 * log.h
 *		The message log: every body is written here once and never changed.
 */
#ifndef PIGEON_LOG_H
#define PIGEON_LOG_H

#include "message.h"

#define PGN_LOG_SEGMENTS 8		/* tables pigeon.log_0 .. pigeon.log_7 */
#define PGN_LOG_OLD PGN_LOG_SEGMENTS	/* table pigeon.log_old */

/* Columns of a log table, in order. */
enum
{
	Anum_log_message_id = 1,
	Anum_log_log_key,
	Anum_log_sent_at,
	Anum_log_sender,
	Anum_log_body,
	Anum_log_attributes,
	Anum_log_group_id,
	Anum_log_deduplication_id,
	Anum_log_topic,
	Anum_log_subject,
	Anum_log_replayed_message_id,
	Natts_log = Anum_log_replayed_message_id
};

extern void pgn_log_init(void);
extern void pgn_log_append(Message *messages, int n, TimestampTz sent_at);
extern int	pgn_log_current_segment(void);
extern Oid	pgn_log_segment(int segment);

#endif							/* PIGEON_LOG_H */
