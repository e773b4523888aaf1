/*
 * log_rotation.h
 *		Keeping the message log small.
 */
#ifndef PIGEON_LOG_ROTATION_H
#define PIGEON_LOG_ROTATION_H

extern void pgn_log_rotate(void);
extern bool pgn_log_free_segment(int segment);
extern void pgn_log_clean_old(void);

#endif							/* PIGEON_LOG_ROTATION_H */
