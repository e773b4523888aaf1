/*
 * redrive.c
 *		Redrive tasks: moving dead letters back.
 *
 * A task is a row in pigeon.redrive_task.  It advances in steps, each in a
 * transaction of its own: the first within the call of redrive(), which is
 * all there is for a small queue; the others by maintenance.  A step moves as
 * many messages as the task's rate allows by now.
 *
 * Rights are checked again at each step, since the task outlives the call.
 * Only deliveries that nobody holds are moved; a task is complete when none
 * of those is left that it could move.  A step waits for nobody: if a queue's
 * table is locked exclusively, the next step tries again.  So it does if a
 * message would come to a message group of a FIFO queue before others that are in
 * flight, or while somebody is sending to the group.  What else can be in the
 * way ends the task, unless it was restored from a dump; see task.c.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "activity.h"
#include "arguments.h"
#include "compat.h"
#include "delivery_scan.h"
#include "fair.h"
#include "fifo.h"
#include "message_id.h"
#include "owner.h"
#include "redrive.h"
#include "task.h"

PG_FUNCTION_INFO_V1(pgn_redrive);
PG_FUNCTION_INFO_V1(pgn_cancel_redrive);

/* Messages moved by one step at the most. */
#define STEP_MESSAGES 1000

/* A running task. */
typedef struct Task
{
	int64		id;
	int32		queue_id;
	char	   *destination;	/* NULL: each message's own source */
	int32		max_per_second; /* 0: as fast as it goes */
	int64		moved;
	TimestampTz paid_until;		/* see pgn_task_budget */
	Oid			role;			/* InvalidOid if it is gone */
	bool		restored;		/* from a dump */
	char	   *failure;		/* why the task cannot go on */
	char	   *obstacle;		/* what it waits for */
} Task;

/* A queue that messages go to, open. */
typedef struct Target
{
	int32		queue_id;
	DeliveryTable deliveries;
} Target;

/*
 * How many deliveries of the queue are due and can be moved: those that have
 * not expired, and those without a source only if there is a destination for
 * all.  Some may be held, or wait behind such.
 */
