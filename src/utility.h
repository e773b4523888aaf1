/*
 * utility.h
 *		SQL commands that pigeon has to know of.
 */
#ifndef PIGEON_UTILITY_H
#define PIGEON_UTILITY_H

extern void pgn_utility_init(void);

#endif							/* PIGEON_UTILITY_H */
