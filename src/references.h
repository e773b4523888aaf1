/*
 * references.h
 *		Which messages of the log do deliveries refer to?
 */
#ifndef PIGEON_REFERENCES_H
#define PIGEON_REFERENCES_H

#include "utils/snapshot.h"

/* Called for a reference; false ends the search. */
typedef bool (*PgnReferenceCallback) (int64 message_id, void *arg);

extern void pgn_references_begin_run(void);
extern bool pgn_references_complete(void);
extern bool pgn_references_find(Snapshot snapshot, int64 from_id, int64 to_id, int segment,
								PgnReferenceCallback callback, void *arg);

#endif							/* PIGEON_REFERENCES_H */
