/*
 * metrics.c
 *		How many messages a queue has, and in which state.
 *
 * Reading this must cost the same for 10 messages and 10 million.  So a queue
 * is counted by walks of bounded length over the index of due deliveries: for
 * each lane one over what is due, from the frontier on, one over what is not
 * due yet, and one over those that sleep below the frontier.  A walk that comes to its end has counted exactly; for most
 * queues all do.  If not:
 *
 *	- How many messages there are in all, PostgreSQL's cumulative statistics
 *	  know: they count the live rows of each table as transactions commit, or
 *	  fail, and survive a restart.
 *
 *	- If what is due could not be counted, it is what the others leave.
 *
 *	- Of what is not due yet, or sleeps, the entries beyond the walk are counted without
 *	  looking at their rows, which is much cheaper, and taken to be alive in the
 *	  same proportion; this reaches farther than SQS allows in flight.
 *
 *	- If there are still more, and everything else was counted, they are what
 *	  the others leave.  Otherwise their number is extrapolated from the part
 *	  that was walked to the last place in the lane.
 *
 * Messages of noisy tenants (see fair.c) are in lanes of their own, so those of
 * quiet ones are counted apart without further cost.  If there is more of both
 * due than was counted, the entries beyond are counted without looking at their
 * rows, of that kind which has had fewer dead ones; what these leave is of the
 * other.  Dead entries come first in a lane, so beyond the walk there are hardly
 * any of those.
 *
 * Then the numbers are said to be approximate.  A walk is bounded in the index
 * entries it looks at, not in those that it finds alive.  Only deliveries that
 * sleep (see sleepers.c) it passes many of, since what is behind them may be
 * visible.
 *
 * A FIFO queue has no index of due deliveries.  It is counted in the order of
 * message_id; if it is too long for that, what is in flight or delayed is found
 * by the schedule of its groups, and the rest is visible.  There, too, entries
 * beyond the walk are counted and taken to be like those walked over, but for
 * the largest group, of which there may be just one.
 *
 * Only what is committed counts.  What has expired does not count any more.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "delivery_scan.h"
#include "fair.h"
#include "frontier.h"
#include "schedule.h"
#include "shared.h"
#include "sleepers.h"

PG_FUNCTION_INFO_V1(pgn_queue_figures);
PG_FUNCTION_INFO_V1(pgn_exact_queue_metrics);

/* Index entries that one walk looks at besides sleepers; and sleepers that it passes, or entries that are just counted beyond. */
#define WALK 10000
#define COUNT 150000

/* Columns of queue_figures, in order; those of exact_queue_metrics are the first. */
enum
{
	FIGURE_VISIBLE,
	FIGURE_IN_FLIGHT,
	FIGURE_DELAYED,
	FIGURE_OLDEST_SENT_AT,
	FIGURE_GROUPS_IN_FLIGHT,
	EXACT_FIGURES,
	FIGURE_APPROXIMATE = EXACT_FIGURES,
	FIGURE_FIRST_COUNTER,
	FIGURE_NOISY_GROUPS = FIGURE_FIRST_COUNTER + COUNT_REDRIVEN + 1,
	FIGURE_VISIBLE_QUIET,
	FIGURE_IN_FLIGHT_QUIET,
	FIGURE_DELAYED_QUIET,
	FIGURE_OLDEST_QUIET,
	FIGURES
};

/* Messages by what they are doing. */
typedef struct Counts
{
	int64		visible;
	int64		in_flight;
	int64		delayed;
	TimestampTz oldest;			/* DT_NOEND: none */
} Counts;

/* Who sent them. */
enum
{
	QUIET,
	NOISY,
	KINDS_OF_GROUPS
};

#define KIND(lane) ((lane) >= PGN_LANE_NOISY ? NOISY : QUIET)

/* What was counted of a queue. */
typedef struct Tally
{
	Queue	   *queue;
	TimestampTz now;
	Counts		counts[KINDS_OF_GROUPS];
	int64	   *groups;			/* of what is in flight, with repetitions */
	int64		ngroups;
	int64		groups_size;
	double		groups_factor;	/* how many times as many there probably are */
} Tally;

