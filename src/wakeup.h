/*
 * wakeup.h
 *		Waiting for messages.
 */
#ifndef PIGEON_WAKEUP_H
#define PIGEON_WAKEUP_H

#include "datatype/timestamp.h"

#include "queue.h"

extern void pgn_wait_for_messages(const Queue *queue, TimestampTz until);

#endif							/* PIGEON_WAKEUP_H */
