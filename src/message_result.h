/*
 * message_result.h
 *		The messages that receive, pop and peek return.
 */
#ifndef PIGEON_MESSAGE_RESULT_H
#define PIGEON_MESSAGE_RESULT_H

#include "fmgr.h"
#include "nodes/execnodes.h"

#include "delivery.h"
#include "log_reader.h"
#include "receipt.h"

/* Messages on their way to the caller. */
typedef struct MessageResult
{
	ReturnSetInfo *rsinfo;		/* where they go */
	LogReader	reader;
	MemoryContext per_message;
	int			n;				/* how many there are */
} MessageResult;

extern void pgn_result_begin(MessageResult *result, FunctionCallInfo fcinfo);
extern void pgn_result_add(MessageResult *result, const Queue *queue, const Delivery *row, Receipt *receipt);
extern void pgn_result_add_received(MessageResult *result, Queue *queue, const Delivery *row, bool pop);
extern void pgn_result_end(MessageResult *result);

#endif							/* PIGEON_MESSAGE_RESULT_H */
