/*
 * deduplication.h
 *		Recognising messages that were sent before.
 */
#ifndef PIGEON_DEDUPLICATION_H
#define PIGEON_DEDUPLICATION_H

#include "message.h"
#include "queue.h"

extern char *pgn_deduplication_table_sql(int32 queue_id);
extern bool pgn_deduplication_lock_now(const Queue *queue, LOCKMODE lockmode);
extern void pgn_deduplication_unlock(const Queue *queue, LOCKMODE lockmode);
extern bool pgn_deduplication_usable(const Queue *queue);
extern int	pgn_deduplicate(Queue *queue, Message *messages, int n, TimestampTz now, Message *fresh);
extern BlockNumber pgn_deduplication_expire(Queue *queue, TimestampTz now, BlockNumber first, BlockNumber most);

#endif							/* PIGEON_DEDUPLICATION_H */
