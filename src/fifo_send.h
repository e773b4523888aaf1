/*
 * fifo_send.h
 *		Sending to FIFO queues.
 */
#ifndef PIGEON_FIFO_SEND_H
#define PIGEON_FIFO_SEND_H

#include "message.h"
#include "queue.h"

extern void pgn_fifo_check_message(const Queue *queue, const Message *message);
extern void pgn_fifo_send(Queue *queue, Message *messages, int n, bool has_delay);

#endif							/* PIGEON_FIFO_SEND_H */
