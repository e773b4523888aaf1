/*
 * wakeup.c
 *		Waiting for messages.
 *
 * Nothing is awaited but time: a waiter looks again every
 * pigeon.poll_interval.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "pigeon.h"
#include "wakeup.h"

/* Return when it is worth looking for messages again, or it is "until". */
void
pgn_wait_for_messages(const Queue *queue, TimestampTz until)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(left, pgn_poll_interval), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}