static int64
count_movable(Queue *queue, bool has_destination, TimestampTz now)
{
	DeliveryTable deliveries;
	DeliveryScan scan;
	DeliveryVersion version;
	Delivery	last;
	bool		any = false;
	int64		n = 0;

	pgn_deliveries_open(&deliveries, queue, AccessShareLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (pgn_scan_next(&scan, &version))
	{
		CHECK_FOR_INTERRUPTS();
		if (version.uncommitted || (any && pgn_same_delivery(&last, &version.row)))
			continue;
		any = true;
		last = version.row;
		n += version.row.visible_at <= now && !pgn_delivery_expired(queue, &version.row, now) &&
			(has_destination || version.row.source != 0);
	}
	pgn_scan_end(&scan);
	pgn_deliveries_close(&deliveries, NoLock);
	return n;
}

/*
 * The queue that a message goes to, opened at its first message.  NULL if the
 * task cannot go on, with task->failure set, or not now.
 */
static DeliveryTable *
open_target(Task *task, Queue *source, const Delivery *row, List **targets)
{
	Queue	   *queue;
	Target	   *target;
	ListCell   *lc;

	if (task->destination)
		queue = pgn_queue_find(task->destination);
	else
		queue = pgn_queue_find_by_id(row->source);
	if (queue)
	{
		foreach(lc, *targets)
		{
			target = lfirst(lc);
			if (target->queue_id == queue->id)
				return &target->deliveries;
		}
	}

	if (queue == NULL)
		task->failure = "destination queue does not exist any more";
	else if (queue->attributes.fifo != source->attributes.fifo)
		task->failure = "destination queue is of another kind";
	else if (!OidIsValid(task->role) ||
			 (!pgn_has_right(queue->relid, ACL_INSERT, task->role) && !pgn_just_dropped(queue->relid)))
		task->failure = psprintf("no right to send to queue \"%s\"", queue->name);
	if (task->failure || !pgn_queue_lock_now(queue, RowExclusiveLock))
		return NULL;
	if (queue->attributes.fifo && !pgn_schedule_lock_now(queue, RowExclusiveLock))
	{
		pgn_queue_unlock(queue, RowExclusiveLock);
		return NULL;
	}

	target = palloc(sizeof(Target));
	target->queue_id = queue->id;
	if ((queue->attributes.fifo && !pgn_schedule_usable(queue, RowExclusiveLock)) ||
		!pgn_deliveries_try_open_indexed(&target->deliveries, queue, RowExclusiveLock))
	{
		task->failure = psprintf("the table of queue \"%s\" was changed and cannot be used", queue->name);
		return NULL;
	}
	*targets = lappend(*targets, target);
	return &target->deliveries;
}

/* The delivery of a message that starts anew. */
static Delivery
fresh_delivery(Queue *target, const Delivery *row, TimestampTz now)
{
	Delivery	fresh = *row;

	fresh.source = 0;
	fresh.lane = target->attributes.fifo ? PGN_LANE_NORMAL : pgn_fair_lane(target, row->group_key, now);
	fresh.enqueued_at = now;
	pgn_delivery_show(&fresh, now);
	fresh.first_received_at = fresh.received_at = PGN_NEVER;
	fresh.lease = PGN_NO_LEASE;
	fresh.receive_count = fresh.queue_receive_count = 0;
	return fresh;
}

/*
 * Is the message in the queue it is to go to?  Then somebody has written a row
 * by hand, and the message stays where it is.
 */
static bool
is_duplicate(DeliveryTable *target, const Delivery *row)
{
	if (!pgn_delivery_is_there(target, row->message_id, row->home))
		return false;
	ereport(WARNING,
			(errmsg("message " INT64_FORMAT " is not redriven: it is in queue \"%s\" already",
					row->message_id, target->queue->name)));
	return true;
}

/*
 * Has no message this number yet?  Then the owner of the queue has forged it, and
 * it would be in the way of the message that will have it; or a dump is being
 * restored, in which the sequence comes after the tables.
 */
static bool
is_to_come(Task *task, const Delivery *row, bool *more)
{
	if (row->message_id <= pgn_last_message_id())
		return false;
	if (task->restored)
	{
		task->obstacle = "the sequence of message numbers is not restored yet";
		*more = true;
	}
	else
		ereport(WARNING,
				(errmsg("message " INT64_FORMAT " is not redriven: no message has this number yet", row->message_id),
				 errhint("Set the sequence pigeon.message_id_seq beyond all messages.")));
	return true;
}

/* A message group that a step found in use, by the queue that its messages go to: 0 if all go to the same. */
typedef struct GroupInUse
{
	int64		queue_id;
	int64		group_key;
} GroupInUse;

/* A set of those. */
static HTAB *
no_groups(void)
{
	HASHCTL		info = {.keysize = sizeof(GroupInUse),.entrysize = sizeof(GroupInUse),.hcxt = CurrentMemoryContext};

	return hash_create("message groups in use", 64, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* The group of a message. */
static GroupInUse
group_of(const Task *task, const Delivery *row)
{
	return (GroupInUse)
	{
		.queue_id = task->destination ? 0 : row->source,.group_key = row->group_key
	};
}

/* Can a message be received where it is?  If not, later ones of a FIFO queue's group cannot either. */
static bool
is_visible(const Task *task, const Queue *source, const DeliveryVersion *version, TimestampTz now, HTAB *hidden)
{
	GroupInUse	group = group_of(task, &version->row);
	bool		visible = !version->uncommitted && !version->held && version->row.visible_at <= now;

	if (source->attributes.fifo && !visible)
		(void) hash_search(hidden, &group, HASH_ENTER, NULL);
	return visible && !(source->attributes.fifo && hash_search(hidden, &group, HASH_FIND, NULL));
}

/*
 * Move a message of a FIFO queue.  False if somebody is busy with it, or with
 * the group it would go to, or was when an earlier message of the group was to
 * be moved: the later ones must not overtake that.
 */
static bool
move_in_order(const Task *task, DeliveryTable *source, DeliveryVersion *version, DeliveryTable *target,
			  const Delivery *row, TimestampTz now, HTAB *in_use)
{
	GroupInUse	group = group_of(task, &version->row);
	bool		changed = false;

	if (hash_search(in_use, &group, HASH_FIND, NULL))
		return false;
	if (pgn_fifo_move(source, version, target, row, now, true, &changed))
		return true;
	(void) hash_search(in_use, &group, HASH_ENTER, NULL);
	return false;
}

/*
 * Move up to "budget" messages; how many were moved.  *more tells whether
 * some were left for want of budget, or because a queue was locked or a
 * message group in use.
 */
static int
move_messages(Task *task, Queue *source, int budget, bool *more)
{
	HTAB	   *hidden = no_groups();
	HTAB	   *in_use = no_groups();
	TimestampTz now = GetCurrentTimestamp();
	DeliveryTable deliveries;
	List	   *targets = NIL;
	ListCell   *lc;
	DeliveryScan scan;
	DeliveryVersion version;
	GroupSet	changed = {0};
	int			moved = 0;

	*more = false;
	pgn_deliveries_open(&deliveries, source, RowExclusiveLock);
	pgn_message_scan_begin(&scan, &deliveries, 0, PG_INT64_MAX, NULL);
	while (!task->failure && pgn_scan_next(&scan, &version))
	{
		DeliveryTable *target;
		Delivery	row;

		CHECK_FOR_INTERRUPTS();
		if (pgn_delivery_expired(source, &version.row, now) ||
			(task->destination == NULL && version.row.source == 0) ||
			!is_visible(task, source, &version, now, hidden))
			continue;

		/*
		 * What is in the way is found out also when it is not time to move
		 * anything.
		 */
		target = open_target(task, source, &version.row, &targets);
		if (target == NULL || moved >= budget)
		{
			*more = true;
			break;
		}
		if (is_to_come(task, &version.row, more) || is_duplicate(target, &version.row))
			continue;
		row = fresh_delivery(target->queue, &version.row, now);
		if (!source->attributes.fifo)
			moved += pgn_delivery_move(&deliveries, &version, target, &row);
		else if (move_in_order(task, &deliveries, &version, target, &row, now, in_use))
		{
			pgn_group_set_add(&changed, &version.row);
			moved++;
		}
		else
		{
			*more = true;
			task->obstacle = "a message group is in use in the destination queue";
		}
	}
	pgn_scan_end(&scan);
	hash_destroy(hidden);
	hash_destroy(in_use);
	pgn_fifo_reschedule_groups(&deliveries, &changed, now);
	foreach(lc, targets)
		pgn_deliveries_close(&((Target *) lfirst(lc))->deliveries, NoLock);
	pgn_deliveries_close(&deliveries, NoLock);
	return moved;
}

/* Read a running task and lock it; false if it is not running or in work. */
static bool
read_task(int64 task_id, Task *task)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(task_id)};
	Datum		row[7];
	bool		isnull[7];

	if (!pgn_owner_row("SELECT queue_id, destination, max_per_second, moved, paid_until, started_by, origin"
					   " FROM pigeon.redrive_task WHERE id = $1 AND status = 'RUNNING'"
					   " FOR UPDATE SKIP LOCKED", 1, types, values, lengthof(row), row, isnull))
		return false;
	*task = (Task)
	{
		.id = task_id,
			.queue_id = DatumGetInt32(row[0]),
			.destination = isnull[1] ? NULL : TextDatumGetCString(row[1]),
			.max_per_second = isnull[2] ? 0 : DatumGetInt32(row[2]),
			.moved = DatumGetInt64(row[3]),
			.paid_until = DatumGetTimestampTz(row[4]),
			.role = get_role_oid(NameStr(*DatumGetName(row[5])), true),
			.restored = DatumGetInt64(row[6]) != pgn_task_origin()
	};
	return true;
}

/* Write how far a task has come, if that is news. */
static void
write_task(const Task *task, const char *status)
{
	PgnOwner	as_owner;
	const char *reason = task->failure ? task->failure : task->obstacle;
	Oid			types[] = {INT8OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	Datum		values[] = {Int64GetDatum(task->id), Int64GetDatum(task->moved),
		CStringGetTextDatum(status),
		reason ? CStringGetTextDatum(reason) : (Datum) 0,
		TimestampTzGetDatum(task->paid_until)
	};

	pgn_owner_begin(&as_owner);
	pgn_owner_execute("UPDATE pigeon.redrive_task SET moved = $2, status = $3, failure_reason = $4, paid_until = $5,"
					  " finished_at = CASE WHEN $3 = 'RUNNING' THEN NULL ELSE clock_timestamp() END"
					  " WHERE id = $1 AND (moved, status, failure_reason) IS DISTINCT FROM ($2, $3, $4)",
					  lengthof(types), types, values, reason ? NULL : "   n ");
	pgn_owner_end(&as_owner);
}

/*
 * Advance a task by one step.  True if another step can follow right away;
 * false if the task has ended, or has to wait for its rate.
 */
bool
pgn_redrive_step(int64 task_id)
{
	Task		task;
	Queue	   *source;
	bool		more = false;
	int			moved = 0;

	if (!read_task(task_id, &task))
		return false;
	source = pgn_queue_find_by_id(task.queue_id);
	if (source == NULL)
		task.failure = "dead-letter queue does not exist any more";
	else if (!pgn_queue_lock_now(source, RowExclusiveLock))
		return false;
	else if (!OidIsValid(task.role) || !pgn_is_owner(source->relid, task.role))
		task.failure = "the role that started the task does not own the dead-letter queue";
	else
		moved = move_messages(&task, source,
							  pgn_task_budget(&task.paid_until, task.max_per_second, STEP_MESSAGES), &more);

	/* As long as it gets on it is not waiting. */
	if (moved > 0)
		task.obstacle = NULL;
	task.moved += moved;
	pgn_task_pay(&task.paid_until, task.max_per_second, moved);
	if (moved > 0)
		pgn_activity_count(source, COUNT_REDRIVEN, moved);
	write_task(&task, pgn_task_status(task.restored, task.failure != NULL, more));
	return more && moved == STEP_MESSAGES && task.failure == NULL;
}

/* Does anything name the queue as its dead-letter queue? */
static bool
is_dead_letter_queue(Datum name)
{
	Oid			type = TEXTOID;

	return pgn_owner_row("SELECT FROM pigeon.queue WHERE dead_letter_queue = $1"
						 " UNION ALL SELECT FROM pigeon.subscription WHERE dead_letter_queue = $1",
						 1, &type, &name, 0, NULL, NULL);
}

/* Fail unless messages of the dead-letter queue can go to the destination. */
static void
check_destination(Queue *source, const char *destination)
{
	Queue	   *queue = pgn_queue_open(destination, ACL_INSERT, RowExclusiveLock);

	if (queue == source)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("destination is the dead-letter queue itself"),
				 errhint("Leave it out to move each message to the queue it came from.")));
	if (queue->attributes.fifo != source->attributes.fifo)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("destination must be of the same kind as the dead-letter queue"),
				 errhint("The destination for messages of a FIFO queue is a FIFO queue.")));
}

