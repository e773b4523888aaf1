/*
 * queue.h
 *		What a backend knows of a queue: its attributes, its table, its rights.
 */
#ifndef PIGEON_QUEUE_H
#define PIGEON_QUEUE_H

#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "utils/snapshot.h"

#include "named.h"

/* Names are 1 to 80 characters of the database's encoding. */
#define PGN_NAME_CHARS 80
#define PGN_NAME_BYTES (PGN_NAME_CHARS * 4)

/* Attributes of a queue; times in microseconds. */
typedef struct QueueAttributes
{
	bool		fifo;
	int64		visibility_timeout;
	int64		delay;
	int64		retention;
	int64		wait_time;
	int32		max_message_size;
	char		dead_letter_queue[PGN_NAME_BYTES + 1];	/* empty: none */
	int32		max_receive_count;	/* 0: none */
	bool		content_based_deduplication;
	bool		deduplicate_by_group;
	int64		deduplication_window;
	bool		notify;
} QueueAttributes;

typedef struct Queue
{
	Oid			relid;			/* hash key: the table of deliveries */
	int32		id;
	bool		valid;			/* false: read the registry again */
	char		name[PGN_NAME_BYTES + 1];
	QueueAttributes attributes;
	struct SharedQueue *shared; /* NULL: not looked up yet, or none */
	struct Activity *activity;	/* see activity.c */
	LocalTransactionId changed_in;	/* last transaction of this backend that
									 * updated or deleted deliveries */
	int			until_advance;	/* messages until this backend advances the
								 * frontier again; see receive.c */
} Queue;

extern void pgn_queue_init(void);
extern Queue *pgn_queue_open(const char *name, AclMode rights, LOCKMODE lockmode);
extern Queue *pgn_queue_find(const char *name);
extern Queue *pgn_queue_find_by_id(int32 id);
extern Queue *pgn_queue_find_anew(int32 id);
extern Queue *pgn_queue_find_as(const char *name, AclMode rights, Oid role);
extern int32 *pgn_registry_ids(const char *table, Snapshot snapshot, int *n);
extern int32 *pgn_queue_ids(Snapshot snapshot, int *n);
extern bool pgn_queue_lock(Queue *queue, LOCKMODE lockmode);
extern bool pgn_queue_lock_now(Queue *queue, LOCKMODE lockmode);
extern void pgn_queue_unlock(const Queue *queue, LOCKMODE lockmode);
extern void pgn_queue_check_rights(const Queue *queue, AclMode rights);
extern void pgn_queue_check_owner(const Queue *queue);

#endif							/* PIGEON_QUEUE_H */
