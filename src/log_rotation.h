/*
 * log_rotation.h
 *		Keeping the message log small.
 */
#ifndef PIGEON_LOG_ROTATION_H
#define PIGEON_LOG_ROTATION_H

#include "datatype/timestamp.h"

extern void pgn_log_rotate(void);
extern bool pgn_log_free_segment(int segment, bool patient);
extern void pgn_log_clean_anew(void);
extern bool pgn_log_clean_old(void);
extern TimestampTz pgn_log_next_look(TimestampTz now);
extern bool pgn_log_old_is_empty(void);

#endif							/* PIGEON_LOG_ROTATION_H */
