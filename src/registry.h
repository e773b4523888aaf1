/*
 * registry.h
 *		Columns of the tables of the registry, in order.
 */
#ifndef PIGEON_REGISTRY_H
#define PIGEON_REGISTRY_H

/* pigeon.queue */
enum
{
	Anum_queue_id = 1,
	Anum_queue_name,
	Anum_queue_fifo,
	Anum_queue_visibility_timeout,
	Anum_queue_delay,
	Anum_queue_retention,
	Anum_queue_wait_time,
	Anum_queue_max_message_size,
	Anum_queue_dead_letter_queue,
	Anum_queue_max_receive_count,
	Anum_queue_redrive_allow_policy,
	Anum_queue_content_based_deduplication,
	Anum_queue_deduplication_scope,
	Anum_queue_notify,
	Anum_queue_tags,
	Anum_queue_deduplication_window,
};

/* pigeon.topic */
enum
{
	Anum_topic_id = 1,
	Anum_topic_name,
	Anum_topic_fifo,
	Anum_topic_content_based_deduplication,
	Anum_topic_max_message_size,
	Anum_topic_archive_retention,
	Anum_topic_tags,
	Anum_topic_archive_segment,
	Anum_topic_archive_since,
};

/* pigeon.subscription */
enum
{
	Anum_subscription_id = 1,
	Anum_subscription_topic_id,
	Anum_subscription_queue,
	Anum_subscription_owner,
	Anum_subscription_filter_policy,
	Anum_subscription_filter_scope,
	Anum_subscription_raw_delivery,
	Anum_subscription_dead_letter_queue,
};

#endif							/* PIGEON_REGISTRY_H */
