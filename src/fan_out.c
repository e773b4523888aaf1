/*
 * fan_out.c
 *		From a topic to the queues of its subscribers.
 *
 * A message is written to the log once, if anybody gets it, and each subscriber
 * queue gets a delivery.  What all messages of a batch need is done once: a
 * queue is looked up, locked and opened, and its deliveries go in together.
 *
 * A publisher has nothing to do with what subscribers do to their queues, so
 * nothing of that is an error here.  A queue that was dropped or changed its
 * kind, that does not take messages of this size or with so many attributes,
 * whose table somebody has spoiled, or into which the subscription's owner
 * may not send (any more): the message goes to the subscription's dead-letter
 * queue if there is one that takes it.  Only locks are waited for, as in any
 * other send.
 *
 * Deliveries are made with the rights of the subscription's owner, which are
 * looked at each time, so that a REVOKE takes effect.  They are ordinary
 * rights on a table.
 *
 * A delivery's "home" is the subscriber's queue.  In a dead-letter queue it is
 * the subscription: its queue may not exist, and several subscriptions may
 * share a dead-letter queue.  Queues and subscriptions are numbered by one
 * sequence, so the two cannot be confused.
 *
 * A delivery's "subscription" is negative if the message is to be delivered in
 * an envelope, so that a message keeps its form whatever becomes of the
 * subscription; see envelope.c.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "delivery.h"
#include "fan_out.h"
#include "log.h"

/* Messages that are matched, logged and delivered at once. */
#define CHUNK 1000

/* A queue that a subscription's messages go to. */
typedef struct Destination
{
	bool		tried;			/* to open it */
	bool		open;
	DeliveryTable deliveries;
	int			n;				/* messages waiting to be delivered */
	int		   *messages;		/* their places in FanOut.logged */
} Destination;

/* The way to one subscriber. */
typedef struct Route
{
	const Subscription *subscription;
	Destination queue;
	Destination dead_letter_queue;
} Route;

/* One batch on its way. */
typedef struct FanOut
{
	Topic	   *topic;
	TimestampTz now;
	int			nroutes;
	Route	   *routes;
	MemoryContext match_context;	/* reset for each message */
	FilterInput *input;			/* the message as filters see it, NULL: not
								 * made yet */
	int			nlogged;		/* messages of the chunk that somebody gets */
	Message    *logged;
} FanOut;

/* Open the queue of this name on behalf of the subscription's owner, if it can take messages. */
static void
open_destination(const FanOut *out, Destination *destination, const char *name, Oid owner)
{
	Queue	   *queue;

	if (destination->tried)
		return;
	destination->tried = true;
	do
	{
		queue = pgn_queue_find(name);
		if (queue == NULL || !OidIsValid(owner))
			return;
	} while (!pgn_queue_lock(queue, RowExclusiveLock));

	if ((!queue->attributes.fifo || out->topic->attributes.fifo) &&
		pg_class_aclcheck(queue->relid, owner, ACL_INSERT) == ACLCHECK_OK)
		destination->open = pgn_deliveries_try_open(&destination->deliveries, queue, RowExclusiveLock);
}

/* Does the destination take this message? */
static bool
takes(const Destination *destination, const Subscription *subscription, const Message *message)
{
	return destination->open &&
		message->size <= destination->deliveries.queue->attributes.max_message_size &&
		(!subscription->raw_delivery || message->attributes == NULL ||
		 JB_ROOT_COUNT(message->attributes) <= PGN_MAX_ATTRIBUTES);
}

/* Note that a message, which will be logged in this place, is to be delivered. */
static void
deliver_later(Destination *destination, int place)
{
	if (destination->messages == NULL)
		destination->messages = palloc(CHUNK * sizeof(int));
	destination->messages[destination->n++] = place;
}

/* Does the message pass the subscription's filter? */
static bool
passes(FanOut *out, const Subscription *subscription, const Message *message)
{
	if (subscription->filter_policy == NULL)
		return true;
	if (out->input == NULL)
		out->input = pgn_filter_input(message->attributes, VARDATA_ANY(message->body),
									  VARSIZE_ANY_EXHDR(message->body), out->match_context);
	return pgn_filter_match(subscription->filter_policy, out->input) == PGN_FILTER_MATCHED;
}

