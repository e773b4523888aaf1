/*
 * counter_file.h
 *		Keeping the counters over a restart.
 */
#ifndef PIGEON_COUNTER_FILE_H
#define PIGEON_COUNTER_FILE_H

extern void pgn_counter_file_init(void);

#endif							/* PIGEON_COUNTER_FILE_H */
