/*
 * condition.h
 *		Conditions on the old and new row of a change.
 */
#ifndef PIGEON_CONDITION_H
#define PIGEON_CONDITION_H

extern char *pgn_condition(const char *condition, Oid relid, const char *absent);

#endif							/* PIGEON_CONDITION_H */
