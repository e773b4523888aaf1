/*
 * known_place.h
 *		Where this backend has put rows that it may look for again.
 */
#ifndef PIGEON_KNOWN_PLACE_H
#define PIGEON_KNOWN_PLACE_H

#include "storage/itemptr.h"

extern void pgn_place_remember(Oid relid, int64 key, ItemPointerData place);
extern bool pgn_place_recall(Oid relid, int64 key, ItemPointerData *place);

#endif							/* PIGEON_KNOWN_PLACE_H */