/* redrive(dead_letter_queue, destination, max_per_second) */
Datum
pgn_redrive(PG_FUNCTION_ARGS)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8OID, TEXTOID, INT4OID, TEXTOID, INT4OID, INT8OID, NAMEOID, INT8OID};
	Datum		values[lengthof(types)];
	char		nulls[] = "        ";
	NameData	role;
	Queue	   *queue;
	int64		task_id;

	pgn_begin_write("pigeon.redrive()");
	if (PG_ARGISNULL(0))
		pgn_null_argument("dead_letter_queue");
	if (!PG_ARGISNULL(2) && PG_GETARG_INT32(2) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_per_second must be at least 1"),
				 errhint("Leave it out to move messages as fast as possible.")));
	queue = pgn_queue_open(text_to_cstring(PG_GETARG_TEXT_PP(0)), 0, RowExclusiveLock);
	pgn_queue_check_owner(queue);
	if (!PG_ARGISNULL(1))
		check_destination(queue, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	if (!is_dead_letter_queue(PG_GETARG_DATUM(0)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("queue \"%s\" is not a dead-letter queue", queue->name),
				 errhint("Name it as dead_letter_queue of another queue or a subscription first.")));

	task_id = nextval_internal(pgn_relation("redrive_task_id_seq"), false);
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	values[0] = Int64GetDatum(task_id);
	values[1] = PG_GETARG_DATUM(0);
	values[2] = Int32GetDatum(queue->id);
	values[3] = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	values[4] = PG_ARGISNULL(2) ? (Datum) 0 : PG_GETARG_DATUM(2);
	values[5] = Int64GetDatum(count_movable(queue, !PG_ARGISNULL(1), GetCurrentTimestamp()));
	values[6] = NameGetDatum(&role);
	values[7] = Int64GetDatum(pgn_task_origin());
	nulls[3] = PG_ARGISNULL(1) ? 'n' : ' ';
	nulls[4] = PG_ARGISNULL(2) ? 'n' : ' ';
	pgn_owner_begin(&as_owner);
	pgn_owner_execute("INSERT INTO pigeon.redrive_task (id, dead_letter_queue, queue_id, destination,"
					  " max_per_second, status, to_move, started_by, started_at, origin, paid_until)"
					  " VALUES ($1, $2, $3, $4, $5, 'RUNNING', $6, $7, clock_timestamp(), $8, clock_timestamp() - interval '1 s')"
					  " ON CONFLICT DO NOTHING",
					  lengthof(types), types, values, nulls);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a redrive task of queue \"%s\" is already running", queue->name),
				 errhint("Wait for it, or stop it with pigeon.cancel_redrive().")));
	pgn_tasks_forget("redrive_task", "queue_id", queue->id);
	pgn_owner_end(&as_owner);
	CommandCounterIncrement();
	(void) pgn_redrive_step(task_id);
	pgn_activity_job(JOB_REDRIVE);
	PG_RETURN_INT64(task_id);
}

