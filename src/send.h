/*
 * send.h
 *		Putting messages into a queue.
 */
#ifndef PIGEON_SEND_H
#define PIGEON_SEND_H

#include "message.h"
#include "queue.h"

extern void pgn_send_messages(Queue *queue, Message *messages, int n, int64 delay);

#endif							/* PIGEON_SEND_H */
