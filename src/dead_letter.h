/*
 * dead_letter.h
 *		Moving what was received too often to the dead-letter queue.
 */
#ifndef PIGEON_DEAD_LETTER_H
#define PIGEON_DEAD_LETTER_H

#include "delivery.h"

typedef enum DeadLetterResult
{
	DEAD_LETTER_MOVED,			/* it is in the dead-letter queue */
	DEAD_LETTER_MISSING,		/* there is no such queue, or it is of no use */
	DEAD_LETTER_DUPLICATE,		/* the queue has this message already */
	DEAD_LETTER_BUSY			/* not now */
} DeadLetterResult;

/* The dead-letter queue of one source, opened when the first message is moved. */
typedef struct DeadLetters
{
	DeliveryTable *source;
	bool		looked_up;
	Queue	   *queue;			/* NULL: missing */
	bool		open;
	bool		changed;		/* it, by this */
	DeliveryTable target;
} DeadLetters;

extern void pgn_dead_letters_begin(DeadLetters *letters, DeliveryTable *source);
extern bool pgn_dead_letter_stays(DeliveryTable *source, const Delivery *row);
extern DeadLetterResult pgn_dead_letter(DeadLetters *letters, const DeliveryVersion *version,
										TimestampTz now);
extern void pgn_dead_letters_end(DeadLetters *letters);

#endif							/* PIGEON_DEAD_LETTER_H */
