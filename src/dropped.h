/*
 * dropped.h
 *		Taking what was dropped out of the registry.
 */
#ifndef PIGEON_DROPPED_H
#define PIGEON_DROPPED_H

extern void pgn_forget_queue(int32 id);
extern void pgn_forget_topic(int32 id);
extern void pgn_forget_subscription(int32 id);

#endif							/* PIGEON_DROPPED_H */
