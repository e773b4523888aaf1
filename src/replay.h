/*
 * replay.h
 *		Replay tasks: delivering archived messages again.
 */
#ifndef PIGEON_REPLAY_H
#define PIGEON_REPLAY_H

extern bool pgn_replay_step(int64 task_id);
extern int64 *pgn_replay_running(int *n);

#endif							/* PIGEON_REPLAY_H */
