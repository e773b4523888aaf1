/*
 * fan_out.c
 *		From a topic to the queues of its subscribers.
 *
 * A message is written to the log once, if anybody gets it, and each subscriber
 * queue gets a delivery.  What all messages of a batch need is done once: a
 * queue is looked up, locked and opened, and its deliveries go in together.  A
 * queue that no message is for is not touched.
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
 * looked at each time, so that a REVOKE takes effect: to subscribe to the
 * topic, and to send to the queue.  Who may not subscribe (any more) gets no
 * dead letters either.
 *
 * A delivery's "home" is the subscriber's queue.  In a dead-letter queue it is
 * the subscription: its queue may not exist, and several subscriptions may
 * share a dead-letter queue.  Queues and subscriptions are numbered by one
 * sequence, so the two cannot be confused.
 *
 * A delivery's "subscription" is negative if the message is to be delivered in
 * an envelope, so that a message keeps its form whatever becomes of the
 * subscription; see envelope.c.
 *
 * FIFO.  Publishers to a group of a FIFO topic take turns, as senders to a
 * group of a queue do, and each takes the send locks of the group in all FIFO
 * queues it may deliver to before any message_id is taken.  So the order of
 * message_ids, which is that of commits, is the same for all subscribers, and
 * for who sends to their queues directly.  Queues are locked, and then filled,
 * in the order of their numbers, so that publishers to different topics do not
 * deadlock.  A FIFO queue recognises duplicates
 * of its own, sent to it by other ways; but a replay is not a duplicate of
 * what it repeats, nor a dead letter one of anything.  Standard queues that subscribe to a FIFO topic learn
 * nothing of groups.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "activity.h"
#include "deduplication.h"
#include "delivery_scan.h"
#include "fan_out.h"
#include "fifo.h"
#include "log.h"
#include "schedule.h"

/* Messages of a standard topic that are matched, logged and delivered at once, at the most. */
#define MAX_CHUNK 1000

/* The locks of so many a backend has room for itself; more take room in the server's lock table. */
#define FEW_ROUTES 4

/* A queue that a subscription's messages go to, opened when the first one does. */
typedef struct Destination
{
	struct Route *route;
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
	bool		allowed;		/* may the owner subscribe? */
	Destination queue;
	Destination dead_letter_queue;
} Route;

/* Messages on their way. */
struct FanOut
{
	Topic	   *topic;
	Oid			owner;			/* of the topic */
	TimestampTz now;
	int			nroutes;
	Route	   *routes;
	int			ndestinations;
	Destination **destinations; /* those of all routes, in the order in which
								 * they are locked and filled */
	MemoryContext match_context;	/* reset for each message */
	FilterInput *input;			/* the message as filters see it, NULL: not
								 * made yet */
	int			chunk;			/* messages that are matched, logged and
								 * delivered at once */
	int			left;			/* messages of later chunks */
	int			nlogged;		/* messages of the chunk that somebody gets */
	Message    *logged;
};

/*
 * Can we look for deliveries that are in the queue already?  What is unique
 * there must be what we can look for.  If not, it is closed.
 */
static bool
can_look(DeliveryTable *deliveries)
{
	PgnTable   *table = &deliveries->table;

	if (pgn_table_find_index(table, pgn_message_index, lengthof(pgn_message_index)) ||
		pgn_table_unique_by(table, NULL, 0))
		return true;
	pgn_deliveries_close(deliveries, RowExclusiveLock);
	return false;
}

/*
 * Open the queue of this name, if there is one (NULL: none), it can take
 * messages of the topic, and the subscription's owner may send to it; once.
 */
static void
open_destination(const FanOut *out, Destination *destination, const char *name, Oid owner)
{
	Queue	   *queue;

	if (destination->tried || name == NULL)
		return;
	destination->tried = true;
	do
	{
		queue = pgn_queue_find(name);
		if (queue && pgn_queue_lock_now(queue, RowExclusiveLock))
			break;
		queue = pgn_queue_find_as(name, ACL_INSERT, owner);
		if (queue == NULL)
			return;
	} while (!pgn_queue_lock(queue, RowExclusiveLock));

	if (!pgn_has_right(queue->relid, ACL_INSERT, owner))
		return;
	if (!queue->attributes.fifo)
		destination->open = pgn_deliveries_try_open(&destination->deliveries, queue, RowExclusiveLock) &&
			can_look(&destination->deliveries);
	else if (out->topic->attributes.fifo && pgn_schedule_usable(queue, NoLock) && pgn_deduplication_usable(queue))
		destination->open = pgn_deliveries_try_open_indexed(&destination->deliveries, queue, RowExclusiveLock);
}

