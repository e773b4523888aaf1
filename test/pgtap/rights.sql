-- Who may do what: every object of the extension against the owner of a queue or topic, a member of that role, a role for
-- each action, a role that may create queues, and a stranger, who has what PUBLIC has. An object that is not in the matrix
-- fails the test.
SELECT plan(184);
CREATE ROLE pgn_owner;
CREATE ROLE pgn_member IN ROLE pgn_owner;
CREATE ROLE pgn_send;
CREATE ROLE pgn_receive;
CREATE ROLE pgn_delete;
CREATE ROLE pgn_pop;
CREATE ROLE pgn_peek;
CREATE ROLE pgn_purge;
CREATE ROLE pgn_publish;
CREATE ROLE pgn_subscribe;
CREATE ROLE pgn_archive;
CREATE ROLE pgn_create;
CREATE ROLE pgn_monitor IN ROLE pg_monitor;
CREATE ROLE pgn_stranger;
GRANT CREATE ON SCHEMA pigeon TO pgn_owner, pgn_create;

-- What a command does as some role: OK, 0 if it finds no rows, or a SQLSTATE. Nothing of it stays.
CREATE FUNCTION attempt(role name, command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	nrows bigint;
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE command;
	GET DIAGNOSTICS nrows = ROW_COUNT;
	RAISE EXCEPTION USING ERRCODE = CASE WHEN nrows = 0 AND command ~ 'FROM' THEN 'NOROW' ELSE 'OK000' END;
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'OK000' THEN 'OK' WHEN 'NOROW' THEN '0' ELSE SQLSTATE END;
END $$;

-- Who is not refused by it?
CREATE FUNCTION allowed(command text) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN count(*) FILTER (WHERE answer = 'OK') = 13 THEN 'all'
				WHEN count(*) FILTER (WHERE answer NOT IN ('0', '42501')) = 0 THEN 'none'
				ELSE string_agg(CASE answer WHEN 'OK' THEN role ELSE role || ' ' || answer END, ' ' ORDER BY place)
					FILTER (WHERE answer NOT IN ('0', '42501')) END
	FROM unnest('{owner,send,receive,delete,pop,peek,purge,publish,subscribe,archive,create,monitor,stranger}'::text[])
			WITH ORDINALITY AS roles (role, place),
		attempt('pgn_' || role, command) AS answer $$;

-- Queues and topics of both kinds, with the same rights on them
SET ROLE pgn_owner;
SELECT pigeon.create_queue('dead' || k, fifo => f) FROM (VALUES ('', false), ('f', true)) AS kinds (k, f);
SELECT pigeon.create_queue('q' || k, fifo => f, content_based_deduplication => f, dead_letter_queue => 'dead' || k, max_receive_count => 1)
FROM (VALUES ('', false), ('f', true)) AS kinds (k, f);
SELECT pigeon.create_topic('t' || k, fifo => f, content_based_deduplication => f, archive_retention => '1 day')
FROM (VALUES ('', false), ('f', true)) AS kinds (k, f);
SELECT pigeon.grant_access(name, 'pgn_' || role, actions)
FROM (VALUES ('q', 'send', '{send}'::text[]), ('q', 'receive', '{receive}'), ('q', 'delete', '{delete}'), ('q', 'pop', '{receive,delete}'),
		('q', 'peek', '{peek}'), ('q', 'purge', '{purge}'), ('t', 'publish', '{publish}'), ('t', 'subscribe', '{subscribe}'),
		('t', 'archive', '{read_archive}')) AS rights (object, role, actions),
	LATERAL (VALUES (object), (object || 'f')) AS names (name);
SELECT pigeon.subscribe('t' || k, 'dead' || k) FROM (VALUES (''), ('f')) AS kinds (k);
SELECT pigeon.publish_batch('t' || k, ARRAY['1', '2', '3'], group_ids => ARRAY['a', 'b', 'c']) FROM (VALUES (''), ('f')) AS kinds (k);
-- Tasks that do not end: one message a second.
SELECT pigeon.replay(subscription_id, '-infinity', max_per_second => 1) FROM pigeon.subscriptions;
SELECT pigeon.send_batch('q' || k, ARRAY['1', '2', '3'], group_ids => ARRAY['a', 'b', 'c']) FROM (VALUES (''), ('f')) AS kinds (k);
SELECT count(*) FROM pigeon.receive('q', 9, '0 s');
SELECT count(*) FROM pigeon.receive('qf', 9, '0 s');
SELECT pg_sleep(0.01);
SELECT count(*) FROM pigeon.receive('q', 9, '0 s');
SELECT count(*) FROM pigeon.receive('qf', 9, '0 s');
SELECT pigeon.redrive('dead' || k, max_per_second => 1) FROM (VALUES (''), ('f')) AS kinds (k);
SELECT pigeon.send('q' || k, 'x', group_id => 'x') FROM (VALUES (''), ('f')) AS kinds (k);
CREATE TEMP TABLE source (a integer);
CREATE TEMP TABLE published (a integer);
SELECT pigeon.publish_changes('published', 't' || k, group_by => 'a') FROM (VALUES (''), ('f')) AS kinds (k);
RESET ROLE;
SELECT is(count(*), 2::bigint, 'redrives are running') FROM pigeon.redrive_tasks WHERE status = 'RUNNING';
SELECT is(count(*), 2::bigint, 'replays are running') FROM pigeon.replay_tasks WHERE status = 'RUNNING';
CREATE TABLE got AS SELECT 'q' AS queue, receipt::text FROM pigeon.receive('q', 9, '1 hour') UNION ALL SELECT 'qf', receipt::text FROM pigeon.receive('qf', 9, '1 hour');
GRANT SELECT ON got TO PUBLIC;

-- The matrix: object, whether PUBLIC may call or read it, a command, and who may do that. "@" is q and qf, "#" t and tf,
-- "~" dead and deadf. A command of NULL: it cannot be used directly.
CREATE TABLE matrix (object text, public boolean, command text, allowed text);
INSERT INTO matrix VALUES
	('send(text,text,jsonb,interval,text,text)', true, $$SELECT pigeon.send('@', 'x', group_id => 'a')$$, 'owner send'),
	('send(text,jsonb,jsonb,interval,text,text)', true, $$SELECT pigeon.send('@', '1'::jsonb, group_id => 'a')$$, 'owner send'),
	('send_batch(text,text[],jsonb[],interval,text[],text[])', true, $$SELECT pigeon.send_batch('@', ARRAY['x'], group_ids => ARRAY['a'])$$, 'owner send'),
	('send_batch(text,jsonb[],jsonb[],interval,text[],text[])', true, $$SELECT pigeon.send_batch('@', ARRAY['1']::jsonb[], group_ids => ARRAY['a'])$$, 'owner send'),
	('receive(text,integer,interval,interval,text)', true, $$SELECT pigeon.receive('@')$$, 'owner receive pop'),
	('pop(text,integer)', true, $$SELECT pigeon.pop('@')$$, 'owner pop'),
	('peek(text,integer)', true, $$SELECT pigeon.peek('@')$$, 'owner peek'),
	('delete(text,receipt)', true, $$SELECT pigeon.delete('@', receipt::pigeon.receipt) FROM got WHERE queue = '@'$$, 'owner delete pop'),
	('delete(text,receipt[])', true, $$SELECT pigeon.delete('@', ARRAY[receipt]::pigeon.receipt[]) FROM got WHERE queue = '@'$$, 'owner delete pop'),
	('change_visibility(text,receipt,interval)', true, $$SELECT pigeon.change_visibility('@', receipt::pigeon.receipt, '1 s') FROM got WHERE queue = '@'$$, 'owner receive pop'),
	('change_visibility(text,receipt[],interval)', true, $$SELECT pigeon.change_visibility('@', ARRAY[receipt]::pigeon.receipt[], '1 s') FROM got WHERE queue = '@'$$, 'owner receive pop'),
	('wait_for_message(text,interval,boolean)', true, $$CALL pigeon.wait_for_message('@', '0 s')$$, 'owner receive pop'),
	('mark_processed(text,bigint)', true, $$SELECT pigeon.mark_processed('@', 1)$$, 'owner delete pop'),
	('purge_queue(text)', true, $$SELECT pigeon.purge_queue('@')$$, 'owner purge'),
	('exact_queue_metrics(text)', true, $$SELECT pigeon.exact_queue_metrics('@')$$, 'owner peek'),
	('queue_figures(integer)', true, $$SELECT pigeon.queue_figures((SELECT substr(queue_table::text, 10)::integer FROM pigeon.queues WHERE queue = '@'))$$, NULL),
	('create_queue(text,boolean,interval,interval,interval,interval,integer,text,integer,boolean,text,boolean,jsonb,boolean,text[],interval)', true,
		$$SELECT pigeon.create_queue('new @')$$, 'owner create'),
	('create_queue(text,boolean,interval,interval,interval,interval,integer,text,integer,boolean,text,boolean,jsonb,boolean,text[],interval)', true,
		$$SELECT pigeon.create_queue('new', fifo => '~' = 'deadf', dead_letter_queue => '~')$$, 'owner'),
	('alter_queue(text,interval,interval,interval,interval,integer,text,integer,boolean,text,boolean,jsonb,text[],interval)', true,
		$$SELECT pigeon.alter_queue('@', delay => '1 s')$$, 'owner'),
	('drop_queue(text,boolean)', true, $$SELECT pigeon.drop_queue('@', if_exists => true)$$, 'owner'),
	('grant_access(text,name,text[])', true, $$SELECT pigeon.grant_access('@', 'pgn_stranger', '{send}')$$, 'owner'),
	('grant_access(text,name,text[])', true, $$SELECT pigeon.grant_access('#', 'pgn_stranger', '{publish}')$$, 'owner'),
	('revoke_access(text,name,text[])', true, $$SELECT pigeon.revoke_access('@', 'pgn_send', '{send}')$$, 'owner'),
	('revoke_access(text,name,text[])', true, $$SELECT pigeon.revoke_access('#', 'pgn_publish', '{publish}')$$, 'owner'),
	('redrive(text,text,integer)', true, $$SELECT pigeon.redrive('~')$$, 'owner 55000'),
	('redrive(text,text,integer)', true, $$SELECT pigeon.redrive('~', '@')$$, 'owner 55000'),
	('cancel_redrive(bigint)', true, $$SELECT pigeon.cancel_redrive(1)$$, 'owner'),
	('create_topic(text,boolean,boolean,interval,jsonb,boolean,integer)', true, $$SELECT pigeon.create_topic('new #')$$, 'owner create'),
	('alter_topic(text,boolean,interval,jsonb,integer)', true, $$SELECT pigeon.alter_topic('#', tags => '{"a": "b"}')$$, 'owner'),
	('drop_topic(text,boolean)', true, $$SELECT pigeon.drop_topic('#')$$, 'owner 55000'),
	('subscribe(text,text,jsonb,text,boolean,text)', true, $$SELECT pigeon.subscribe('#', '@')$$, 'owner'),
	('alter_subscription(bigint,jsonb,text,boolean,text)', true, $$SELECT pigeon.alter_subscription(:standard, raw_delivery => false)$$, 'owner'),
	('unsubscribe(bigint)', true, $$SELECT pigeon.unsubscribe(:standard)$$, 'owner'),
	('publish(text,text,text,jsonb,text,text,text)', true, $$SELECT pigeon.publish('#', 'x', group_id => 'a')$$, 'owner publish'),
	('publish(text,jsonb,text,jsonb,text,text,text)', true, $$SELECT pigeon.publish('#', '1'::jsonb, group_id => 'a')$$, 'owner publish'),
	('publish_batch(text,text[],text[],jsonb[],text[],text[],text)', true, $$SELECT pigeon.publish_batch('#', ARRAY['x'], group_ids => ARRAY['a'])$$, 'owner publish'),
	('publish_batch(text,jsonb[],text[],jsonb[],text[],text[],text)', true, $$SELECT pigeon.publish_batch('#', ARRAY['1']::jsonb[], group_ids => ARRAY['a'])$$, 'owner publish'),
	('replay(bigint,timestamp with time zone,timestamp with time zone,integer)', true, $$SELECT pigeon.replay(:standard, '-infinity')$$, 'owner 55000'),
	('cancel_replay(bigint)', true, $$SELECT pigeon.cancel_replay(1)$$, 'owner'),
	('publish_changes(regclass,text,text,name[],text,name,boolean)', true, $$SELECT pigeon.publish_changes('pg_temp.source', '#', group_by => 'a')$$, 'owner'),
	('stop_publishing_changes(regclass,text)', true, $$SELECT pigeon.stop_publishing_changes('pg_temp.published', '#')$$, 'owner'),
	('topic_counters(integer)', true, $$SELECT pigeon.topic_counters(1)$$, 'all'),
	('filter_matches(jsonb,text,jsonb,text)', true, $$SELECT pigeon.filter_matches('{}')$$, 'all'),
	('filter_result(jsonb,text,jsonb,text)', true, $$SELECT pigeon.filter_result('{}')$$, 'all'),
	('queue_table(integer)', true, $$SELECT pigeon.queue_table(1)$$, 'all'),
	('topic_view(integer)', true, $$SELECT pigeon.topic_view(1)$$, 'all'),
	('to_interval(bigint)', true, $$SELECT pigeon.to_interval(1)$$, 'all'),
	('receipt_in(cstring)', true, $$SELECT pigeon.receipt_in('1-1-1-1')$$, 'all'),
	('receipt_out(receipt)', true, $$SELECT pigeon.receipt_out('1-1-1-1')$$, 'all'),
	('receipt_recv(internal)', true, NULL, NULL),
	('receipt_send(receipt)', true, $$SELECT pigeon.receipt_send('1-1-1-1')$$, 'all'),
	('receipt_eq(receipt,receipt)', true, $$SELECT pigeon.receipt_eq('1-1-1-1', '1-1-1-1')$$, 'all'),
	('receipt_hash(receipt)', true, $$SELECT pigeon.receipt_hash('1-1-1-1')$$, 'all'),
	('schedule_command(text,text,text)', true, NULL, NULL),
	('scheduled_id(boolean,text)', true, $$SELECT pigeon.scheduled_id(true, 'x')$$, 'all'),
	('schedule_send(text,text,text,text,jsonb,interval,text,text)', true, NULL, NULL),
	('schedule_publish(text,text,text,text,text,jsonb,text,text)', true, NULL, NULL),
	('unschedule(text)', true, $$SELECT pigeon.unschedule('x')$$, 'all'),
	('publish_rows()', true, NULL, NULL),
	('publish_change()', true, NULL, NULL),
	('guard_deliveries()', true, NULL, NULL),
	('guard_schema()', false, NULL, NULL),
	('forget_dropped_tables()', false, NULL, NULL),
	('maintain()', false, $$CALL pigeon.maintain()$$, 'none'),
	('"check"()', false, $$SELECT pigeon.check()$$, 'none'),
	('check_registry()', false, $$SELECT pigeon.check_registry()$$, 'none'),
	('check_queues(integer[])', false, $$SELECT pigeon.check_queues(NULL)$$, 'none'),
	('check_deliveries(integer)', false, $$SELECT pigeon.check_deliveries(1)$$, 'none'),
	('check_schedule(integer)', false, $$SELECT pigeon.check_schedule(1)$$, 'none'),
	('queues', true, $$SELECT FROM pigeon.queues WHERE queue = '@'$$, 'owner send receive delete pop peek purge'),
	('queue_metrics', true, $$SELECT FROM pigeon.queue_metrics WHERE queue = '@'$$, 'owner peek'),
	('redrive_tasks', true, $$SELECT FROM pigeon.redrive_tasks WHERE dead_letter_queue = '~'$$, 'owner'),
	('topics', true, $$SELECT FROM pigeon.topics WHERE topic = '#'$$, 'owner publish subscribe archive'),
	('topic_metrics', true, $$SELECT FROM pigeon.topic_metrics WHERE topic = '#'$$, 'owner publish subscribe archive'),
	('subscriptions', true, $$SELECT FROM pigeon.subscriptions WHERE topic = '#'$$, 'owner'),
	('replay_tasks', true, $$SELECT FROM pigeon.replay_tasks WHERE topic = '#'$$, 'owner'),
	('log_metrics', false, $$SELECT FROM pigeon.log_metrics$$, 'monitor'),
	('xmin_horizon', false, $$SELECT count(*) FROM pigeon.xmin_horizon$$, 'monitor'),
	('pigeon', true, $$CREATE TABLE pigeon.x ()$$, 'owner create'),
	('receipt', true, $$SELECT '1-1-1-1'::pigeon.receipt$$, 'all'),
	('message', true, $$SELECT NULL::pigeon.message$$, 'all');
INSERT INTO matrix SELECT name, false, format('SELECT count(*) FROM pigeon.%s', name), 'none'
FROM unnest('{queue,topic,subscription,log_0,log_1,log_2,log_3,log_4,log_5,log_6,log_7,log_old,log_state,log_unused,redrive_task,replay_task,
	receive_attempt,processed,queue_id_seq,message_id_seq,redrive_task_id_seq,replay_task_id_seq}'::text[]) AS name;

-- Every object is there, and PUBLIC has on it what the matrix says.
CREATE VIEW object AS
	SELECT format('%s(%s)', quote_ident(proname), replace(replace(oidvectortypes(proargtypes), ', ', ','), 'pigeon.', '')) AS name, proacl AS acl, 'EXECUTE' AS usual, proowner AS owner
	FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace
	UNION ALL
	SELECT relname, relacl, 'SELECT', relowner FROM pg_class c WHERE relnamespace = 'pigeon'::regnamespace AND relkind IN ('r', 'v', 'S', 'm', 'p', 'f')
	AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
	UNION ALL
	SELECT typname, typacl, 'USAGE', typowner FROM pg_type LEFT JOIN pg_class c ON c.oid = typrelid
	WHERE typnamespace = 'pigeon'::regnamespace AND typelem = 0 AND coalesce(c.relkind, 'c') = 'c'
	UNION ALL
	SELECT nspname, nspacl, 'USAGE', nspowner FROM pg_namespace WHERE nspname = 'pigeon';
SELECT set_eq('SELECT name::text FROM object', 'SELECT object FROM matrix', 'every object is in the matrix');
SELECT set_eq($$SELECT name::text FROM object, aclexplode(acl) a WHERE a.grantee = 0 AND a.privilege_type = usual$$,
	'SELECT object FROM matrix WHERE public', 'what PUBLIC may call and read');
SELECT set_eq($$SELECT DISTINCT name::text, a.grantee::regrole::text, a.privilege_type FROM object, aclexplode(acl) a
		WHERE a.grantee <> owner AND NOT (a.grantee = 0 AND a.privilege_type = usual)$$,
	$$VALUES ('log_metrics', 'pg_monitor', 'SELECT'), ('xmin_horizon', 'pg_monitor', 'SELECT'), ('pigeon', 'pgn_owner', 'CREATE'), ('pigeon', 'pgn_create', 'CREATE')$$,
	'nobody else has any right');

-- Every command, for both kinds of queues and topics
SELECT min(subscription_id) AS standard FROM pigeon.subscriptions \gset
CREATE VIEW command AS
	SELECT DISTINCT object, replace(replace(replace(replace(command, ':standard', :'standard'), '@', 'q' || kind), '#', 't' || kind), '~', 'dead' || kind) AS command, allowed
	FROM matrix, (VALUES (''), ('f')) AS kinds (kind) WHERE command IS NOT NULL;
SELECT is(allowed(command), coalesce(allowed, 'owner peek'), command) FROM command WHERE object <> 'queue_figures(integer)' ORDER BY object, command;
SELECT is((SELECT string_agg(command, '; ') FROM command WHERE attempt('pgn_member', command) <> attempt('pgn_owner', command)), NULL,
	'a member of the owner may what the owner may');
SELECT is(allowed(format('SELECT pigeon.queue_figures(%s)', substr(queue_table::text, 10))), 'owner peek', 'queue_figures of ' || queue)
FROM pigeon.queues WHERE queue IN ('q', 'qf');
SELECT is(attempt('pgn_stranger', 'SELECT FROM pigeon.topic_counters(' || substr(topic_view::text, 10) || ') WHERE published IS NOT NULL'), '0', 'topic_counters of ' || topic || ' are empty for a stranger')
FROM pigeon.topics;

-- Rights on what queues and topics are made of: those that were granted, and none on the other tables
SELECT set_eq($$SELECT regexp_replace(relname, '[0-9]+', 'N'), a.grantee::regrole::text, string_agg(DISTINCT a.privilege_type, ' ')
		FROM pg_class, aclexplode(relacl) a
		WHERE relnamespace = 'pigeon'::regnamespace AND relname ~ '^[qgdt]_[0-9]' AND a.grantee <> relowner GROUP BY 1, 2$$,
	$$VALUES ('q_N', 'pgn_send', 'INSERT'), ('q_N', 'pgn_receive', 'UPDATE'), ('q_N', 'pgn_delete', 'DELETE'), ('q_N', 'pgn_pop', 'DELETE UPDATE'),
		('q_N', 'pgn_peek', 'SELECT'), ('q_N', 'pgn_purge', 'TRUNCATE'), ('t_N', 'pgn_publish', 'INSERT'), ('t_N', 'pgn_subscribe', 'REFERENCES'),
		('t_N', 'pgn_archive', 'SELECT')$$, 'rights on tables and views of queues and topics');

-- ... and they are for the functions: SQL on the table is for its owner
SELECT is(allowed(replace(command, '%', queue_table::text)), allowed, replace(command, '%', 'table of ' || queue))
FROM pigeon.queues, (VALUES
	('UPDATE % SET log_key = 0', 'owner'),
	('DELETE FROM %', 'owner'),
	('INSERT INTO % VALUES (1, 1, now(), 1, 0, 0, 0, 0, now(), now(), 0, 0, now(), 0, 0, 0, now(), 0)', 'owner'),
	('COPY % FROM PROGRAM ''true''', 'none'),
	('MERGE INTO % USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT VALUES (1, 1, now(), 1, 0, 0, 0, 0, now(), now(), 0, 0, now(), 0, 0, 0, now(), 0)', 'owner'),
	('TRUNCATE %', 'owner purge'),
	('SELECT FROM %', 'owner peek'),
	('SELECT FROM % FOR UPDATE', 'owner'),
	('LOCK % IN EXCLUSIVE MODE', 'owner receive delete pop purge'),
	('ALTER TABLE % DISABLE TRIGGER ALL', 'owner'),
	('DROP TABLE %', 'owner'),
	('CREATE TRIGGER t BEFORE INSERT ON % EXECUTE FUNCTION pigeon.guard_deliveries()', 'owner')) AS commands (command, allowed)
WHERE queue IN ('q', 'qf');
SELECT is(allowed(format(command, topic_view)), allowed, format(command, 'view of ' || topic))
FROM pigeon.topics, (VALUES
	('INSERT INTO %s (body, group_id) VALUES (''x'', ''a'')', 'owner publish'),
	('SELECT FROM %s', 'owner archive'),
	('CREATE OR REPLACE VIEW %s AS SELECT', 'owner 42P16'),
	('DROP VIEW %s', 'owner')) AS commands (command, allowed);
SELECT is(allowed(format('SELECT FROM %s_%s', topic_view, segment)), 'owner', format('segment %s of %s', segment, topic))
FROM pigeon.topics, generate_series(0, 0) AS segment;

-- A right of PUBLIC is everybody's, and can be taken back
SELECT pigeon.grant_access('q', 'public', '{send}'), pigeon.grant_access('t', 'public', '{publish}');
SELECT is(allowed($$SELECT pigeon.send('q', 'x')$$), 'all', 'sending for everybody');
SELECT is(allowed($$SELECT pigeon.publish('t', 'x')$$), 'all', 'publishing for everybody');
SELECT pigeon.revoke_access('q', 'public', '{send}'), pigeon.revoke_access('t', 'public', '{publish}');
SELECT pigeon.revoke_access('q', 'pgn_send', '{send}'), pigeon.revoke_access('t', 'pgn_publish', '{publish}');
SELECT is(allowed($$SELECT pigeon.send('q', 'x')$$), 'owner', 'no more');
SELECT is(allowed($$SELECT pigeon.publish('t', 'x')$$), 'owner', 'no more');
SELECT * FROM finish();

DROP TABLE got;
DROP OWNED BY pgn_owner, pgn_send, pgn_receive, pgn_delete, pgn_pop, pgn_peek, pgn_purge, pgn_publish, pgn_subscribe, pgn_archive, pgn_create;
DROP ROLE pgn_owner, pgn_member, pgn_send, pgn_receive, pgn_delete, pgn_pop, pgn_peek, pgn_purge, pgn_publish, pgn_subscribe, pgn_archive,
	pgn_create, pgn_monitor, pgn_stranger;
