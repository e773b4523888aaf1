/*
 * named.h
 *		The schema, and what queues and topics have in common.
 */
#ifndef PIGEON_NAMED_H
#define PIGEON_NAMED_H

#include "nodes/parsenodes.h"
#include "storage/lockdefs.h"

/* What a thing with a name is; as the user calls it. */
#define PGN_QUEUE "queue"
#define PGN_TOPIC "topic"

extern Oid	pgn_schema(void);
extern Oid	pgn_relation(const char *name);
extern bool pgn_named_lock(Oid relid, const bool *valid, LOCKMODE lockmode, bool wait);
extern bool pgn_just_dropped(Oid relid);
extern void pgn_unknown(const char *kind, const char *name) __attribute__((noreturn));
extern bool pgn_has_right(Oid relid, AclMode rights, Oid role);
extern Oid	pgn_relation_owner(Oid relid);
extern bool pgn_is_owner(Oid relid, Oid role);
extern void pgn_check_rights(const char *kind, const char *name, Oid relid, AclMode rights, Oid role);
extern void pgn_check_owner(const char *kind, const char *name, Oid relid);
extern void pgn_check_may_create(const char *kind);

#endif							/* PIGEON_NAMED_H */