/* Open the subscriber's queue. */
static void
open_queue(const FanOut *out, Route *route)
{
	if (route->allowed)
		open_destination(out, &route->queue, route->subscription->queue, route->subscription->owner);
}

/* Open the subscription's dead-letter queue. */
static void
open_dead_letter_queue(const FanOut *out, Route *route)
{
	if (route->allowed)
		open_destination(out, &route->dead_letter_queue, route->subscription->dead_letter_queue,
						 route->subscription->owner);
}

/* Order of destinations by queue; those that are not open come last. */
static int
compare_destinations(const void *a, const void *b)
{
	const Destination *x = *(const Destination *const *) a;
	const Destination *y = *(const Destination *const *) b;
	int64		x_id = x->open ? x->deliveries.queue->id : PG_INT64_MAX;
	int64		y_id = y->open ? y->deliveries.queue->id : PG_INT64_MAX;

	if (x_id != y_id)
		return x_id < y_id ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Take the send locks of the messages' groups in all FIFO queues. */
static void
lock_groups(FanOut *out, const Message *messages, int n)
{
	pgn_fifo_lock_groups(&out->topic->queue, messages, n);
	for (int r = 0; r < out->nroutes; r++)
	{
		open_queue(out, &out->routes[r]);
		open_dead_letter_queue(out, &out->routes[r]);
	}
	qsort(out->destinations, out->ndestinations, sizeof(Destination *), compare_destinations);
	for (int i = 0; i < out->ndestinations && out->destinations[i]->open; i++)
		if (out->destinations[i]->deliveries.queue->attributes.fifo)
			pgn_fifo_lock_groups(out->destinations[i]->deliveries.queue, messages, n);
}

/*
 * Prepare for delivering messages, which need no message_id yet, to
 * subscriptions of a topic that is locked.
 */
FanOut *
pgn_fan_out_begin(Topic *topic, const Subscription *subscriptions, int nsubscriptions,
				  const Message *messages, int n)
{
	FanOut	   *out = palloc0(sizeof(FanOut));

	out->topic = topic;
	out->owner = pgn_relation_owner(topic->relid);
	out->nroutes = nsubscriptions;
	out->routes = palloc0(nsubscriptions * sizeof(Route));
	out->destinations = palloc(2 * nsubscriptions * sizeof(Destination *));
	out->match_context = AllocSetContextCreate(CurrentMemoryContext, "pigeon filter input",
											   ALLOCSET_DEFAULT_SIZES);

	/*
	 * Deduplication keys are taken in one order, or two batches could
	 * deadlock.
	 */
	out->chunk = topic->attributes.fifo ? n : Min(n, MAX_CHUNK);
	out->logged = palloc(out->chunk * sizeof(Message));
	for (int r = 0; r < nsubscriptions; r++)
	{
		Route	   *route = &out->routes[r];

		route->subscription = &subscriptions[r];
		route->queue.route = route->dead_letter_queue.route = route;
		out->destinations[out->ndestinations++] = &route->queue;
		out->destinations[out->ndestinations++] = &route->dead_letter_queue;
		route->allowed = OidIsValid(subscriptions[r].owner) &&
			pgn_has_right(topic->relid, PGN_ACL_SUBSCRIBE, subscriptions[r].owner);
	}
	if (topic->attributes.fifo)
		lock_groups(out, messages, n);
	return out;
}

/* Does the message pass the subscription's filter?  Counts those that do not. */
static bool
passes(FanOut *out, const Subscription *subscription, const Message *message)
{
	FilterResult result;

	if (subscription->filter_policy == NULL)
		return true;
	if (out->input == NULL)
		out->input = pgn_filter_input(message->attributes, VARDATA_ANY(message->body),
									  VARSIZE_ANY_EXHDR(message->body), out->match_context);
	result = pgn_filter_match(subscription->filter_policy, out->input);
	if (result == PGN_FILTER_MATCHED)
		return true;
	pgn_activity_count(&out->topic->queue, COUNT_FILTERED_OUT + result, 1);
	return false;
}

/* Is the message of a size that the destination takes? */
static bool
fits(const Destination *destination, const Message *message)
{
	return destination->open &&
		message->size <= destination->deliveries.queue->attributes.max_message_size;
}

/* May the message be delivered in its form?  A raw one has no more attributes than any other in a queue. */
static bool
has_form(const Subscription *subscription, const Message *message)
{
	return !subscription->raw_delivery || message->attributes == NULL ||
		JB_ROOT_COUNT(message->attributes) <= PGN_MAX_ATTRIBUTES;
}

/* Note that a message, which will be the next to be logged, is to be delivered. */
static void
deliver_later(const FanOut *out, Destination *destination)
{
	if (destination->messages == NULL)
		destination->messages = palloc(out->chunk * sizeof(int));
	destination->messages[destination->n++] = out->nlogged;
}

/* Decide where a message goes on this route, and note it.  False if nobody gets it. */
static bool
route_message(FanOut *out, Route *route, const Message *message)
{
	const Subscription *subscription = route->subscription;
	Queue	   *topic = &out->topic->queue;

	if (!passes(out, subscription, message))
		return false;
	open_queue(out, route);
	if (fits(&route->queue, message) && has_form(subscription, message))
	{
		deliver_later(out, &route->queue);
		pgn_activity_count(topic, COUNT_DELIVERED, 1);
		return true;
	}
	pgn_activity_count(topic, COUNT_FAILED, 1);
	if (!route->allowed || subscription->dead_letter_queue == NULL)
		return false;
	open_dead_letter_queue(out, route);
	if (fits(&route->dead_letter_queue, message))
	{
		deliver_later(out, &route->dead_letter_queue);
		pgn_activity_count(topic, COUNT_DEAD_LETTERED, 1);
		return true;
	}
	pgn_activity_count(topic, COUNT_FAILED_TO_DEAD_LETTER, 1);
	return false;
}

/*
 * The messages that are waiting for a destination, but for those that a FIFO
 * queue has seen already; how many they are.  Dead letters are never
 * duplicates: equal ids of different topics, or of different times, say
 * nothing, and what is left out would be lost.
 */
static int
take_waiting(FanOut *out, Destination *destination, Message *waiting)
{
	Queue	   *queue = destination->deliveries.queue;
	int			n = destination->n;
	Message    *fresh;

	for (int i = 0; i < n; i++)
		waiting[i] = out->logged[destination->messages[i]];
	destination->n = 0;
	if (!queue->attributes.fifo || waiting[0].replayed_message_id != 0 ||
		destination == &destination->route->dead_letter_queue)
		return n;
	fresh = palloc(n * sizeof(Message));
	n = pgn_deduplicate(queue, waiting, n, out->now, fresh);
	memcpy(waiting, fresh, n * sizeof(Message));
	pfree(fresh);
	return n;
}

/* Deliveries that are about to go to one queue. */
typedef struct Batch
{
	Delivery   *rows;
	int			n;
} Batch;

/* Make the deliveries that are waiting for a destination, and add them to a batch. */
static void
add_deliveries(FanOut *out, Destination *destination, Batch *batch)
{
	const Route *route = destination->route;
	const Subscription *subscription = route->subscription;
	bool		dead_letters = destination == &route->dead_letter_queue;
	Queue	   *queue = destination->deliveries.queue;
	Message    *messages;
	Delivery   *rows;
	int			n;

	if (destination->n == 0)
		return;
	messages = palloc(destination->n * sizeof(Message));
	n = take_waiting(out, destination, messages);
	batch->rows = batch->rows ? repalloc(batch->rows, (batch->n + n) * sizeof(Delivery)) :
		palloc(n * sizeof(Delivery));
	rows = &batch->rows[batch->n];
	for (int i = 0; i < n; i++)
	{
		/* A group of a FIFO topic is no tenant of a standard queue. */
		if (out->topic->attributes.fifo && !queue->attributes.fifo)
			messages[i].group_id = NULL;
		rows[i] = pgn_delivery_make(queue, &messages[i], out->now, queue->attributes.delay);
		rows[i].subscription = subscription->raw_delivery ? subscription->id : -subscription->id;
		if (dead_letters)
		{
			rows[i].home = subscription->id;
			rows[i].source = route->queue.open ? route->queue.deliveries.queue->id : 0;
		}
		/* One after the other, so that the index keeps them in order. */
		pgn_delivery_show(&rows[i], rows[i].visible_at - (out->left + n - 1 - i));
		pgn_activity_count(queue, COUNT_SENT_BYTES, messages[i].size);
	}
	pgn_activity_count(queue, COUNT_SENT, n);
	batch->n += n;
	pfree(messages);
}

/*
 * Leave out what is in the queue already; how many deliveries are left.  Its
 * owner can have written rows with numbers that were yet to come, and nobody else
 * is to fail for that.  Who owns the topic, too, may do to it what he likes.
 */
static int
leave_out_forged(FanOut *out, DeliveryTable *deliveries, Delivery *rows, int n)
{
	DeliveryScan scan;
	int			left = 0;

	if (deliveries->table.rel->rd_rel->relowner == out->owner ||
		!pgn_table_find_index(&deliveries->table, pgn_message_index, lengthof(pgn_message_index)))
		return n;
	pgn_message_scan_begin(&scan, deliveries, 0, 0, NULL);
	for (int i = 0; i < n; i++)
	{
		pgn_message_scan_restart(&scan, rows[i].message_id, rows[i].home);
		if (pgn_scan_any(&scan))
			pgn_activity_count(&out->topic->queue, COUNT_FAILED, 1);
		else
			rows[left++] = rows[i];
	}
	pgn_scan_end(&scan);
	return left;
}

/*
 * Make the deliveries that are waiting for n destinations that are the same
 * queue.  They go in together: to a group of a FIFO queue nothing may come
 * before what is there.
 */
static void
deliver(FanOut *out, Destination **destinations, int n)
{
	DeliveryTable *deliveries = &destinations[0]->deliveries;
	Batch		batch = {0};

	for (int i = 0; i < n; i++)
		add_deliveries(out, destinations[i], &batch);
	if (batch.n > 0)
		batch.n = leave_out_forged(out, deliveries, batch.rows, batch.n);
	if (batch.n > 0 && deliveries->queue->attributes.fifo)
		pgn_fifo_insert(deliveries, batch.rows, batch.n, out->now);
	else if (batch.n > 0)
		pgn_deliveries_insert(deliveries, batch.rows, batch.n, NULL);
	if (batch.rows)
		pfree(batch.rows);
}

/* How many of the destinations, from one on, are the same queue? */
static int
count_same_queue(const FanOut *out, int from)
{
	const Destination *first = out->destinations[from];
	int			n = 1;

	while (from + n < out->ndestinations && first->open && out->destinations[from + n]->open &&
		   out->destinations[from + n]->deliveries.queue == first->deliveries.queue)
		n++;
	return n;
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
	for (int i = 0, same; i < out->ndestinations; i += same)
	{
		same = count_same_queue(out, i);
		deliver(out, &out->destinations[i], same);
	}
}

/* Deliver messages, those the fan-out was begun with or some of them, already numbered. */
void
pgn_fan_out(FanOut *out, Message *messages, int n, TimestampTz now)
{
	text	   *topic_name = cstring_to_text(out->topic->name);

	out->now = now;
	for (int i = 0; i < n; i++)
		messages[i].topic = topic_name;
	for (int done = 0; done < n; done += out->chunk)
	{
		int			chunk = Min(n - done, out->chunk);

		out->left = n - done - chunk;
		fan_out_chunk(out, &messages[done], chunk);
	}
}

/*
 * Close a destination, keeping the lock on its table; those on the indexes,
 * too, unless they are so many that they fill the server's lock table.
 */
static void
close_destination(const FanOut *out, Destination *destination)
{
	if (!destination->open)
		return;
	if (out->nroutes > FEW_ROUTES)
		pgn_table_unlock_indexes(&destination->deliveries.table, RowExclusiveLock);
	pgn_deliveries_close(&destination->deliveries, NoLock);
}

/* Close what was opened, keeping the locks. */
void
pgn_fan_out_end(FanOut *out)
{
	for (int r = 0; r < out->nroutes; r++)
	{
		close_destination(out, &out->routes[r].queue);
		close_destination(out, &out->routes[r].dead_letter_queue);
	}
	MemoryContextDelete(out->match_context);
	pfree(out);
}

/* Would a message of the topic, which is locked, come to the subscriber's queue, and is that complete (if it must be)? */
bool
pgn_fan_out_reaches(Topic *topic, const Subscription *subscription, bool complete)
{
	FanOut	   *out = pgn_fan_out_begin(topic, subscription, 1, NULL, 0);
	bool		reaches;

	open_queue(out, &out->routes[0]);
	reaches = out->routes[0].queue.open &&
		(!complete || pgn_table_find_index(&out->routes[0].queue.deliveries.table, pgn_message_index, 2));
	pgn_fan_out_end(out);
	return reaches;
}
