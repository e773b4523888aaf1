/*
 * redrive.h
 *		Redrive tasks: moving dead letters back.
 */
#ifndef PIGEON_REDRIVE_H
#define PIGEON_REDRIVE_H

extern bool pgn_redrive_step(int64 task_id);

#endif							/* PIGEON_REDRIVE_H */