/* A walk over a part of a lane. */
typedef struct Walk
{
	int16		lane;
	TimestampTz from,
				until;
	DeliveryScan scan;
	int64		looked_at;		/* entries, if it did not come to the end */
	bool		complete;		/* came to the end */
	bool		ended;			/* counting beyond it did */
	int64		beyond;			/* entries that were counted */
	int64		visible;
	int64		in_flight;
	int64		delayed;
	TimestampTz reached;
} Walk;

/* What is due of one kind of groups, as far as it was walked over. */
typedef struct Due
{
	bool		complete;		/* that is all */
	bool		ended;			/* it and the entries beyond are */
	int64		beyond;
	int64		dead;			/* entries that the walks passed */
} Due;

/* Note the group of a message in flight. */
static void
add_group(Tally *tally, int64 group_key)
{
	if (group_key == 0)
		return;
	if (tally->ngroups == tally->groups_size)
	{
		tally->groups_size = Max(64, tally->groups_size * 2);
		tally->groups = tally->groups ?
			repalloc_huge(tally->groups, tally->groups_size * sizeof(int64)) :
			palloc(tally->groups_size * sizeof(int64));
	}
	tally->groups[tally->ngroups++] = group_key;
}

/* Order of group keys. */
static int
compare_keys(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* How many groups have messages in flight. */
static int64
count_groups(Tally *tally)
{
	int64		n = 0;

	if (tally->ngroups > 0)
		qsort(tally->groups, tally->ngroups, sizeof(int64), compare_keys);
	for (int64 i = 0; i < tally->ngroups; i++)
		n += i == 0 || tally->groups[i] != tally->groups[i - 1];
	return n * tally->groups_factor;
}

/* Count one delivery. */
static void
count_delivery(Tally *tally, const DeliveryVersion *version)
{
	const Delivery *row = &version->row;
	Counts	   *counts = &tally->counts[KIND(row->lane)];
	TimestampTz since = row->enqueued_at;

	if (version->uncommitted || pgn_delivery_expired(tally->queue, row, tally->now))
		return;
	if (row->visible_at <= tally->now)
		counts->visible++;
	else if (row->received_at == PGN_NEVER)
		counts->delayed++;
	else
	{
		counts->in_flight++;
		add_group(tally, row->group_key);
	}
	/* In a dead-letter queue the age counts from the move, see dead_letter.c. */
	if (row->source != 0 && row->queue_receive_count == 0)
		since = row->due_at;
	counts->oldest = Min(counts->oldest, since);
}

/*
 * Count what a scan finds, looking at "limit" index entries and "sleepers"
 * besides; true if it came to its end.
 */
static bool
count_scan(Tally *tally, DeliveryScan *scan, int64 limit, int64 *sleepers, TimestampTz *reached)
{
	DeliveryVersion version;

	while (pgn_scan_next_within(scan, &version, &limit))
	{
		CHECK_FOR_INTERRUPTS();
		count_delivery(tally, &version);
		*reached = version.row.due_at;
		if (*sleepers > 0 && pgn_is_in_place(&version.row) && pgn_is_asleep(&version.row, tally->now))
		{
			(*sleepers)--;
			limit++;
		}
	}
	return limit >= 0;
}

/* Walk over a part of a lane. */
static void
begin_walk(Walk *walk, Tally *tally, DeliveryTable *deliveries, int16 lane,
		   TimestampTz from, TimestampTz until)
{
	Counts	   *counts = &tally->counts[KIND(lane)];
	Counts		before = *counts;
	int64		sleepers = COUNT;

	walk->lane = lane;
	walk->beyond = 0;
	walk->from = walk->reached = from;
	walk->until = until;
	pgn_due_scan_begin(&walk->scan, deliveries, lane, from, until);
	walk->complete = walk->ended = count_scan(tally, &walk->scan, WALK, &sleepers, &walk->reached);
	walk->looked_at = WALK + COUNT - sleepers;
	walk->visible = counts->visible - before.visible;
	walk->in_flight = counts->in_flight - before.in_flight;
	walk->delayed = counts->delayed - before.delayed;
}

/* End a walk; "count": count the entries beyond it first. */
static void
end_walk(Walk *walk, bool count)
{
	if (count && !walk->complete)
		walk->ended = pgn_scan_count(&walk->scan, COUNT, &walk->beyond);
	pgn_scan_end(&walk->scan);
}

/*
 * Where those are that sleep below the frontier of a lane, which was read
 * before.  What is after now, since the clock was set back, is not due.
 */
static Sleepers
find_sleepers(const Tally *tally, int16 lane, const Frontier *frontier)
{
	Sleepers	sleepers = pgn_sleepers_all(tally->queue, lane);

	if (frontier->at == PG_INT64_MIN)
		return PGN_NO_SLEEPERS;
	sleepers.to = Min(Min(sleepers.to, frontier->at - 1), tally->now);
	return sleepers;
}

/* Count what is due, as far as the walks go; find where to look for those who sleep. */
static void
count_due(Tally *tally, DeliveryTable *deliveries, Due due[KINDS_OF_GROUPS], Sleepers sleepers[PGN_LANES])
{
	Walk		walks[PGN_LANES];
	Walk		aside;

	due[QUIET] = due[NOISY] = (Due)
	{
		.complete = true,.ended = true
	};
	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		Frontier	frontier;

		pgn_frontier_read(tally->queue, lane, tally->now, &frontier);
		sleepers[lane] = find_sleepers(tally, lane, &frontier);
		for (int i = 0; i < frontier.nstragglers; i++)
		{
			if (frontier.stragglers[i] >= frontier.at ||
				(sleepers[lane].from <= frontier.stragglers[i] && frontier.stragglers[i] <= sleepers[lane].to))
				continue;
			begin_walk(&aside, tally, deliveries, lane, frontier.stragglers[i], frontier.stragglers[i]);
			end_walk(&aside, false);
		}
		begin_walk(&walks[lane], tally, deliveries, lane, frontier.at, tally->now);
		if (!walks[lane].complete)
			due[KIND(lane)].complete = false;
	}
	for (int16 lane = 0; lane < PGN_LANES; lane++)
	{
		Due		   *of_kind = &due[KIND(lane)];

		end_walk(&walks[lane], !due[QUIET].complete && !due[NOISY].complete);
		of_kind->ended = of_kind->ended && walks[lane].ended;
		of_kind->beyond += walks[lane].beyond;
		if (!walks[lane].complete)
			of_kind->dead += WALK - walks[lane].visible;
	}
}

