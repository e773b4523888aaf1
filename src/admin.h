/*
 * admin.h
 *		What creating and altering queues and topics share.
 */
#ifndef PIGEON_ADMIN_H
#define PIGEON_ADMIN_H

#include "utils/jsonb.h"

extern void pgn_bad_attribute(const char *problem, const char *hint) __attribute__((noreturn));
extern void pgn_check_name(const char *name, const char *what);
extern void pgn_check_max_message_size(int32 size);
extern void pgn_check_tags(Jsonb *tags);
extern int32 pgn_new_id(void);

#endif							/* PIGEON_ADMIN_H */
