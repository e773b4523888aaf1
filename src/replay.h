/*
 * replay.h
 *		Replay tasks: delivering archived messages again.
 */
#ifndef PIGEON_REPLAY_H
#define PIGEON_REPLAY_H

extern bool pgn_replay_step(int64 task_id);

#endif							/* PIGEON_REPLAY_H */
