/*
 * message_id.h
 *		The numbers of messages.
 */
#ifndef PIGEON_MESSAGE_ID_H
#define PIGEON_MESSAGE_ID_H

#include "message.h"

extern void pgn_message_id_init(void);
extern int64 pgn_take_message_id(void);
extern int64 pgn_last_message_id(void);
extern void pgn_number_messages(Message *messages, int n);

#endif							/* PIGEON_MESSAGE_ID_H */