/* Add to a range that was walked in part what is in the rest of it. */
static void
enlarge(Tally *tally, const Walk *walk, double factor)
{
	Counts	   *counts = &tally->counts[KIND(walk->lane)];

	counts->in_flight += (factor - 1) * walk->in_flight;
	counts->delayed += (factor - 1) * walk->delayed;
}

/* How much larger a range probably is than the part that was walked. */
static double
extrapolate(DeliveryTable *deliveries, const Walk *walk)
{
	TimestampTz last = walk->until == PG_INT64_MAX ? pgn_last_due(deliveries, walk->lane) : walk->until;

	if (walk->reached <= walk->from || last <= walk->reached)
		return 1;
	return (double) (last - walk->from) / (walk->reached - walk->from);
}

/* How many messages there are in all, as far as statistics tell. */
static int64
live_messages(Relation rel)
{
	int64		live = DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples,
														 ObjectIdGetDatum(RelationGetRelid(rel))));

	/* After a crash there are none but those of the last VACUUM or ANALYZE. */
	return live > 0 ? live : Max(0, (int64) rel->rd_rel->reltuples);
}

/* What was counted, of all groups. */
static Counts
all_groups(const Tally *tally)
{
	const Counts *quiet = &tally->counts[QUIET],
			   *noisy = &tally->counts[NOISY];

	return (Counts)
	{
		.visible = quiet->visible + noisy->visible,
			.in_flight = quiet->in_flight + noisy->in_flight,
			.delayed = quiet->delayed + noisy->delayed,
			.oldest = Min(quiet->oldest, noisy->oldest)
	};
}

/* The number of messages counted. */
static int64
total(const Tally *tally)
{
	Counts		all = all_groups(tally);

	return all.visible + all.in_flight + all.delayed;
}

