/*
 * standard_receive.h
 *		Receiving from standard queues.
 */
#ifndef PIGEON_STANDARD_RECEIVE_H
#define PIGEON_STANDARD_RECEIVE_H

#include "claims.h"
#include "message_result.h"

/* One look for messages that are due. */
typedef struct StandardReceive
{
	MessageResult *result;		/* where the messages go */
	int			max_messages;
	int			max_cleared;	/* by a receive that finds something */
	bool		pop;			/* delete what is received */
	int64		visibility_timeout; /* microseconds */
	bool		advance;		/* advance the frontier on the way; if so, it
								 * knows */
	int			cleared;		/* expired messages and dead letters */
	int			taken;			/* messages, those included that turn out to
								 * be lost */

	/* The rest is for the look itself. */
	Claims	   *claims;			/* what is to be returned next */
	bool		knows;			/* sees all that others see, or may see again */
	bool		in_place;		/* lease in place what can be */
	TimestampTz changed_from;	/* the first place in the normal lane that it
								 * took aside of a scan */
} StandardReceive;

extern void pgn_standard_receive(StandardReceive *receive, Queue *queue);
extern bool pgn_standard_look_below(DeliveryTable *deliveries);

#endif							/* PIGEON_STANDARD_RECEIVE_H */
