/*
 * registry.h
 *		Columns of the table pigeon.queue, in order.
 */
#ifndef PIGEON_REGISTRY_H
#define PIGEON_REGISTRY_H

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

#endif							/* PIGEON_REGISTRY_H */
