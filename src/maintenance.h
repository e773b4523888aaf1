/*
 * maintenance.h
 *		The jobs that keep queues in order.
 */
#ifndef PIGEON_MAINTENANCE_H
#define PIGEON_MAINTENANCE_H

#include "queue.h"

extern void pgn_maintain_queue(int32 queue_id);

#endif							/* PIGEON_MAINTENANCE_H */
