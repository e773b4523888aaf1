/*
 * deduplication.h
 *		Recognising messages that were sent before.
 */
#ifndef PIGEON_DEDUPLICATION_H
#define PIGEON_DEDUPLICATION_H

#include "message.h"
#include "queue.h"

extern char *pgn_deduplication_table_sql(int32 queue_id);
extern void pgn_deduplication_lock(const Queue *queue, LOCKMODE lockmode);
extern bool pgn_deduplication_usable(const Queue *queue);
extern int	pgn_deduplicate(Queue *queue, Message *messages, int n, TimestampTz now, Message *fresh);
extern void pgn_deduplication_expire(Queue *queue, TimestampTz now);

#endif							/* PIGEON_DEDUPLICATION_H */
