/*
 * publish.h
 *		Putting messages into a topic.
 */
#ifndef PIGEON_PUBLISH_H
#define PIGEON_PUBLISH_H

#include "message.h"
#include "topic.h"

extern void pgn_check_publish(const Topic *topic, Message *message);
extern TimestampTz pgn_publish_messages(Topic *topic, Message *messages, int n, TimestampTz time);

#endif							/* PIGEON_PUBLISH_H */
