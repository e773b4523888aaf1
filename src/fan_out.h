/*
 * fan_out.h
 *		From a topic to the queues of its subscribers.
 */
#ifndef PIGEON_FAN_OUT_H
#define PIGEON_FAN_OUT_H

#include "message.h"
#include "topic.h"

typedef struct FanOut FanOut;

extern bool pgn_fan_out_reaches(Topic *topic, const Subscription *subscription, bool complete);
extern FanOut *pgn_fan_out_begin(Topic *topic, const Subscription *subscriptions, int nsubscriptions,
								 const Message *messages, int n);
extern void pgn_fan_out(FanOut *out, Message *messages, int n, TimestampTz now);
extern void pgn_fan_out_end(FanOut *out);

#endif							/* PIGEON_FAN_OUT_H */