/*
 * Decide where a message goes on this route, and note it.  False if nobody
 * gets it.  Dead letters of more attributes than a queue's message may have
 * keep them.
 */
static bool
route_message(FanOut *out, Route *route, const Message *message)
{
	const Subscription *subscription = route->subscription;

	if (!passes(out, subscription, message))
		return false;
	if (takes(&route->queue, subscription, message))
	{
		deliver_later(&route->queue, out->nlogged);
		return true;
	}
	if (subscription->dead_letter_queue == NULL)
		return false;
	open_destination(out, &route->dead_letter_queue, subscription->dead_letter_queue,
					 subscription->owner);
	if (!route->dead_letter_queue.open ||
		message->size > route->dead_letter_queue.deliveries.queue->attributes.max_message_size)
		return false;
	deliver_later(&route->dead_letter_queue, out->nlogged);
	return true;
}

/* Make the deliveries that are waiting; "home" is 0 for the queue's own. */
static void
deliver(FanOut *out, Destination *destination, const Subscription *subscription,
		int32 home, int32 source)
{
	Queue	   *queue = destination->deliveries.queue;
	int			n = destination->n;
	Delivery   *rows;

	if (n == 0)
		return;
	rows = palloc(n * sizeof(Delivery));
	for (int i = 0; i < n; i++)
	{
		rows[i] = pgn_delivery_make(queue, &out->logged[destination->messages[i]], out->now,
									queue->attributes.delay);
		rows[i].subscription = subscription->raw_delivery ? subscription->id : -subscription->id;
		rows[i].source = source;
		if (home != 0)
			rows[i].home = home;
		/* One after the other, so that the index keeps them in order. */
		rows[i].visible_at -= n - 1 - i;
	}
	pgn_deliveries_insert(&destination->deliveries, rows, n);
	pfree(rows);
	destination->n = 0;
}

/* Match, log and deliver some messages. */
static void
fan_out_chunk(FanOut *out, const Message *messages, int n)
{
	out->nlogged = 0;
	for (int i = 0; i < n; i++)
	{
		bool		wanted = false;

		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(out->match_context);
		out->input = NULL;
		for (int r = 0; r < out->nroutes; r++)
			if (route_message(out, &out->routes[r], &messages[i]))
				wanted = true;
		if (wanted)
			out->logged[out->nlogged++] = messages[i];
	}
	if (out->nlogged == 0)
		return;
	pgn_log_append(out->logged, out->nlogged, out->now);
	for (int r = 0; r < out->nroutes; r++)
	{
		Route	   *route = &out->routes[r];
		int32		source = route->queue.open ? route->queue.deliveries.queue->id : 0;

		deliver(out, &route->queue, route->subscription, 0, 0);
		deliver(out, &route->dead_letter_queue, route->subscription, route->subscription->id, source);
	}
}

/*
 * Deliver messages of a topic, already checked and numbered, to subscriptions
 * of it.  Their topic is set here.
 */
void
pgn_fan_out(Topic *topic, const Subscription *subscriptions, int nsubscriptions,
			Message *messages, int n, TimestampTz now)
{
	FanOut		out = {
		.topic = topic,.now = now,.nroutes = nsubscriptions,
		.routes = palloc0(nsubscriptions * sizeof(Route)),
		.match_context = AllocSetContextCreate(CurrentMemoryContext, "pigeon filter input",
											   ALLOCSET_DEFAULT_SIZES),
		.logged = palloc(Min(n, CHUNK) * sizeof(Message))
	};
	text	   *topic_name = cstring_to_text(topic->name);

	for (int r = 0; r < nsubscriptions; r++)
	{
		out.routes[r].subscription = &subscriptions[r];
		open_destination(&out, &out.routes[r].queue, subscriptions[r].queue, subscriptions[r].owner);
	}
	for (int i = 0; i < n; i++)
		messages[i].topic = topic_name;
	for (int done = 0; done < n; done += CHUNK)
		fan_out_chunk(&out, &messages[done], Min(n - done, CHUNK));

	for (int r = 0; r < nsubscriptions; r++)
	{
		if (out.routes[r].queue.open)
			pgn_deliveries_close(&out.routes[r].queue.deliveries, NoLock);
		if (out.routes[r].dead_letter_queue.open)
			pgn_deliveries_close(&out.routes[r].dead_letter_queue.deliveries, NoLock);
	}
	MemoryContextDelete(out.match_context);
}
