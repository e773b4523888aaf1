/*
 * durability.h
 *		Which commits need not wait for the disk.
 */
#ifndef PIGEON_DURABILITY_H
#define PIGEON_DURABILITY_H

extern void pgn_lease_begin(void);
extern void pgn_lease_end(void);

#endif							/* PIGEON_DURABILITY_H */