/* How many of the messages that are due, but were not counted, are of quiet groups. */
static int64
quiet_among(int64 uncounted, const Due due[KINDS_OF_GROUPS])
{
	const Due  *quiet = &due[QUIET],
			   *noisy = &due[NOISY];

	if (noisy->complete)
		return uncounted;
	if (quiet->complete)
		return 0;
	if (noisy->ended && (!quiet->ended || noisy->dead < quiet->dead))
		return uncounted - Min(uncounted, noisy->beyond);
	return Min(uncounted, quiet->beyond);
}

/* Add what is due but was not counted, if there are "live" messages in all. */
static void
add_uncounted_due(Tally *tally, int64 live, const Due due[KINDS_OF_GROUPS])
{
	int64		counted = total(tally);
	int64		uncounted = Max(0, live - counted);
	int64		quiet = quiet_among(uncounted, due);

	tally->counts[QUIET].visible += quiet;
	tally->counts[NOISY].visible += uncounted - quiet;
}

/* Count a standard queue; false if the numbers are approximate. */
static bool
count_standard(Tally *tally, DeliveryTable *deliveries)
{
	int64		live = live_messages(deliveries->table.rel);
	Walk		walks[2 * PGN_LANES];
	Sleepers	sleepers[PGN_LANES];
	Due			due[KINDS_OF_GROUPS];
	bool		due_complete;
	int			incomplete = 0,
				endless = 0;

	count_due(tally, deliveries, due, sleepers);
	for (int i = 0; i < lengthof(walks); i++)
	{
		int16		lane = i % PGN_LANES;

		if (i < PGN_LANES)
			begin_walk(&walks[i], tally, deliveries, lane, tally->now + 1, PG_INT64_MAX);
		else
			begin_walk(&walks[i], tally, deliveries, lane, sleepers[lane].from, sleepers[lane].to);
		end_walk(&walks[i], true);
		incomplete += !walks[i].complete;
		endless += !walks[i].ended;
		/* They have woken up, and nobody has received them yet. */
		if (i >= PGN_LANES && !walks[i].complete && walks[i].visible > 0)
			due[KIND(lane)].complete = due[KIND(lane)].ended = false;
	}
	due_complete = due[QUIET].complete && due[NOISY].complete;
	for (int i = 0; i < lengthof(walks); i++)
	{
		Walk	   *walk = &walks[i];
		int64		walked = walk->in_flight + walk->delayed;

		if (walk->complete || walked == 0)
			continue;
		if (walk->ended)
			enlarge(tally, walk, 1 + (double) walk->beyond / walk->looked_at);
		else if (endless == 1 && due_complete)
		{
			int64		others = total(tally) - walked;

			enlarge(tally, walk, Max(1, (double) (live - others) / walked));
		}
		else
			enlarge(tally, walk, extrapolate(deliveries, walk));
	}
	if (!due_complete)
		add_uncounted_due(tally, live, due);
	return due_complete && incomplete == 0;
}

/*
 * Count the messages of a group that are not visible: those at its head, up
 * to the first that is.  Looks at "limit" index entries.
 */
static void
count_group(Tally *tally, DeliveryScan *scan, const ScheduleEntry *entry, int64 *limit)
{
	DeliveryVersion version;

	pgn_group_scan_restart(scan, entry->group_key, entry->first_message_id);
	while (pgn_scan_next_within(scan, &version, limit))
	{
		if (version.row.visible_at <= tally->now)
			break;
		count_delivery(tally, &version);
	}
}

/*
 * There are "more" times as many groups that are not visible as were counted.
 * If there are "live" messages in all, no more than those can be invisible.
 */
static void
enlarge_fifo(Tally *tally, double more, const Counts *largest, int64 live)
{
	Counts	   *counts = &tally->counts[QUIET];
	double		in_flight = counts->in_flight + more * (counts->in_flight - largest->in_flight);
	double		delayed = counts->delayed + more * (counts->delayed - largest->delayed);
	double		share = live > 0 && in_flight + delayed > live ? live / (in_flight + delayed) : 1;

	tally->groups_factor += more;
	counts->in_flight = in_flight * share;
	counts->delayed = delayed * share;
}

