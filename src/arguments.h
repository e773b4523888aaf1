/*
 * arguments.h
 *		Arguments of SQL functions.
 */
#ifndef PIGEON_ARGUMENTS_H
#define PIGEON_ARGUMENTS_H

#include "fmgr.h"
#include "utils/jsonb.h"

#include "message.h"

/* Which arguments of a function are the arrays that messages are made of; 0: there is no such array. */
typedef struct MessageArguments
{
	int			bodies;
	int			subjects;
	int			attributes;
	int			group_ids;
	int			deduplication_ids;
} MessageArguments;

extern void pgn_null_argument(const char *what) __attribute__((noreturn));
extern void pgn_keep_memory(void);
extern int	pgn_array_argument(FunctionCallInfo fcinfo, int argno, const char *what, int n,
							   Datum **values, bool **nulls);
extern Message *pgn_messages_argument(FunctionCallInfo fcinfo, const MessageArguments *where,
									  Datum **bodies, int *n);
extern void pgn_return_message_ids(FunctionCallInfo fcinfo, const Message *messages, int n);
extern Datum pgn_next_message_id(FunctionCallInfo fcinfo);
extern text *pgn_jsonb_body(Jsonb *document);

#endif							/* PIGEON_ARGUMENTS_H */