/* cancel_redrive(task_id) */
Datum
pgn_cancel_redrive(PG_FUNCTION_ARGS)
{
	PgnOwner	as_owner;
	Oid			types[] = {INT8OID, NAMEOID};
	NameData	role;
	Datum		values[] = {PG_GETARG_DATUM(0), NameGetDatum(&role)};
	Datum		row[3];
	bool		isnull[3];

	pgn_begin_write("pigeon.cancel_redrive()");
	namestrcpy(&role, GetUserNameFromId(GetUserId(), false));
	if (!pgn_owner_row("SELECT t.moved, t.status = 'RUNNING',"
					   " EXISTS (SELECT FROM pg_roles r WHERE r.rolname = t.started_by AND pg_has_role($2, r.oid, 'USAGE'))"
					   " OR coalesce(pg_has_role($2, c.relowner, 'USAGE'), false)"
					   " FROM pigeon.redrive_task t"
					   " LEFT JOIN pg_class c ON c.oid = pigeon.queue_table(t.queue_id)"
					   " WHERE t.id = $1 FOR UPDATE OF t",
					   2, types, values, 3, row, isnull))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("redrive task " INT64_FORMAT " does not exist", PG_GETARG_INT64(0)),
				 errhint("The view pigeon.redrive_tasks lists the tasks.")));
	if (!DatumGetBool(row[2]) && !superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the dead-letter queue to stop redrive task " INT64_FORMAT,
						PG_GETARG_INT64(0))));
	if (!DatumGetBool(row[1]))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("redrive task " INT64_FORMAT " is not running", PG_GETARG_INT64(0)),
				 errhint("The view pigeon.redrive_tasks shows what became of it.")));
	pgn_owner_begin(&as_owner);
	pgn_owner_execute("UPDATE pigeon.redrive_task SET status = 'CANCELLED',"
					  " finished_at = clock_timestamp() WHERE id = $1", 1, types, values, NULL);
	pgn_owner_end(&as_owner);
	PG_RETURN_DATUM(row[0]);
}
