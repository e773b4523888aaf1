/*
 * fan_out.h
 *		From a topic to the queues of its subscribers.
 */
#ifndef PIGEON_FAN_OUT_H
#define PIGEON_FAN_OUT_H

#include "message.h"
#include "topic.h"

extern void pgn_fan_out(Topic *topic, const Subscription *subscriptions, int nsubscriptions,
						Message *messages, int n, TimestampTz now);

#endif							/* PIGEON_FAN_OUT_H */