/* Count what is not visible of a FIFO queue that has "live" messages in all. */
static void
count_hidden(Tally *tally, DeliveryTable *deliveries, Schedule *schedule, int64 live)
{
	const Counts *counts = &tally->counts[QUIET];
	Counts		largest = {0};
	int64		limit = WALK,
				entries = WALK;
	int64		counted = 0,
				uncounted = 0;	/* groups */
	DeliveryScan scan;
	ScheduleScan groups;
	ScheduleVersion version;

	pgn_schedule_scan_begin(&groups, schedule, tally->now + 1, PG_INT64_MAX);
	pgn_group_scan_begin(&scan, deliveries);
	while (pgn_schedule_scan_next_within(&groups, &version, &entries))
	{
		Counts		before = *counts;

		if (version.superseded)
			continue;
		if (limit <= 0)
		{
			uncounted++;
			continue;
		}
		counted++;
		count_group(tally, &scan, &version.row, &limit);
		largest.in_flight = Max(largest.in_flight, counts->in_flight - before.in_flight);
		largest.delayed = Max(largest.delayed, counts->delayed - before.delayed);
	}
	if (entries < 0)
		uncounted += pgn_schedule_scan_count(&groups, COUNT) * (counted + uncounted) / WALK;
	if (uncounted > 0)
		enlarge_fifo(tally, (double) uncounted / counted, &largest, live);
	pgn_scan_end(&scan);
	pgn_schedule_scan_end(&groups);
}

/* Count a FIFO queue; false if the numbers are approximate. */
static bool
count_fifo(Tally *tally, DeliveryTable *deliveries, Schedule *schedule)
{
	Tally		empty = *tally;
	Counts	   *counts = &tally->counts[QUIET];
	int64		live = live_messages(deliveries->table.rel);
	int64		sleepers = 0;
	TimestampTz unused,
				oldest;
	DeliveryScan scan;
	bool		complete;

	pgn_message_scan_begin(&scan, deliveries, 0, PG_INT64_MAX, NULL);
	complete = count_scan(tally, &scan, WALK, &sleepers, &unused);
	pgn_scan_end(&scan);
	if (complete)
		return true;

	oldest = counts->oldest;
	*tally = empty;
	count_hidden(tally, deliveries, schedule, live);
	live -= total(tally);
	counts->visible = Max(0, live);
	counts->oldest = Min(counts->oldest, oldest);
	return false;
}

/* Nothing counted yet. */
static void
begin_tally(Tally *tally, Queue *queue)
{
	memset(tally, 0, sizeof(*tally));
	tally->queue = queue;
	tally->now = GetCurrentTimestamp();
	tally->groups_factor = 1;
	tally->counts[QUIET].oldest = tally->counts[NOISY].oldest = DT_NOEND;
}

/* The first figures of a result. */
static void
tally_figures(Tally *tally, Datum *values, bool *isnull)
{
	Counts		all = all_groups(tally);

	values[FIGURE_VISIBLE] = Int64GetDatum(all.visible);
	values[FIGURE_IN_FLIGHT] = Int64GetDatum(all.in_flight);
	values[FIGURE_DELAYED] = Int64GetDatum(all.delayed);
	values[FIGURE_OLDEST_SENT_AT] = TimestampTzGetDatum(all.oldest);
	isnull[FIGURE_OLDEST_SENT_AT] = all.oldest == DT_NOEND;
	values[FIGURE_GROUPS_IN_FLIGHT] = Int64GetDatum(count_groups(tally));
}

/* The figures of fairness; a FIFO queue has none. */
static void
fairness_figures(const Tally *tally, Datum *values, bool *isnull)
{
	const Counts *quiet = &tally->counts[QUIET];
	int			noisy = pgn_fair_noisy_tenants(tally->queue, tally->now);

	values[FIGURE_NOISY_GROUPS] = Int64GetDatum(noisy);
	values[FIGURE_VISIBLE_QUIET] = Int64GetDatum(quiet->visible);
	values[FIGURE_IN_FLIGHT_QUIET] = Int64GetDatum(quiet->in_flight);
	values[FIGURE_DELAYED_QUIET] = Int64GetDatum(quiet->delayed);
	values[FIGURE_OLDEST_QUIET] = TimestampTzGetDatum(quiet->oldest);
	isnull[FIGURE_NOISY_GROUPS] = noisy < 0;
	isnull[FIGURE_OLDEST_QUIET] = quiet->oldest == DT_NOEND;
	if (tally->queue->attributes.fifo)
		memset(&isnull[FIGURE_NOISY_GROUPS], true, (FIGURES - FIGURE_NOISY_GROUPS) * sizeof(bool));
}

