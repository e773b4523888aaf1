/*
 * housekeeping.h
 *		Removing what nobody needs from shared memory.
 */
#ifndef PIGEON_HOUSEKEEPING_H
#define PIGEON_HOUSEKEEPING_H

extern bool pgn_forget_dropped_queues(void);
extern bool pgn_forget_all_queues(void);
extern void pgn_forget_database(Oid oid);

#endif							/* PIGEON_HOUSEKEEPING_H */
