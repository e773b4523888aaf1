/*
 * topic.h
 *		What a backend knows of a topic: its attributes, its subscriptions.
 */
#ifndef PIGEON_TOPIC_H
#define PIGEON_TOPIC_H

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

#include "filter_policy.h"
#include "queue.h"

/* The rights on a topic are rights on its view. */
#define PGN_ACL_PUBLISH ACL_INSERT
#define PGN_ACL_SUBSCRIBE ACL_REFERENCES

typedef struct TopicAttributes
{
	bool		fifo;
	bool		content_based_deduplication;
	int32		max_message_size;
	int64		archive_retention;	/* microseconds; 0: no archive */
	int16		archive_segment;	/* the one to append to */
	TimestampTz archive_since;	/* when it became that */
} TopicAttributes;

typedef struct Subscription
{
	int32		id;
	char	   *queue;
	char	   *dead_letter_queue;	/* NULL: none */
	Oid			owner;			/* InvalidOid: the role is gone */
	bool		raw_delivery;
	FilterPolicy *filter_policy;	/* NULL: every message */
} Subscription;

typedef struct Topic
{
	Oid			relid;			/* hash key: the topic's view */
	int32		id;
	bool		valid;			/* false: read the registry again */
	char		name[PGN_NAME_BYTES + 1];
	TopicAttributes attributes;
	Queue		queue;			/* the topic seen as a queue, see topic.c */
	MemoryContext context;		/* of the subscriptions */
	int			nsubscriptions;
	Subscription *subscriptions;	/* in the order of their queues' names */
} Topic;

extern void pgn_topic_init(void);
extern Topic *pgn_topic_find(const char *name);
extern Topic *pgn_topic_find_by_id(int32 id);
extern Topic *pgn_topic_find_by_relid(Oid relid);
extern int32 *pgn_topic_ids(Snapshot snapshot, int *n);
extern void pgn_topic_begin_publish(void);
extern bool pgn_topic_lock(Topic *topic, LOCKMODE lockmode);
extern bool pgn_topic_lock_now(Topic *topic, LOCKMODE lockmode);
extern Topic *pgn_topic_open(const char *name, AclMode rights, LOCKMODE lockmode);
extern void pgn_topic_check_rights(const Topic *topic, AclMode rights, Oid role);
extern void pgn_topic_check_owner(const Topic *topic);

#endif							/* PIGEON_TOPIC_H */
