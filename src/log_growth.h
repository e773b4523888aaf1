/*
 * log_growth.h
 *		Room in the log for messages to come.
 */
#ifndef PIGEON_LOG_GROWTH_H
#define PIGEON_LOG_GROWTH_H

#include "utils/rel.h"

extern void pgn_log_grow(Relation rel, BlockNumber used);

#endif							/* PIGEON_LOG_GROWTH_H */
