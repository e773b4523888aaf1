-- pigeon: queues and topics for PostgreSQL. Complain if run by hand.
\echo Use "CREATE EXTENSION pigeon" to load this file. \quit

-- The schema belongs to the extension and every name below is qualified, so
-- the script does not depend on any search_path.
CREATE SCHEMA pigeon;
COMMENT ON SCHEMA pigeon IS 'queues and topics';

------------------------------------------------------------------------------
-- Registry.  Times are microseconds.  Rows and sequences are in every dump.
------------------------------------------------------------------------------

CREATE SEQUENCE pigeon.queue_id_seq AS integer;

CREATE TABLE pigeon.queue (
	id                          integer PRIMARY KEY,
	name                        text COLLATE "C" NOT NULL UNIQUE,
	fifo                        boolean NOT NULL,
	visibility_timeout          bigint NOT NULL,
	delay                       bigint NOT NULL,
	retention                   bigint NOT NULL,
	wait_time                   bigint NOT NULL,
	max_message_size            integer NOT NULL,
	dead_letter_queue           text COLLATE "C",
	max_receive_count           integer,
	redrive_allow_policy        text[] COLLATE "C" NOT NULL,
	content_based_deduplication boolean NOT NULL,
	deduplication_scope         text NOT NULL,
	notify                      boolean NOT NULL,
	tags                        jsonb NOT NULL,
	deduplication_window        bigint NOT NULL,
	created_at                  timestamptz NOT NULL DEFAULT pg_catalog.now(),
	altered_at                  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE pigeon.queue IS 'registry of queues; read it through the view pigeon.queues';

SELECT pg_catalog.pg_extension_config_dump('pigeon.queue', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.queue_id_seq', '');

-- Topics and subscriptions are numbered by pigeon.queue_id_seq too; see
-- src/topic.c and src/fan_out.c.
CREATE TABLE pigeon.topic (
	id                          integer PRIMARY KEY,
	name                        text COLLATE "C" NOT NULL UNIQUE,
	fifo                        boolean NOT NULL,
	content_based_deduplication boolean NOT NULL,
	max_message_size            integer NOT NULL,
	archive_retention           bigint,
	tags                        jsonb NOT NULL,
	archive_segment             smallint NOT NULL DEFAULT 0,
	archive_since               timestamptz NOT NULL DEFAULT pg_catalog.now(),
	created_at                  timestamptz NOT NULL DEFAULT pg_catalog.now(),
	altered_at                  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE pigeon.topic IS 'registry of topics; read it through the view pigeon.topics';

CREATE TABLE pigeon.subscription (
	id                integer PRIMARY KEY,
	topic_id          integer NOT NULL,
	queue             text COLLATE "C" NOT NULL,
	owner             name NOT NULL,
	filter_policy     jsonb,
	filter_scope      text NOT NULL,
	raw_delivery      boolean NOT NULL,
	dead_letter_queue text COLLATE "C",
	created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
	altered_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
	UNIQUE (topic_id, queue)
);
COMMENT ON TABLE pigeon.subscription IS 'registry of subscriptions; read it through the view pigeon.subscriptions';

SELECT pg_catalog.pg_extension_config_dump('pigeon.topic', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.subscription', '');

------------------------------------------------------------------------------
-- Message log: a ring of insert-only segments, and the old generation for the
-- messages that outlive their segment.  See src/log.c.
------------------------------------------------------------------------------

CREATE SEQUENCE pigeon.message_id_seq;
SELECT pg_catalog.pg_extension_config_dump('pigeon.message_id_seq', '');

CREATE TABLE pigeon.log_old (
	message_id          bigint NOT NULL,
	log_key             bigint NOT NULL,
	sent_at             timestamptz NOT NULL,
	sender              text NOT NULL, -- not a name, which would take 64 bytes of each row
	body                text NOT NULL,
	attributes          jsonb,
	group_id            text,
	deduplication_id    text,
	topic               text,
	subject             text,
	replayed_message_id bigint,
	PRIMARY KEY (message_id)
) WITH (toast_tuple_target = 8160);
COMMENT ON TABLE pigeon.log_old IS 'message log: messages that outlived their segment';
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_old', '');

-- No index: a delivery knows the place of its message.  Vacuum need not cut off the room that is there for messages to come.
CREATE TABLE pigeon.log_0 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_1 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_2 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_3 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_4 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_5 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_6 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
CREATE TABLE pigeon.log_7 (LIKE pigeon.log_old) WITH (toast_tuple_target = 8160, vacuum_truncate = off);
COMMENT ON TABLE pigeon.log_0 IS 'message log segment';
COMMENT ON TABLE pigeon.log_1 IS 'message log segment';
COMMENT ON TABLE pigeon.log_2 IS 'message log segment';
COMMENT ON TABLE pigeon.log_3 IS 'message log segment';
COMMENT ON TABLE pigeon.log_4 IS 'message log segment';
COMMENT ON TABLE pigeon.log_5 IS 'message log segment';
COMMENT ON TABLE pigeon.log_6 IS 'message log segment';
COMMENT ON TABLE pigeon.log_7 IS 'message log segment';
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_0', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_1', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_2', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_3', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_4', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_5', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_6', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_7', '');

-- Which segment is appended to.  No row (as after installation, so that a
-- restore can load its own) means segment 0, current since ever.
CREATE TABLE pigeon.log_state (
	only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	current_segment smallint NOT NULL,
	current_since   timestamptz NOT NULL
);
COMMENT ON TABLE pigeon.log_state IS 'which message log segment is appended to';
SELECT pg_catalog.pg_extension_config_dump('pigeon.log_state', '');

-- Segments that will be truncated.  In a restored database they are marked
-- anew.
CREATE TABLE pigeon.log_unused (
	segment integer PRIMARY KEY,
	since   timestamptz NOT NULL,
	xid     xid8 NOT NULL
);
COMMENT ON TABLE pigeon.log_unused IS 'which message log segments are not needed any more, since when and by which transaction''s snapshot';

------------------------------------------------------------------------------
-- Redrive tasks
------------------------------------------------------------------------------

CREATE SEQUENCE pigeon.redrive_task_id_seq;

CREATE TABLE pigeon.redrive_task (
	id                bigint PRIMARY KEY,
	dead_letter_queue text COLLATE "C" NOT NULL,
	queue_id          integer NOT NULL,
	destination       text COLLATE "C",
	max_per_second    integer,
	status            text NOT NULL CHECK (status IN ('RUNNING', 'COMPLETED', 'CANCELLED', 'FAILED')),
	moved             bigint NOT NULL DEFAULT 0,
	to_move           bigint NOT NULL,
	failure_reason    text,
	started_by        name NOT NULL,
	started_at        timestamptz NOT NULL,
	finished_at       timestamptz,
	origin            bigint NOT NULL DEFAULT 0,
	paid_until        timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE UNIQUE INDEX redrive_task_running ON pigeon.redrive_task (queue_id) WHERE status = 'RUNNING';
COMMENT ON TABLE pigeon.redrive_task IS 'redrive tasks, running and past; read them through the view pigeon.redrive_tasks';
SELECT pg_catalog.pg_extension_config_dump('pigeon.redrive_task', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.redrive_task_id_seq', '');

------------------------------------------------------------------------------
-- FIFO queues.  See src/receive_attempt.c.  Attempts are good for five minutes
-- and are not worth a place in a dump.
------------------------------------------------------------------------------

CREATE TABLE pigeon.receive_attempt (
	queue_id   integer NOT NULL,
	attempt_id text COLLATE "C" NOT NULL,
	position   integer NOT NULL,
	message_id bigint NOT NULL,
	home       integer NOT NULL,
	lease      integer NOT NULL,
	visible_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	PRIMARY KEY (queue_id, attempt_id, position)
);
COMMENT ON TABLE pigeon.receive_attempt IS 'what receives from FIFO queues with a receive_attempt_id returned';

-- See src/processed.c.
CREATE TABLE pigeon.processed (
	queue_id     integer NOT NULL,
	message_id   bigint NOT NULL,
	processed_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (queue_id, message_id)
);
CREATE INDEX processed_at ON pigeon.processed (queue_id, processed_at);
COMMENT ON TABLE pigeon.processed IS 'messages that were marked with mark_processed()';
SELECT pg_catalog.pg_extension_config_dump('pigeon.processed', '');

------------------------------------------------------------------------------
-- Replay tasks
------------------------------------------------------------------------------

CREATE SEQUENCE pigeon.replay_task_id_seq;

CREATE TABLE pigeon.replay_task (
	id              bigint PRIMARY KEY,
	subscription_id integer NOT NULL,
	topic_id        integer NOT NULL,
	from_time       timestamptz NOT NULL,
	to_time         timestamptz NOT NULL,
	max_per_second  integer,
	status          text NOT NULL CHECK (status IN ('RUNNING', 'COMPLETED', 'CANCELLED', 'FAILED')),
	position_time   timestamptz NOT NULL,
	position_id     bigint NOT NULL,
	replayed        bigint NOT NULL DEFAULT 0,
	filtered_out    bigint NOT NULL DEFAULT 0,
	failure_reason  text,
	started_by      name NOT NULL,
	started_at      timestamptz NOT NULL,
	finished_at     timestamptz,
	next_xid        xid8 NOT NULL,
	origin          bigint NOT NULL DEFAULT 0,
	paid_until      timestamptz NOT NULL DEFAULT '-infinity'
);
CREATE UNIQUE INDEX replay_task_running ON pigeon.replay_task (subscription_id) WHERE status = 'RUNNING';
COMMENT ON TABLE pigeon.replay_task IS 'replay tasks, running and past; read them through the view pigeon.replay_tasks';
SELECT pg_catalog.pg_extension_config_dump('pigeon.replay_task', '');
SELECT pg_catalog.pg_extension_config_dump('pigeon.replay_task_id_seq', '');

------------------------------------------------------------------------------
-- Types
------------------------------------------------------------------------------

CREATE TYPE pigeon.receipt;

CREATE FUNCTION pigeon.receipt_in(cstring) RETURNS pigeon.receipt
	AS 'MODULE_PATHNAME', 'pgn_receipt_in' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION pigeon.receipt_out(pigeon.receipt) RETURNS cstring
	AS 'MODULE_PATHNAME', 'pgn_receipt_out' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION pigeon.receipt_recv(internal) RETURNS pigeon.receipt
	AS 'MODULE_PATHNAME', 'pgn_receipt_recv' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION pigeon.receipt_send(pigeon.receipt) RETURNS bytea
	AS 'MODULE_PATHNAME', 'pgn_receipt_send' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- Category S, so that a literal means a receipt and not an array of them.
CREATE TYPE pigeon.receipt (
	INPUT = pigeon.receipt_in,
	OUTPUT = pigeon.receipt_out,
	RECEIVE = pigeon.receipt_recv,
	SEND = pigeon.receipt_send,
	INTERNALLENGTH = 24,
	ALIGNMENT = double,
	CATEGORY = 'S'
);
COMMENT ON TYPE pigeon.receipt IS 'proof of one receive of one message, good for deleting it or changing its visibility';
COMMENT ON FUNCTION pigeon.receipt_in(cstring) IS 'I/O';
COMMENT ON FUNCTION pigeon.receipt_out(pigeon.receipt) IS 'I/O';
COMMENT ON FUNCTION pigeon.receipt_recv(internal) IS 'I/O';
COMMENT ON FUNCTION pigeon.receipt_send(pigeon.receipt) IS 'I/O';

CREATE FUNCTION pigeon.receipt_eq(pigeon.receipt, pigeon.receipt) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_receipt_eq' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pigeon.receipt_eq(pigeon.receipt, pigeon.receipt) IS 'implementation of = operator';
CREATE FUNCTION pigeon.receipt_hash(pigeon.receipt) RETURNS integer
	AS 'MODULE_PATHNAME', 'pgn_receipt_hash' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION pigeon.receipt_hash(pigeon.receipt) IS 'hash';
CREATE OPERATOR pigeon.= (
	LEFTARG = pigeon.receipt, RIGHTARG = pigeon.receipt, FUNCTION = pigeon.receipt_eq,
	COMMUTATOR = OPERATOR(pigeon.=), RESTRICT = pg_catalog.eqsel, JOIN = pg_catalog.eqjoinsel, HASHES
);
CREATE OPERATOR CLASS pigeon.receipt_hash_ops DEFAULT FOR TYPE pigeon.receipt USING hash AS
	OPERATOR 1 pigeon.= (pigeon.receipt, pigeon.receipt),
	FUNCTION 1 pigeon.receipt_hash(pigeon.receipt);

CREATE TYPE pigeon.message AS (
	message_id          bigint,
	receipt             pigeon.receipt,
	body                text,
	attributes          jsonb,
	receive_count       integer,
	sent_at             timestamptz,
	first_received_at   timestamptz,
	visible_at          timestamptz,
	group_id            text,
	deduplication_id    text,
	sequence_number     bigint,
	sender              name,
	topic               text,
	subject             text,
	dead_letter_source  text,
	replayed_message_id bigint
);
COMMENT ON TYPE pigeon.message IS 'a message as receive, pop and peek return it';

------------------------------------------------------------------------------
-- Queues
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.create_queue(
	queue text,
	fifo boolean DEFAULT NULL,
	visibility_timeout interval DEFAULT NULL,
	delay interval DEFAULT NULL,
	retention interval DEFAULT NULL,
	wait_time interval DEFAULT NULL,
	max_message_size integer DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL,
	max_receive_count integer DEFAULT NULL,
	content_based_deduplication boolean DEFAULT NULL,
	deduplication_scope text DEFAULT NULL,
	notify boolean DEFAULT NULL,
	tags jsonb DEFAULT NULL,
	if_not_exists boolean DEFAULT false,
	redrive_allow_policy text[] DEFAULT NULL,
	deduplication_window interval DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_create_queue' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.create_queue(text, boolean, interval, interval, interval, interval, integer, text, integer, boolean, text, boolean, jsonb, boolean, text[], interval)
	IS 'create a queue (SQS CreateQueue)';

CREATE FUNCTION pigeon.alter_queue(
	queue text,
	visibility_timeout interval DEFAULT NULL,
	delay interval DEFAULT NULL,
	retention interval DEFAULT NULL,
	wait_time interval DEFAULT NULL,
	max_message_size integer DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL,
	max_receive_count integer DEFAULT NULL,
	content_based_deduplication boolean DEFAULT NULL,
	deduplication_scope text DEFAULT NULL,
	notify boolean DEFAULT NULL,
	tags jsonb DEFAULT NULL,
	redrive_allow_policy text[] DEFAULT NULL,
	deduplication_window interval DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_alter_queue' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.alter_queue(text, interval, interval, interval, interval, integer, text, integer, boolean, text, boolean, jsonb, text[], interval)
	IS 'change attributes of a queue; NULL keeps one as it is (SQS SetQueueAttributes)';

CREATE FUNCTION pigeon.drop_queue(queue text, if_exists boolean DEFAULT false) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_drop_queue' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.drop_queue(text, boolean)
	IS 'drop a queue and the messages in it (SQS DeleteQueue)';

CREATE FUNCTION pigeon.purge_queue(queue text) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_purge_queue' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.purge_queue(text)
	IS 'remove all messages of a queue, return how many there were (SQS PurgeQueue)';

CREATE FUNCTION pigeon.grant_access(queue_or_topic text, grantee name, actions text[]) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_grant_access' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.grant_access(text, name, text[])
	IS 'allow a role to send, receive, delete, peek, purge, publish, subscribe, read_archive (SQS and SNS AddPermission)';

CREATE FUNCTION pigeon.revoke_access(queue_or_topic text, grantee name, actions text[]) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_revoke_access' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.revoke_access(text, name, text[])
	IS 'take rights on a queue or topic back (SQS and SNS RemovePermission)';

-- The table of deliveries of a queue, NULL when somebody dropped it.
CREATE FUNCTION pigeon.queue_table(queue_id integer) RETURNS regclass
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	RETURN pg_catalog.to_regclass('pigeon.q_' || queue_id);
COMMENT ON FUNCTION pigeon.queue_table(integer) IS 'the table that holds the deliveries of a queue';

CREATE FUNCTION pigeon.to_interval(microseconds bigint) RETURNS interval
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN pg_catalog.justify_hours(pg_catalog.make_interval(secs => microseconds / 1000000.0));
COMMENT ON FUNCTION pigeon.to_interval(bigint) IS 'microseconds as an interval';

CREATE VIEW pigeon.queues WITH (security_barrier) AS
	SELECT q.name AS queue,
		   q.fifo,
		   pigeon.to_interval(q.visibility_timeout) AS visibility_timeout,
		   pigeon.to_interval(q.delay) AS delay,
		   pigeon.to_interval(q.retention) AS retention,
		   pigeon.to_interval(q.wait_time) AS wait_time,
		   q.max_message_size,
		   q.dead_letter_queue,
		   q.max_receive_count,
		   q.redrive_allow_policy,
		   q.content_based_deduplication,
		   q.deduplication_scope,
		   CASE WHEN q.fifo THEN pigeon.to_interval(q.deduplication_window) END AS deduplication_window,
		   q.notify,
		   q.tags,
		   c.relowner::pg_catalog.regrole::name AS owner,
		   q.created_at,
		   q.altered_at,
		   c.oid::pg_catalog.regclass AS queue_table
	FROM pigeon.queue q
	JOIN pg_catalog.pg_class c ON c.oid = pigeon.queue_table(q.id)
	WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE');
COMMENT ON VIEW pigeon.queues IS 'the queues on which the current role has any right, and their attributes (SQS ListQueues, GetQueueAttributes)';

-- A queue whose table, or a topic whose view, is dropped by hand leaves the
-- registry with it.
CREATE FUNCTION pigeon.forget_dropped_tables() RETURNS event_trigger
	AS 'MODULE_PATHNAME', 'pgn_forget_dropped_tables' LANGUAGE C
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.forget_dropped_tables() IS 'event trigger: forgets queues and topics whose tables and views were dropped';
CREATE EVENT TRIGGER pigeon_forget_dropped_tables ON sql_drop
	WHEN TAG IN ('DROP TABLE', 'DROP VIEW', 'DROP OWNED', 'DROP SCHEMA')
	EXECUTE FUNCTION pigeon.forget_dropped_tables();

-- Rights on a queue are rights on its table, but are meant for our functions,
-- which no trigger sees.  SQL on the table itself is for its owner: who may
-- receive, say, could change every column of every delivery.
CREATE FUNCTION pigeon.guard_deliveries() RETURNS trigger
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE') THEN
		RAISE EXCEPTION USING
			ERRCODE = 'insufficient_privilege',
			MESSAGE = format('must be owner of table "%s" to change it with SQL', TG_TABLE_NAME),
			HINT = 'Rights on a queue are for the functions in schema pigeon.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION pigeon.guard_deliveries() IS 'trigger: only the owner of a queue may change its table with SQL';

-- CREATE on the schema is what it takes to create queues.  It must not be
-- enough to put a function, operator or type beside ours that fits somebody's
-- call better and so runs with his rights.
CREATE FUNCTION pigeon.guard_schema() RETURNS event_trigger
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	intruder text;
BEGIN
	-- With a range comes a multirange, which may be elsewhere.
	SELECT c.object_identity INTO intruder
	FROM pg_event_trigger_ddl_commands() c
	LEFT JOIN pg_range r ON c.classid = 'pg_type'::regclass AND r.rngtypid = c.objid
	LEFT JOIN pg_type m ON m.oid = r.rngmultitypid
	JOIN pg_namespace n ON n.nspname = c.schema_name OR n.oid = m.typnamespace
	WHERE n.nspname = 'pigeon' AND NOT c.in_extension AND NOT pg_has_role(n.nspowner, 'USAGE')
	LIMIT 1;
	-- An extension may bring such, and be moved here with all that it has.
	IF NOT FOUND AND TG_TAG IN ('CREATE EXTENSION', 'ALTER EXTENSION') THEN
		SELECT (pg_identify_object(o.classid, o.oid, 0)).identity INTO intruder
		FROM (SELECT 'pg_proc'::regclass AS classid, oid, pronamespace AS namespace, proowner AS owner FROM pg_proc
			  UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace, oprowner FROM pg_operator
			  UNION ALL SELECT 'pg_type'::regclass, t.oid, typnamespace, typowner FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
			  WHERE typelem = 0 AND (typrelid = 0 OR relkind = 'c')) o
		JOIN pg_namespace n ON n.oid = o.namespace
		LEFT JOIN pg_depend d ON d.classid = o.classid AND d.objid = o.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
		LEFT JOIN pg_extension e ON e.oid = d.refobjid
		WHERE n.nspname = 'pigeon' AND NOT pg_has_role(n.nspowner, 'USAGE') AND e.extname IS DISTINCT FROM 'pigeon'
			-- What a trusted extension has belongs to a superuser, whoever created it.
			AND NOT pg_has_role(coalesce(e.extowner, o.owner), n.nspowner, 'USAGE')
		LIMIT 1;
	END IF;
	IF FOUND THEN
		RAISE EXCEPTION USING
			ERRCODE = 'insufficient_privilege',
			MESSAGE = format('permission denied to create %s', intruder),
			DETAIL = 'Only the owner of the extension may have functions, operators and types in its schema.',
			HINT = 'Use another schema.';
	END IF;
END
$$;
COMMENT ON FUNCTION pigeon.guard_schema() IS 'event trigger: keeps functions, operators and types of others out of the schema';
CREATE EVENT TRIGGER pigeon_guard_schema ON ddl_command_end
	WHEN TAG IN ('CREATE FUNCTION', 'CREATE PROCEDURE', 'CREATE AGGREGATE', 'CREATE OPERATOR', 'CREATE TYPE', 'CREATE DOMAIN',
				 'ALTER FUNCTION', 'ALTER PROCEDURE', 'ALTER ROUTINE', 'ALTER AGGREGATE', 'ALTER OPERATOR', 'ALTER TYPE',
				 'ALTER DOMAIN', 'CREATE EXTENSION', 'ALTER EXTENSION')
	EXECUTE FUNCTION pigeon.guard_schema();

------------------------------------------------------------------------------
-- Messages
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.send(
	queue text, body text, attributes jsonb DEFAULT NULL, delay interval DEFAULT NULL,
	group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_send' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.send(text, text, jsonb, interval, text, text)
	IS 'send a message, return its message_id (SQS SendMessage)';

CREATE FUNCTION pigeon.send(
	queue text, body jsonb, attributes jsonb DEFAULT NULL, delay interval DEFAULT NULL,
	group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_send_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.send(text, jsonb, jsonb, interval, text, text)
	IS 'send a JSON document as a message, return its message_id (SQS SendMessage)';

CREATE FUNCTION pigeon.send_batch(
	queue text, bodies text[], attributes jsonb[] DEFAULT NULL, delay interval DEFAULT NULL,
	group_ids text[] DEFAULT NULL, deduplication_ids text[] DEFAULT NULL
) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME', 'pgn_send_batch' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION pigeon.send_batch(text, text[], jsonb[], interval, text[], text[])
	IS 'send many messages at once, return their message_ids in order (SQS SendMessageBatch)';

CREATE FUNCTION pigeon.send_batch(
	queue text, bodies jsonb[], attributes jsonb[] DEFAULT NULL, delay interval DEFAULT NULL,
	group_ids text[] DEFAULT NULL, deduplication_ids text[] DEFAULT NULL
) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME', 'pgn_send_batch_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION pigeon.send_batch(text, jsonb[], jsonb[], interval, text[], text[])
	IS 'send many JSON documents at once, return their message_ids in order (SQS SendMessageBatch)';

CREATE FUNCTION pigeon.receive(
	queue text, max_messages integer DEFAULT 1,
	visibility_timeout interval DEFAULT NULL, wait_time interval DEFAULT NULL,
	receive_attempt_id text DEFAULT NULL
) RETURNS SETOF pigeon.message
	AS 'MODULE_PATHNAME', 'pgn_receive' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION pigeon.receive(text, integer, interval, interval, text)
	IS 'receive messages and hide them from other receivers for a while (SQS ReceiveMessage)';

CREATE FUNCTION pigeon.pop(queue text, max_messages integer DEFAULT 1) RETURNS SETOF pigeon.message
	AS 'MODULE_PATHNAME', 'pgn_pop' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION pigeon.pop(text, integer)
	IS 'receive and delete messages in one step (no SQS equivalent)';

CREATE FUNCTION pigeon.peek(queue text, max_messages integer DEFAULT 10) RETURNS SETOF pigeon.message
	AS 'MODULE_PATHNAME', 'pgn_peek' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION pigeon.peek(text, integer)
	IS 'look at messages, in flight and delayed ones too, without changing anything (no SQS equivalent)';

CREATE FUNCTION pigeon.delete(queue text, receipt pigeon.receipt) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_delete' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.delete(text, pigeon.receipt)
	IS 'delete a received message; false when it is gone or the lease is lost (SQS DeleteMessage)';

CREATE FUNCTION pigeon.delete(queue text, receipts pigeon.receipt[]) RETURNS boolean[]
	AS 'MODULE_PATHNAME', 'pgn_delete_batch' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.delete(text, pigeon.receipt[])
	IS 'delete received messages, one answer for each (SQS DeleteMessageBatch)';

CREATE FUNCTION pigeon.change_visibility(queue text, receipt pigeon.receipt, visibility_timeout interval) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_change_visibility' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.change_visibility(text, pigeon.receipt, interval)
	IS 'restart the visibility timeout of a received message; false when it is gone or the lease is lost (SQS ChangeMessageVisibility)';

CREATE FUNCTION pigeon.change_visibility(queue text, receipts pigeon.receipt[], visibility_timeout interval) RETURNS boolean[]
	AS 'MODULE_PATHNAME', 'pgn_change_visibility_batch' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.change_visibility(text, pigeon.receipt[], interval)
	IS 'restart the visibility timeout of received messages, one answer for each (SQS ChangeMessageVisibilityBatch)';

CREATE PROCEDURE pigeon.wait_for_message(queue text, wait_time interval, INOUT available boolean DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'pgn_wait_for_message' LANGUAGE C;
COMMENT ON PROCEDURE pigeon.wait_for_message(text, interval, boolean)
	IS 'wait until there is something to receive, without holding a snapshot (no SQS equivalent)';

------------------------------------------------------------------------------
-- Filter policies
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.filter_matches(
	filter_policy jsonb, filter_scope text DEFAULT 'attributes',
	attributes jsonb DEFAULT NULL, body text DEFAULT NULL
) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_filter_matches' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION pigeon.filter_matches(jsonb, text, jsonb, text)
	IS 'does a message with these attributes and this body pass the filter policy?';

CREATE FUNCTION pigeon.filter_result(
	filter_policy jsonb, filter_scope text DEFAULT 'attributes',
	attributes jsonb DEFAULT NULL, body text DEFAULT NULL
) RETURNS text
	AS 'MODULE_PATHNAME', 'pgn_filter_result' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION pigeon.filter_result(jsonb, text, jsonb, text)
	IS 'what a filter policy makes of a message: matched, or why it is filtered out';

------------------------------------------------------------------------------
-- Topics
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.create_topic(
	topic text,
	fifo boolean DEFAULT NULL,
	content_based_deduplication boolean DEFAULT NULL,
	archive_retention interval DEFAULT NULL,
	tags jsonb DEFAULT NULL,
	if_not_exists boolean DEFAULT false,
	max_message_size integer DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_create_topic' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.create_topic(text, boolean, boolean, interval, jsonb, boolean, integer)
	IS 'create a topic (SNS CreateTopic)';

CREATE FUNCTION pigeon.alter_topic(
	topic text,
	content_based_deduplication boolean DEFAULT NULL,
	archive_retention interval DEFAULT NULL,
	tags jsonb DEFAULT NULL,
	max_message_size integer DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_alter_topic' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.alter_topic(text, boolean, interval, jsonb, integer)
	IS 'change attributes of a topic; NULL keeps one as it is (SNS SetTopicAttributes)';

CREATE FUNCTION pigeon.drop_topic(topic text, if_exists boolean DEFAULT false) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_drop_topic' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.drop_topic(text, boolean)
	IS 'drop a topic and its subscriptions (SNS DeleteTopic)';

-- The two triggers of every topic's view.
CREATE FUNCTION pigeon.publish_rows() RETURNS trigger
	AS 'MODULE_PATHNAME', 'pgn_publish_rows' LANGUAGE C;
COMMENT ON FUNCTION pigeon.publish_rows() IS 'trigger: publishes what is inserted into the view of a topic';

-- The view of a topic, NULL when somebody dropped it.
CREATE FUNCTION pigeon.topic_view(topic_id integer) RETURNS regclass
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	RETURN pg_catalog.to_regclass('pigeon.t_' || topic_id);
COMMENT ON FUNCTION pigeon.topic_view(integer) IS 'the view that shows the archive of a topic, and publishes what is inserted';

CREATE VIEW pigeon.topics WITH (security_barrier) AS
	SELECT t.name AS topic,
		   t.fifo,
		   t.content_based_deduplication,
		   t.max_message_size,
		   pigeon.to_interval(t.archive_retention) AS archive_retention,
		   t.tags,
		   c.relowner::pg_catalog.regrole::name AS owner,
		   t.created_at,
		   t.altered_at,
		   c.oid::pg_catalog.regclass AS topic_view
	FROM pigeon.topic t
	JOIN pg_catalog.pg_class c ON c.oid = pigeon.topic_view(t.id)
	WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, REFERENCES');
COMMENT ON VIEW pigeon.topics IS 'the topics on which the current role has any right, and their attributes (SNS ListTopics, GetTopicAttributes)';

CREATE FUNCTION pigeon.subscribe(
	topic text,
	queue text,
	filter_policy jsonb DEFAULT NULL,
	filter_scope text DEFAULT NULL,
	raw_delivery boolean DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_subscribe' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.subscribe(text, text, jsonb, text, boolean, text)
	IS 'deliver the messages of a topic to a queue, return the subscription''s id (SNS Subscribe)';

CREATE FUNCTION pigeon.alter_subscription(
	subscription_id bigint,
	filter_policy jsonb DEFAULT NULL,
	filter_scope text DEFAULT NULL,
	raw_delivery boolean DEFAULT NULL,
	dead_letter_queue text DEFAULT NULL
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_alter_subscription' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.alter_subscription(bigint, jsonb, text, boolean, text)
	IS 'change attributes of a subscription; NULL keeps one as it is (SNS SetSubscriptionAttributes)';

CREATE FUNCTION pigeon.unsubscribe(subscription_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_unsubscribe' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.unsubscribe(bigint)
	IS 'end a subscription; false when there is none (SNS Unsubscribe)';

CREATE VIEW pigeon.subscriptions WITH (security_barrier) AS
	SELECT s.id::bigint AS subscription_id,
		   t.name AS topic,
		   s.queue,
		   s.filter_policy,
		   s.filter_scope,
		   s.raw_delivery,
		   s.dead_letter_queue,
		   s.owner,
		   s.created_at,
		   s.altered_at
	FROM pigeon.subscription s
	JOIN pigeon.topic t ON t.id = s.topic_id
	LEFT JOIN pg_catalog.pg_roles o ON o.rolname = s.owner
	LEFT JOIN pg_catalog.pg_class c ON c.oid = pigeon.topic_view(t.id)
	WHERE pg_catalog.pg_has_role(o.oid, 'USAGE')
	   OR pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW pigeon.subscriptions IS 'the subscriptions of the current role and those of its topics (SNS ListSubscriptions, GetSubscriptionAttributes)';

CREATE FUNCTION pigeon.publish(
	topic text, body text, subject text DEFAULT NULL, attributes jsonb DEFAULT NULL,
	group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL, message_structure text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_publish' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.publish(text, text, text, jsonb, text, text, text)
	IS 'publish a message to all subscribers of a topic, return its message_id (SNS Publish)';

CREATE FUNCTION pigeon.publish(
	topic text, body jsonb, subject text DEFAULT NULL, attributes jsonb DEFAULT NULL,
	group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL, message_structure text DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_publish_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.publish(text, jsonb, text, jsonb, text, text, text)
	IS 'publish a JSON document as a message to all subscribers of a topic, return its message_id (SNS Publish)';

CREATE FUNCTION pigeon.publish_batch(
	topic text, bodies text[], subjects text[] DEFAULT NULL, attributes jsonb[] DEFAULT NULL,
	group_ids text[] DEFAULT NULL, deduplication_ids text[] DEFAULT NULL, message_structure text DEFAULT NULL
) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME', 'pgn_publish_batch' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION pigeon.publish_batch(text, text[], text[], jsonb[], text[], text[], text)
	IS 'publish many messages at once, return their message_ids in order (SNS PublishBatch)';

CREATE FUNCTION pigeon.publish_batch(
	topic text, bodies jsonb[], subjects text[] DEFAULT NULL, attributes jsonb[] DEFAULT NULL,
	group_ids text[] DEFAULT NULL, deduplication_ids text[] DEFAULT NULL, message_structure text DEFAULT NULL
) RETURNS SETOF bigint
	AS 'MODULE_PATHNAME', 'pgn_publish_batch_jsonb' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 100;
COMMENT ON FUNCTION pigeon.publish_batch(text, jsonb[], text[], jsonb[], text[], text[], text)
	IS 'publish many JSON documents at once, return their message_ids in order (SNS PublishBatch)';

CREATE FUNCTION pigeon.topic_counters(
	topic_id integer,
	OUT published bigint,
	OUT published_bytes bigint,
	OUT deduplicated bigint,
	OUT delivered bigint,
	OUT filtered_out bigint,
	OUT filtered_out_message_attributes bigint,
	OUT filtered_out_message_body bigint,
	OUT filtered_out_no_message_attributes bigint,
	OUT filtered_out_invalid_attributes bigint,
	OUT filtered_out_invalid_message_body bigint,
	OUT failed bigint,
	OUT dead_lettered bigint,
	OUT failed_to_dead_letter bigint
) RETURNS record
	AS 'MODULE_PATHNAME', 'pgn_topic_counters' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.topic_counters(integer)
	IS 'internal: the counters of a topic, NULLs without shared memory';

CREATE VIEW pigeon.topic_metrics WITH (security_barrier) AS
	SELECT t.name AS topic,
		   (SELECT count(*) FROM pigeon.subscription s WHERE s.topic_id = t.id) AS subscriptions,
		   counters.*,
		   archive.bytes AS archived_bytes
	FROM pigeon.topic t
	JOIN pg_catalog.pg_class c ON c.oid = pigeon.topic_view(t.id)
	CROSS JOIN LATERAL pigeon.topic_counters(t.id) AS counters
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(pg_catalog.pg_table_size(pg_catalog.to_regclass('pigeon.t_' || t.id || '_' || segment))), 0)::bigint
		FROM pg_catalog.generate_series(0, 7) AS segment WHERE t.archive_retention IS NOT NULL
	) AS archive (bytes)
	WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, REFERENCES');
COMMENT ON VIEW pigeon.topic_metrics IS 'what happened to the messages of each topic (the CloudWatch metrics of SNS)';

------------------------------------------------------------------------------
-- Replay
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.replay(
	subscription_id bigint, from_time timestamptz,
	to_time timestamptz DEFAULT NULL, max_per_second integer DEFAULT NULL
) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_replay' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.replay(bigint, timestamptz, timestamptz, integer)
	IS 'start delivering archived messages to a subscription again, return the task''s id (SNS ReplayPolicy)';

CREATE FUNCTION pigeon.cancel_replay(task_id bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_cancel_replay' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.cancel_replay(bigint)
	IS 'stop a replay task, return how many messages it delivered (no SNS equivalent)';

CREATE VIEW pigeon.replay_tasks WITH (security_barrier) AS
	SELECT r.id AS task_id, r.subscription_id::bigint, t.name AS topic, s.queue, r.from_time, r.to_time,
		   r.max_per_second, r.status, r.replayed, r.filtered_out,
		   CASE WHEN r.status = 'COMPLETED' THEN r.to_time ELSE r.position_time END AS replayed_to,
		   r.failure_reason, r.started_by, r.started_at, r.finished_at
	FROM pigeon.replay_task r
	LEFT JOIN pigeon.subscription s ON s.id = r.subscription_id
	LEFT JOIN pigeon.topic t ON t.id = r.topic_id
	LEFT JOIN pg_catalog.pg_roles o ON o.rolname IN (r.started_by, s.owner)
	WHERE pg_catalog.pg_has_role(o.oid, 'USAGE')
	GROUP BY r.id, t.name, s.queue;
COMMENT ON VIEW pigeon.replay_tasks IS 'replay tasks of the current role and its subscriptions, running and past (SNS ReplayStatus)';

------------------------------------------------------------------------------
-- Outbox: publishing the changes of tables
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.publish_change() RETURNS trigger
	AS 'MODULE_PATHNAME', 'pgn_publish_change' LANGUAGE C;
COMMENT ON FUNCTION pigeon.publish_change() IS 'trigger: publishes a change of a table; attached by publish_changes';

-- Without a search_path of its own, since the condition is the caller's.
CREATE FUNCTION pigeon.publish_changes(
	source regclass,
	topic text,
	events text DEFAULT 'insert,update,delete',
	columns name[] DEFAULT NULL,
	condition text DEFAULT NULL,
	group_by name DEFAULT NULL,
	include_replicated boolean DEFAULT false
) RETURNS void
	AS 'MODULE_PATHNAME', 'pgn_publish_changes' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION pigeon.publish_changes(regclass, text, text, name[], text, name, boolean)
	IS 'publish every change of a table to a topic (no SNS equivalent)';

CREATE FUNCTION pigeon.stop_publishing_changes(source regclass, topic text) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_stop_publishing_changes' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.stop_publishing_changes(regclass, text)
	IS 'stop what publish_changes began; false when it had not (no SNS equivalent)';

CREATE FUNCTION pigeon.mark_processed(queue text, message_id bigint) RETURNS boolean
	AS 'MODULE_PATHNAME', 'pgn_mark_processed' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.mark_processed(text, bigint)
	IS 'note that a message was processed; false if it was noted before (no SQS equivalent)';

------------------------------------------------------------------------------
-- Metrics of queues
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.queue_figures(
	queue_id integer,
	OUT visible bigint,
	OUT in_flight bigint,
	OUT delayed bigint,
	OUT oldest_sent_at timestamptz,
	OUT groups_in_flight bigint,
	OUT approximate boolean,
	OUT sent bigint,
	OUT sent_bytes bigint,
	OUT deduplicated bigint,
	OUT received bigint,
	OUT empty_receives bigint,
	OUT deleted bigint,
	OUT expired bigint,
	OUT purged bigint,
	OUT dead_lettered bigint,
	OUT redriven bigint,
	OUT noisy_groups bigint,
	OUT visible_in_quiet_groups bigint,
	OUT in_flight_in_quiet_groups bigint,
	OUT delayed_in_quiet_groups bigint,
	OUT oldest_sent_at_in_quiet_groups timestamptz
) RETURNS record
	AS 'MODULE_PATHNAME', 'pgn_queue_figures' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.queue_figures(integer)
	IS 'the figures of one queue for the view queue_metrics; needs the right to peek';

CREATE VIEW pigeon.queue_metrics WITH (security_barrier) AS
	SELECT q.name AS queue,
		   f.visible, f.in_flight, f.delayed,
		   CASE WHEN f.oldest_sent_at IS NOT NULL
				THEN greatest(pg_catalog.clock_timestamp() - f.oldest_sent_at, '0') END AS oldest_message_age,
		   f.groups_in_flight, f.approximate,
		   f.sent, f.sent_bytes, f.deduplicated, f.received, f.empty_receives, f.deleted,
		   f.expired, f.purged, f.dead_lettered, f.redriven,
		   f.noisy_groups, f.visible_in_quiet_groups, f.in_flight_in_quiet_groups, f.delayed_in_quiet_groups,
		   CASE WHEN f.oldest_sent_at_in_quiet_groups IS NOT NULL
				THEN greatest(pg_catalog.clock_timestamp() - f.oldest_sent_at_in_quiet_groups, '0')
		   END AS oldest_message_age_in_quiet_groups
	FROM pigeon.queue q
	JOIN pg_catalog.pg_class c ON c.oid = pigeon.queue_table(q.id)
	CROSS JOIN LATERAL pigeon.queue_figures(
		CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN q.id END) AS f
	WHERE pg_catalog.has_table_privilege(c.oid, 'SELECT');
COMMENT ON VIEW pigeon.queue_metrics IS 'how many messages each queue has, and what happened to them (the CloudWatch metrics of SQS)';

CREATE FUNCTION pigeon.exact_queue_metrics(
	queue text,
	OUT visible bigint,
	OUT in_flight bigint,
	OUT delayed bigint,
	OUT oldest_sent_at timestamptz,
	OUT groups_in_flight bigint
) RETURNS record
	AS 'MODULE_PATHNAME', 'pgn_exact_queue_metrics' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.exact_queue_metrics(text)
	IS 'how many messages a queue has, counted one by one';

CREATE VIEW pigeon.log_metrics AS
	SELECT segment,
		   segment = coalesce((SELECT s.current_segment::integer FROM pigeon.log_state s), 0) AS current,
		   pg_catalog.pg_table_size(pg_catalog.to_regclass('pigeon.' || relname)) AS bytes,
		   pg_catalog.pg_indexes_size(pg_catalog.to_regclass('pigeon.' || relname)) AS index_bytes
	FROM (SELECT n AS segment, 'log_' || n AS relname FROM pg_catalog.generate_series(0, 7) AS n
		  UNION ALL SELECT NULL, 'log_old') AS log;
COMMENT ON VIEW pigeon.log_metrics IS 'size of the message log, by segment; segment NULL is the old generation';

-- What keeps VACUUM, and with it the queues' tables, from forgetting rows: snapshots, and transactions that have
-- written something and are open; but not a VACUUM.
CREATE VIEW pigeon.xmin_horizon AS
	SELECT kind, holder, since, pg_catalog.age(xmin) AS age
	FROM (SELECT 'session', 'pid ' || pid || coalesce(' (' || usename || ')', ''), xact_start,
				 CASE WHEN pg_catalog.age(backend_xid) > pg_catalog.age(backend_xmin) OR backend_xmin IS NULL
					  THEN backend_xid ELSE backend_xmin END
		  FROM pg_catalog.pg_stat_activity
		  WHERE backend_type <> 'walsender' AND pid <> pg_catalog.pg_backend_pid()
			AND coalesce(leader_pid, pid) NOT IN (SELECT v.pid FROM pg_catalog.pg_stat_progress_vacuum v)
		  UNION ALL
		  SELECT 'prepared transaction', gid, prepared, transaction FROM pg_catalog.pg_prepared_xacts
		  UNION ALL
		  SELECT 'replication slot', slot_name::text, NULL, xmin FROM pg_catalog.pg_replication_slots
		  UNION ALL
		  SELECT 'standby', application_name, backend_start, backend_xmin FROM pg_catalog.pg_stat_replication
		 ) AS holders (kind, holder, since, xmin)
	WHERE xmin IS NOT NULL
	ORDER BY age DESC;
COMMENT ON VIEW pigeon.xmin_horizon IS 'who keeps VACUUM from removing dead rows, and since when; who holds it back most comes first';

------------------------------------------------------------------------------
-- Dead letters and maintenance
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.redrive(dead_letter_queue text, destination text DEFAULT NULL, max_per_second integer DEFAULT NULL) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_redrive' LANGUAGE C VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.redrive(text, text, integer)
	IS 'start moving the messages of a dead-letter queue back, return the task''s id (SQS StartMessageMoveTask)';

CREATE FUNCTION pigeon.cancel_redrive(task_id bigint) RETURNS bigint
	AS 'MODULE_PATHNAME', 'pgn_cancel_redrive' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT
	SET search_path = pg_catalog, pg_temp;
COMMENT ON FUNCTION pigeon.cancel_redrive(bigint)
	IS 'stop a redrive task, return how many messages it moved (SQS CancelMessageMoveTask)';

CREATE VIEW pigeon.redrive_tasks WITH (security_barrier) AS
	SELECT t.id AS task_id, t.dead_letter_queue, t.destination, t.max_per_second, t.status,
		   t.moved, t.to_move, t.failure_reason, t.started_by, t.started_at, t.finished_at
	FROM pigeon.redrive_task t
	WHERE EXISTS (SELECT FROM pg_catalog.pg_roles r
				  WHERE r.rolname = t.started_by AND pg_catalog.pg_has_role(r.oid, 'USAGE'))
	   OR pg_catalog.has_table_privilege(pigeon.queue_table(t.queue_id), 'SELECT');
COMMENT ON VIEW pigeon.redrive_tasks IS 'redrive tasks, running and past (SQS ListMessageMoveTasks)';

CREATE PROCEDURE pigeon.maintain()
	AS 'MODULE_PATHNAME', 'pgn_maintain' LANGUAGE C;
COMMENT ON PROCEDURE pigeon.maintain()
	IS 'one pass of maintenance: dead letters, retention, archives, redrive and replay tasks, message log';

------------------------------------------------------------------------------
-- Schedules, on top of pg_cron.  The job belongs to and runs as the caller, so
-- its rights are checked each time it runs; pg_cron keeps and shows it.  A name
-- that is taken by another job of the same role is refused.
------------------------------------------------------------------------------

CREATE FUNCTION pigeon.schedule_command(name text, cron text, command text) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id bigint;
	taken boolean;
BEGIN
	IF name IS NULL OR cron IS NULL OR command IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'name, cron and command must not be null';
	END IF;
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') THEN
		RAISE EXCEPTION USING
			ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = 'extension "pg_cron" is not installed in this database',
			HINT = 'Install pg_cron in the database that its setting cron.database_name names.';
	END IF;
	EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE jobname = $1 AND username = current_user)'
		INTO taken USING name;
	IF taken THEN
		RAISE EXCEPTION USING
			ERRCODE = 'duplicate_object',
			MESSAGE = format('schedule "%s" already exists', name),
			HINT = 'Remove it with pigeon.unschedule().';
	END IF;
	EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO id USING name, cron, command;
	RETURN id;
END
$$;
COMMENT ON FUNCTION pigeon.schedule_command(text, text, text)
	IS 'have pg_cron run a command of the caller, return the job''s id';

-- What a scheduled command gives as deduplication_id: each run is another message, so in a FIFO queue or topic it needs another id.
CREATE FUNCTION pigeon.scheduled_id(fifo boolean, deduplication_id text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN fifo AND deduplication_id IS NULL THEN 'pg_catalog.gen_random_uuid()::text' ELSE format('%L::text', deduplication_id) END
$$;
COMMENT ON FUNCTION pigeon.scheduled_id(boolean, text)
	IS 'the deduplication_id of a scheduled command, as SQL; used by schedule_send and schedule_publish';

CREATE FUNCTION pigeon.schedule_send(
	name text, cron text, queue text, body text, attributes jsonb DEFAULT NULL,
	delay interval DEFAULT NULL, group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL
) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF queue IS NULL OR body IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'queue and body must not be null';
	END IF;
	RETURN pigeon.schedule_command(name, cron,
		format('SELECT pigeon.send(%L::text, %L::text, %L::jsonb, %L::interval, %L::text, %s)',
			queue, body, attributes, delay, group_id, pigeon.scheduled_id(
				(SELECT q.fifo FROM pigeon.queues q WHERE q.queue = schedule_send.queue), deduplication_id)));
END
$$;
COMMENT ON FUNCTION pigeon.schedule_send(text, text, text, text, jsonb, interval, text, text)
	IS 'send the same message again and again at the times of a cron schedule; needs pg_cron';

CREATE FUNCTION pigeon.schedule_publish(
	name text, cron text, topic text, body text, subject text DEFAULT NULL, attributes jsonb DEFAULT NULL,
	group_id text DEFAULT NULL, deduplication_id text DEFAULT NULL
) RETURNS bigint
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF topic IS NULL OR body IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'topic and body must not be null';
	END IF;
	RETURN pigeon.schedule_command(name, cron,
		format('SELECT pigeon.publish(%L::text, %L::text, %L::text, %L::jsonb, %L::text, %s)',
			topic, body, subject, attributes, group_id, pigeon.scheduled_id(
				(SELECT t.fifo FROM pigeon.topics t WHERE t.topic = schedule_publish.topic), deduplication_id)));
END
$$;
COMMENT ON FUNCTION pigeon.schedule_publish(text, text, text, text, text, jsonb, text, text)
	IS 'publish the same message again and again at the times of a cron schedule; needs pg_cron';

CREATE FUNCTION pigeon.unschedule(name text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	removed boolean := false;
BEGIN
	IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'pg_cron') THEN
		EXECUTE 'SELECT coalesce(bool_or(cron.unschedule(jobid)), false) FROM cron.job
			WHERE jobname = $1 AND username = current_user' INTO removed USING name;
	END IF;
	RETURN removed;
END
$$;
COMMENT ON FUNCTION pigeon.unschedule(text)
	IS 'remove a schedule of the current role; false when there is none of this name';

------------------------------------------------------------------------------
-- Checking that all is well.  What a problem is, is said here; check.c reads
-- the rows of users' tables.
------------------------------------------------------------------------------

-- The deliveries of a queue, each with the group that the log says (NULL: it
-- is not in the log; 0: no group) and whether it is below the scan frontier.
-- A row of nulls: the table cannot be looked at.
CREATE FUNCTION pigeon.check_deliveries(queue_id integer) RETURNS TABLE (
	message_id bigint, log_key bigint, enqueued_at timestamptz, home integer, log_block integer, segment smallint,
	log_offset smallint, lane smallint, due_at timestamptz, received_at timestamptz, lease integer,
	receive_count integer, visible_at timestamptz, group_key bigint, subscription integer, source integer,
	first_received_at timestamptz, queue_receive_count integer,
	logged_group_key bigint, hidden boolean
)
	AS 'MODULE_PATHNAME', 'pgn_check_deliveries' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT;
COMMENT ON FUNCTION pigeon.check_deliveries(integer) IS 'internal: what check() has to know of deliveries';

CREATE FUNCTION pigeon.check_schedule(queue_id integer) RETURNS TABLE (
	group_key bigint, first_message_id bigint, visible_at timestamptz, final boolean, hidden boolean
)
	AS 'MODULE_PATHNAME', 'pgn_check_schedule' LANGUAGE C VOLATILE PARALLEL UNSAFE STRICT;
COMMENT ON FUNCTION pigeon.check_schedule(integer) IS 'internal: what check() has to know of message groups';

-- Problems of tables and of the registry.  One snapshot shows all there is to
-- see, so each of them is certain.
CREATE FUNCTION pigeon.check_registry() RETURNS TABLE (object text, problem text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH expected AS (
		SELECT 'log_old' AS name, 'r' AS kind
		UNION ALL SELECT 'log_' || segment, 'r' FROM pg_catalog.generate_series(0, 7) AS segment
		UNION ALL SELECT 'q_' || id, 'r' FROM pigeon.queue
		UNION ALL SELECT prefix || id, 'r' FROM pigeon.queue, (VALUES ('g_'), ('d_')) AS p (prefix) WHERE fifo
		UNION ALL SELECT 't_' || id, 'v' FROM pigeon.topic
		UNION ALL SELECT 'd_' || id, 'r' FROM pigeon.topic WHERE fifo
		UNION ALL SELECT 't_' || id || '_' || segment, 'r' FROM pigeon.topic, pg_catalog.generate_series(0, 7) AS segment
			WHERE archive_retention > 0
	), present AS (
		SELECT relname::text AS name, relkind AS kind, oid FROM pg_catalog.pg_class
		WHERE relnamespace = 'pigeon'::regnamespace AND relkind NOT IN ('i', 'I')
		  AND relname ~ '^(log_([0-9]+|old)|[qgdt]_[0-9]+|t_[0-9]+_[0-9]+)$'
	), needed_index (prefix, fifo, columns) AS (
		VALUES ('log_old', NULL, '{message_id}'::name[]),
			   ('q_', NULL, '{message_id,home}'), ('q_', false, '{lane,due_at}'), ('q_', true, '{group_key,message_id}'),
			   ('g_', NULL, '{visible_at}'), ('g_', NULL, '{group_key,visible_at}'),
			   ('d_', NULL, '{key_high}'), ('t_', NULL, '{published_at,message_id}')
	)
	SELECT 'pigeon.' || name,
		   CASE WHEN p.name IS NULL THEN 'is missing'
				WHEN e.name IS NULL THEN 'belongs to no queue or topic'
				ELSE 'is of another kind than it should be' END
	FROM expected e FULL JOIN present p USING (name)
	WHERE p.kind IS DISTINCT FROM e.kind
	UNION ALL
	SELECT 'pigeon.' || p.name, pg_catalog.format('has no valid index on %s', pg_catalog.array_to_string(n.columns, ', '))
	FROM present p
	JOIN needed_index n ON pg_catalog.starts_with(p.name, n.prefix) AND p.kind = 'r'
	LEFT JOIN pigeon.queue q ON 'q_' || q.id = p.name
	WHERE coalesce(n.fifo = q.fifo, n.fifo IS NULL) AND NOT EXISTS (
		SELECT FROM pg_catalog.pg_index i
		WHERE i.indrelid = p.oid AND i.indisvalid AND i.indpred IS NULL AND n.columns = ARRAY(
			SELECT a.attname FROM pg_catalog.unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, number)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
			WHERE k.number <= i.indnkeyatts ORDER BY k.number))
	UNION ALL
	SELECT 'pigeon.log_state', pg_catalog.format('segment %s does not exist', current_segment)
	FROM pigeon.log_state WHERE current_segment NOT BETWEEN 0 AND 7
	UNION ALL
	SELECT 'pigeon.subscription', pg_catalog.format('subscription %s is to topic %s, which does not exist', s.id, s.topic_id)
	FROM pigeon.subscription s WHERE NOT EXISTS (SELECT FROM pigeon.topic t WHERE t.id = s.topic_id)
	UNION ALL
	SELECT 'pigeon.queue_id_seq', pg_catalog.format('is not above %s, which is in use', used.id)
	FROM pigeon.queue_id_seq sequence,
		 (SELECT pg_catalog.max(id) AS id
		  FROM (SELECT id FROM pigeon.queue UNION ALL SELECT id FROM pigeon.topic
				UNION ALL SELECT id FROM pigeon.subscription) AS ids) AS used
	WHERE used.id > sequence.last_value OR (used.id = sequence.last_value AND NOT sequence.is_called)
	UNION ALL
	SELECT 'pigeon.message_id_seq', pg_catalog.format('is not above %s, which is in use', used.id)
	FROM pigeon.message_id_seq sequence,
		 (SELECT GREATEST((SELECT pg_catalog.max(message_id) FROM pigeon.log_0), (SELECT pg_catalog.max(message_id) FROM pigeon.log_1),
						  (SELECT pg_catalog.max(message_id) FROM pigeon.log_2), (SELECT pg_catalog.max(message_id) FROM pigeon.log_3),
						  (SELECT pg_catalog.max(message_id) FROM pigeon.log_4), (SELECT pg_catalog.max(message_id) FROM pigeon.log_5),
						  (SELECT pg_catalog.max(message_id) FROM pigeon.log_6), (SELECT pg_catalog.max(message_id) FROM pigeon.log_7),
						  (SELECT pg_catalog.max(message_id) FROM pigeon.log_old)) AS id) AS used
	WHERE used.id > sequence.last_value OR (used.id = sequence.last_value AND NOT sequence.is_called);
END;
COMMENT ON FUNCTION pigeon.check_registry() IS 'internal: what check() finds in tables and registry';

-- Problems of deliveries and message groups, of these queues or (NULL) of all.
-- One that is found in several looks, some time apart, is certain; see check.c.
-- The order of a group is that of message_ids; its schedule may say "now" of a
-- message that became visible long ago (src/schedule.c).
CREATE FUNCTION pigeon.check_queues(queue_ids integer[]) RETURNS TABLE (queue_id integer, object text, problem text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH looked_at AS MATERIALIZED (
		SELECT q.id, q.fifo
		FROM pigeon.queue q
		JOIN pg_catalog.pg_class c ON c.relname = 'q_' || q.id AND c.relnamespace = 'pigeon'::regnamespace
		WHERE queue_ids IS NULL OR q.id = ANY (queue_ids)
	), delivery AS MATERIALIZED (
		SELECT q.id AS queue_id, q.fifo, d.* FROM looked_at q, pigeon.check_deliveries(q.id) d
	), entry AS MATERIALIZED (
		SELECT q.id AS queue_id, s.* FROM looked_at q, pigeon.check_schedule(q.id) s WHERE q.fifo
	), head AS (
		SELECT DISTINCT ON (queue_id, group_key) queue_id, group_key, message_id, coalesce(visible_at, due_at) AS visible_at
		FROM delivery
		WHERE fifo AND message_id IS NOT NULL
		  AND queue_id NOT IN (SELECT queue_id FROM entry WHERE group_key IS NULL)
		ORDER BY queue_id, group_key, message_id, coalesce(visible_at, due_at) DESC
	), copied AS (
		SELECT pg_catalog.array_agg(queue_id) AS queue_ids, message_id, home
		FROM delivery WHERE message_id IS NOT NULL
		GROUP BY message_id, home HAVING pg_catalog.count(*) > 1
	)
	SELECT queue_id, 'pigeon.q_' || queue_id, 'cannot be looked at: it is locked, or not as pigeon made it'
	FROM delivery WHERE message_id IS NULL
	UNION ALL
	SELECT queue_id, 'pigeon.g_' || queue_id, 'cannot be looked at: it is locked, or not as pigeon made it'
	FROM entry WHERE group_key IS NULL
	UNION ALL
	SELECT d.queue_id, 'pigeon.q_' || d.queue_id, pg_catalog.format('message %s (home %s) %s', d.message_id, d.home, p.problem)
	FROM delivery d
	CROSS JOIN LATERAL (VALUES
		(d.logged_group_key IS NULL, 'is not in the message log'),
		(d.hidden, pg_catalog.format('is below the scan frontier, due at %s', d.due_at)),
		(d.home <= 0, 'has an impossible home'),
		(d.segment NOT BETWEEN 0 AND 7, pg_catalog.format('is in segment %s, which does not exist', d.segment)),
		(d.lane NOT BETWEEN 0 AND CASE WHEN d.fifo THEN 1 ELSE 6 END, pg_catalog.format('is in lane %s, which does not exist', d.lane)),
		(coalesce(d.queue_receive_count, d.receive_count) NOT BETWEEN 0 AND coalesce(d.receive_count, 0), 'has impossible receive counts'),
		((coalesce(d.receive_count, 0) > 0) <> (coalesce(d.received_at, '-infinity') > '-infinity'), 'has a receive count and a time of receive that contradict each other'),
		(d.fifo AND coalesce(d.group_key, 0) = 0, 'has no message group'),
		(d.group_key NOT IN (0, d.logged_group_key), 'has another message group than in the message log')
	) AS p (found, problem)
	WHERE d.message_id IS NOT NULL AND p.found
	UNION ALL
	SELECT place, 'pigeon.q_' || place, pg_catalog.format('message %s (home %s) is in several queues', c.message_id, c.home)
	FROM copied c, pg_catalog.unnest(c.queue_ids) AS place
	UNION ALL
	SELECT h.queue_id, 'pigeon.g_' || h.queue_id, pg_catalog.format('group %s has no entry that is early enough for message %s', h.group_key, h.message_id)
	FROM head h
	WHERE NOT EXISTS (
		SELECT FROM entry e WHERE e.queue_id = h.queue_id AND e.group_key = h.group_key
		AND e.visible_at <= GREATEST(h.visible_at, pg_catalog.clock_timestamp()))
	UNION ALL
	SELECT h.queue_id, 'pigeon.g_' || h.queue_id, pg_catalog.format('group %s has an entry that begins behind message %s', h.group_key, h.message_id)
	FROM head h JOIN entry e USING (queue_id, group_key)
	WHERE e.first_message_id > h.message_id
	UNION ALL
	SELECT e.queue_id, 'pigeon.g_' || e.queue_id, pg_catalog.format('the entry of group %s is below the scan frontier, due at %s', e.group_key, e.visible_at)
	FROM entry e WHERE e.hidden;
END;
COMMENT ON FUNCTION pigeon.check_queues(integer[]) IS 'internal: what check() finds in queues';

CREATE FUNCTION pigeon.check() RETURNS TABLE (object text, problem text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	queue_ids integer[];
	objects text[];
	problems text[];
BEGIN
	-- Each look must see what is there when it is taken.
	IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
		RAISE EXCEPTION 'pigeon.check() cannot run in a % transaction', current_setting('transaction_isolation')
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Use READ COMMITTED.';
	END IF;

	FOR look IN 1 .. 5 LOOP
		PERFORM pg_sleep(0.2) WHERE look > 1;
		SELECT array_agg(DISTINCT c.queue_id), array_agg(c.object), array_agg(c.problem)
		INTO queue_ids, objects, problems
		FROM pigeon.check_queues(queue_ids) c
		WHERE look = 1 OR (c.object, c.problem) IN (SELECT * FROM unnest(objects, problems));
		EXIT WHEN queue_ids IS NULL;
	END LOOP;
	RETURN QUERY SELECT * FROM pigeon.check_registry();
	RETURN QUERY SELECT * FROM unnest(objects, problems);
END
$$;
COMMENT ON FUNCTION pigeon.check()
	IS 'what is wrong with queues, topics and the message log; no rows if all is well';

------------------------------------------------------------------------------
-- Who may call what.  Anybody may call what stands here, since each of these
-- functions checks the rights on the queue or topic, and each view shows what
-- the caller has a right on; the rest is for the owner of the extension.
------------------------------------------------------------------------------

-- First what everybody has by default, and what default privileges of who
-- installs may have given to others.
DO $$
DECLARE
	granted record;
BEGIN
	FOR granted IN
		SELECT DISTINCT object, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS role
		FROM (
			SELECT 'SCHEMA pigeon', nspowner, coalesce(nspacl, acldefault('n', nspowner))
			FROM pg_namespace WHERE nspname = 'pigeon'
			UNION ALL
			SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass, relowner, relacl
			FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind IN ('r', 'v', 'S')
			UNION ALL
			SELECT 'ROUTINE ' || oid::regprocedure, proowner, coalesce(proacl, acldefault('f', proowner))
			FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace
			UNION ALL
			SELECT 'TYPE ' || oid::regtype, typowner, coalesce(typacl, acldefault('T', typowner))
			FROM pg_type WHERE oid IN ('pigeon.receipt'::regtype, 'pigeon.message'::regtype)
		) AS objects (object, owner, acl), aclexplode(objects.acl) AS acl
		WHERE acl.grantee <> owner
	LOOP
		EXECUTE format('REVOKE ALL ON %s FROM %s', granted.object, granted.role);
	END LOOP;
END
$$;

GRANT USAGE ON SCHEMA pigeon TO PUBLIC;
GRANT USAGE ON TYPE pigeon.receipt, pigeon.message TO PUBLIC;
GRANT SELECT ON
	pigeon.queues, pigeon.topics, pigeon.subscriptions, pigeon.topic_metrics, pigeon.replay_tasks,
	pigeon.queue_metrics, pigeon.redrive_tasks
TO PUBLIC;
GRANT SELECT ON pigeon.log_metrics, pigeon.xmin_horizon TO pg_monitor;
GRANT EXECUTE ON FUNCTION
	pigeon.receipt_in, pigeon.receipt_out, pigeon.receipt_recv, pigeon.receipt_send,
	pigeon.receipt_eq, pigeon.receipt_hash,
	pigeon.create_queue, pigeon.alter_queue, pigeon.drop_queue, pigeon.purge_queue,
	pigeon.grant_access, pigeon.revoke_access, pigeon.queue_table, pigeon.to_interval,
	pigeon.send(text, text, jsonb, interval, text, text),
	pigeon.send(text, jsonb, jsonb, interval, text, text),
	pigeon.send_batch(text, text[], jsonb[], interval, text[], text[]),
	pigeon.send_batch(text, jsonb[], jsonb[], interval, text[], text[]),
	pigeon.receive, pigeon.pop, pigeon.peek,
	pigeon.delete(text, pigeon.receipt), pigeon.delete(text, pigeon.receipt[]),
	pigeon.change_visibility(text, pigeon.receipt, interval),
	pigeon.change_visibility(text, pigeon.receipt[], interval),
	pigeon.mark_processed,
	pigeon.redrive, pigeon.cancel_redrive,
	pigeon.replay, pigeon.cancel_replay, pigeon.topic_counters,
	pigeon.queue_figures, pigeon.exact_queue_metrics,
	pigeon.schedule_command, pigeon.scheduled_id, pigeon.schedule_send, pigeon.schedule_publish, pigeon.unschedule,
	pigeon.filter_matches, pigeon.filter_result,
	pigeon.create_topic, pigeon.alter_topic, pigeon.drop_topic, pigeon.topic_view,
	pigeon.publish_rows, pigeon.publish_change, pigeon.guard_deliveries,
	pigeon.subscribe, pigeon.alter_subscription, pigeon.unsubscribe,
	pigeon.publish(text, text, text, jsonb, text, text, text),
	pigeon.publish(text, jsonb, text, jsonb, text, text, text),
	pigeon.publish_batch(text, text[], text[], jsonb[], text[], text[], text),
	pigeon.publish_batch(text, jsonb[], text[], jsonb[], text[], text[], text),
	pigeon.publish_changes, pigeon.stop_publishing_changes
TO PUBLIC;
GRANT EXECUTE ON PROCEDURE pigeon.wait_for_message TO PUBLIC;