/* A row of figures as a result. */
static Datum
figures_result(FunctionCallInfo fcinfo, Datum *values, bool *isnull)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull));
}

/*
 * Lock a queue, so that what is in it can be counted; NULL if it is gone, or
 * locked by somebody for whom we will not wait: others are to be counted, too.
 */
static Queue *
lock_to_count(int32 id)
{
	Queue	   *queue = pgn_queue_find_by_id(id);

	if (queue && !pgn_queue_lock_now(queue, AccessShareLock))
	{
		/* What we knew of it may have been out of date. */
		queue = pgn_queue_find_anew(id);
		if (queue && !pgn_queue_lock_now(queue, AccessShareLock))
			queue = NULL;
	}
	return queue;
}

/* Count what is in a queue; false if its owner has changed its tables so that they are of no use. */
static bool
count_queue(Tally *tally, bool *exact)
{
	Queue	   *queue = tally->queue;
	DeliveryTable deliveries;
	Schedule	schedule;
	bool		usable;

	if (!pgn_deliveries_try_read(&deliveries, queue, AccessShareLock))
		return false;
	usable = !queue->attributes.fifo || pgn_schedule_try_open(&schedule, queue, AccessShareLock);
	if (usable && queue->attributes.fifo)
	{
		*exact = count_fifo(tally, &deliveries, &schedule);
		pgn_schedule_close(&schedule, AccessShareLock);
	}
	else if (usable)
		*exact = count_standard(tally, &deliveries);
	pgn_deliveries_close(&deliveries, AccessShareLock);
	return usable;
}

/* queue_figures(queue_id): NULLs for a queue that is gone or locked; counters only for one that is not as it should be */
Datum
pgn_queue_figures(PG_FUNCTION_ARGS)
{
	Queue	   *queue = lock_to_count(PG_GETARG_INT32(0));
	SharedQueue *shared;
	Datum		values[FIGURES] = {0};
	bool		isnull[FIGURES];
	bool		exact;
	Tally		tally;

	memset(isnull, true, sizeof(isnull));
	if (queue == NULL)
		return figures_result(fcinfo, values, isnull);
	pgn_queue_check_rights(queue, ACL_SELECT);
	begin_tally(&tally, queue);
	if (count_queue(&tally, &exact))
	{
		memset(isnull, false, sizeof(isnull));
		tally_figures(&tally, values, isnull);
		fairness_figures(&tally, values, isnull);
		values[FIGURE_APPROXIMATE] = BoolGetDatum(!exact);
	}
	shared = pgn_shared_queue(queue);
	for (int i = 0; i <= COUNT_REDRIVEN; i++)
	{
		isnull[FIGURE_FIRST_COUNTER + i] = shared == NULL;
		if (shared)
			values[FIGURE_FIRST_COUNTER + i] = Int64GetDatum(pg_atomic_read_u64(&shared->counters[i]));
	}
	pgn_queue_unlock(queue, AccessShareLock);
	return figures_result(fcinfo, values, isnull);
}

/* exact_queue_metrics(queue): as of one snapshot, at the cost of looking at every message */
Datum
pgn_exact_queue_metrics(PG_FUNCTION_ARGS)
{
	Queue	   *queue = pgn_queue_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), ACL_SELECT, AccessShareLock);
	Datum		values[EXACT_FIGURES] = {0};
	bool		isnull[EXACT_FIGURES] = {false};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	DeliveryTable deliveries;
	DeliveryScan scan;
	Tally		tally;
	int64		sleepers = 0;
	TimestampTz unused;

	begin_tally(&tally, queue);
	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, snapshot);
	(void) count_scan(&tally, &scan, PG_INT64_MAX, &sleepers, &unused);
	pgn_scan_end(&scan);
	pgn_deliveries_close(&deliveries, AccessShareLock);
	UnregisterSnapshot(snapshot);
	tally_figures(&tally, values, isnull);
	return figures_result(fcinfo, values, isnull);
}
