/*
 * admin.h
 *		What creating and altering queues and topics share.
 */
#ifndef PIGEON_ADMIN_H
#define PIGEON_ADMIN_H

#include "fmgr.h"
#include "utils/jsonb.h"

#define PGN_MAX_ARGUMENTS 16

/*
 * What the caller gave, each argument at its position in the create function;
 * an attribute that is not given has no value.  The name comes first.
 */
typedef struct Given
{
	NullableDatum args[PGN_MAX_ARGUMENTS];
} Given;

#define GIVEN(given, arg) (!(given)->args[arg].isnull)
#define VALUE(given, arg) ((given)->args[arg].value)

extern void pgn_take_arguments(FunctionCallInfo fcinfo, const int *places, Given *given);
extern char *pgn_name_argument(const Given *given, const char *kind);
extern void pgn_refuse_existing(const Given *given, int if_not_exists, const char *kind, const char *name);

extern void pgn_bad_attribute(const char *problem, const char *hint) __attribute__((noreturn));
extern void pgn_check_max_message_size(int32 size);
extern void pgn_check_tags(Jsonb *tags);
extern int32 pgn_new_id(void);

#endif							/* PIGEON_ADMIN_H */
