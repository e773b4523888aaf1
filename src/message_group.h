/*
 * message_group.h
 *		Message groups: their keys and their locks.
 */
#ifndef PIGEON_MESSAGE_GROUP_H
#define PIGEON_MESSAGE_GROUP_H

#include "queue.h"

extern int64 pgn_group_key(const text *group_id);
extern void pgn_groups_lock_for_send(const Queue *queue, const int64 *group_keys, int n);
extern bool pgn_group_has_no_other_sender(const Queue *queue, int64 group_key);
extern void pgn_group_latch(const Queue *queue, int64 group_key);
extern bool pgn_group_latch_now(const Queue *queue, int64 group_key);
extern void pgn_group_unlatch(const Queue *queue, int64 group_key);
extern bool pgn_attempt_lock_now(const Queue *queue, int64 key);
extern void pgn_deduplication_latch(const Queue *queue, int64 key);
extern void pgn_deduplication_unlatch(const Queue *queue, int64 key);

#endif							/* PIGEON_MESSAGE_GROUP_H */
