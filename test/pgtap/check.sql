-- pigeon.check() finds nothing wrong after all kinds of work, and names each kind of damage.
-- Maintenance commits, so there is no transaction around the whole.
CREATE EXTENSION dblink;
SELECT plan(27);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
CREATE FUNCTION preloaded() RETURNS boolean LANGUAGE sql AS $$
	SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%'
$$;

-- What check() says, each problem on a line.
CREATE FUNCTION problems() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(object || ' ' || problem, E'\n' ORDER BY object || ' ' || problem COLLATE "C") FROM pigeon.check()
$$;

SELECT is(problems(), NULL, 'nothing is wrong in the beginning');

-- All kinds of work.  Queues are numbered in this order.
SELECT pigeon.create_queue('dead');			-- 1
SELECT pigeon.create_queue('work', dead_letter_queue => 'dead', max_receive_count => 2);	-- 2
SELECT pigeon.create_queue('dead.fifo', fifo => true);	-- 3
SELECT pigeon.create_queue('work.fifo', fifo => true, content_based_deduplication => true,
	dead_letter_queue => 'dead.fifo', max_receive_count => 1);	-- 4
SELECT pigeon.create_topic('topic', archive_retention => '1 day');	-- 5
SELECT pigeon.create_topic('topic.fifo', fifo => true, content_based_deduplication => true);	-- 6
SELECT pigeon.subscribe('topic', 'work', raw_delivery => false);	-- 7
SELECT pigeon.subscribe('topic.fifo', 'work.fifo');	-- 8
SELECT pigeon.subscribe('topic.fifo', 'work');	-- 9
CREATE PROCEDURE do_all() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM pigeon.send('work', 'm' || i, delay => make_interval(secs => i / 10), group_id => 'g' || i % 3);
		PERFORM pigeon.send('work.fifo', 'm' || i || clock_timestamp(), group_id => 'g' || i % 3);
		PERFORM pigeon.publish('topic', 'm' || i);
		PERFORM pigeon.publish('topic.fifo', 'm' || i || clock_timestamp(), group_id => 'g' || i % 5);
		COMMIT;
		PERFORM pigeon.receive('work', 3, visibility_timeout => '0');
		PERFORM pigeon.receive('work.fifo', 2, visibility_timeout => '0');
		COMMIT;
		PERFORM pigeon.delete('work', receipt) FROM pigeon.receive('work', 2);
		PERFORM pigeon.delete('work.fifo', receipt) FROM pigeon.receive('work.fifo', 2);
		COMMIT;
		PERFORM pigeon.change_visibility('work', receipt, '1 hour') FROM pigeon.receive('work');
		PERFORM pigeon.pop('dead', 1), pigeon.pop('dead.fifo', 1);
		PERFORM pigeon.pop('work.fifo', 10);
		ROLLBACK;
		CONTINUE WHEN i % 8 <> 0;
		UPDATE pigeon.log_state SET current_since = '2000-01-01';
		PERFORM pigeon.redrive('dead');
		COMMIT;
		CALL pigeon.maintain();
		CALL pigeon.maintain();
	END LOOP;
END
$$;
CALL do_all();
SELECT count(*) FROM pigeon.receive('work', 100, visibility_timeout => '0');
SELECT count(*) FROM pigeon.receive('work', 100, visibility_timeout => '0');
SELECT count(*) FROM pigeon.receive('work', 1);
SELECT pigeon.send('work', 'left', delay => '1 hour');
SELECT pigeon.send('work.fifo', 'm' || i, group_id => 'left') FROM generate_series(1, 3) AS i;
SELECT count(*) FROM pigeon.receive('work.fifo', 1);
SELECT is(problems(), NULL, 'nor after all kinds of work');
SELECT is(count(*), 4::bigint, 'which has left something in every queue')
	FROM pigeon.queues q WHERE EXISTS (SELECT FROM pigeon.peek(q.queue));
BEGIN;
SELECT pigeon.send('work.fifo', 'mine', group_id => 'new');
SELECT count(*) FROM pigeon.receive('work', 10);
SELECT is(problems(), NULL, 'nor in the middle of a transaction');
ROLLBACK;
SELECT pigeon.purge_queue(queue) FROM pigeon.queues;
CALL pigeon.maintain();
SELECT is(problems(), NULL, 'nor after a purge');

-- What it does not do: keep locks, wait, or look twice at the same snapshot.
BEGIN;
SELECT problems();
SELECT is(count(*), 0::bigint, 'no lock on a queue is kept') FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
	WHERE l.pid = pg_backend_pid() AND c.relname ~ '^[qg]_';
ROLLBACK;
SELECT connect('a');
SELECT dblink_exec('a', 'BEGIN; LOCK TABLE pigeon.q_2, pigeon.g_4');
SELECT is(problems(), concat_ws(E'\n',
	'pigeon.g_4 cannot be looked at: it is locked, or not as pigeon made it',
	'pigeon.q_2 cannot be looked at: it is locked, or not as pigeon made it'), 'nobody is waited for');
SELECT dblink_exec('a', 'ROLLBACK');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT throws_ok('SELECT * FROM pigeon.check()', '55000', NULL, 'one old snapshot will not do');
ROLLBACK;

-- Deliveries, each damaged in its own way.
SELECT setval('pigeon.message_id_seq', 1000);
SELECT count(*) FROM pigeon.send_batch('work', array_fill('m'::text, ARRAY[8]), delay => '1 hour');	-- 1001 ...
SELECT pigeon.send('work', 'm', group_id => 'g', delay => '1 hour');	-- 1009
BEGIN;
DELETE FROM pigeon.log_0 WHERE message_id = 1001;
DELETE FROM pigeon.log_1 WHERE message_id = 1001;
DELETE FROM pigeon.log_2 WHERE message_id = 1001;
UPDATE pigeon.q_2 SET log_key = log_key + 1 WHERE message_id = 1002;
INSERT INTO pigeon.q_1 SELECT * FROM pigeon.q_2 WHERE message_id = 1003;
UPDATE pigeon.q_2 SET lane = 7 WHERE message_id = 1004;
UPDATE pigeon.q_2 SET queue_receive_count = 1 WHERE message_id = 1005;
UPDATE pigeon.q_2 SET receive_count = 1 WHERE message_id = 1006;
UPDATE pigeon.q_2 SET home = 0 WHERE message_id = 1007;
UPDATE pigeon.q_2 SET segment = 99 WHERE message_id = 1008;
UPDATE pigeon.q_2 SET group_key = 99 WHERE message_id = 1009;
SELECT is(problems(), concat_ws(E'\n',
	'pigeon.q_1 message 1003 (home 2) is in several queues',
	'pigeon.q_2 message 1001 (home 2) is not in the message log',
	'pigeon.q_2 message 1002 (home 2) is not in the message log',
	'pigeon.q_2 message 1003 (home 2) is in several queues',
	'pigeon.q_2 message 1004 (home 2) is in lane 7, which does not exist',
	'pigeon.q_2 message 1005 (home 2) has impossible receive counts',
	'pigeon.q_2 message 1006 (home 2) has a receive count and a time of receive that contradict each other',
	'pigeon.q_2 message 1007 (home 0) has an impossible home',
	'pigeon.q_2 message 1008 (home 2) is in segment 99, which does not exist',
	'pigeon.q_2 message 1008 (home 2) is not in the message log',
	'pigeon.q_2 message 1009 (home 2) has another message group than in the message log'), 'damaged deliveries are named');
ROLLBACK;
SELECT is(problems(), NULL, 'and no others');

-- Message groups and their schedule.
SELECT setval('pigeon.message_id_seq', 2000);
SELECT pigeon.send('work.fifo', 'm' || i, group_id => 'g' || i) FROM generate_series(1, 5) AS i;	-- 2001 ...
CREATE TABLE keys AS SELECT message_id - 2000 AS i, group_key FROM pigeon.q_4;
BEGIN;
DELETE FROM pigeon.g_4 USING keys k WHERE g_4.group_key = k.group_key AND i = 1;
UPDATE pigeon.g_4 SET visible_at = now() + interval '1 hour' FROM keys k WHERE g_4.group_key = k.group_key AND i = 2;
UPDATE pigeon.g_4 SET first_message_id = 2999 FROM keys k WHERE g_4.group_key = k.group_key AND i = 3;
UPDATE pigeon.q_4 SET group_key = 0 WHERE message_id = 2004;
UPDATE pigeon.g_4 SET group_key = 0 FROM keys k WHERE g_4.group_key = k.group_key AND i = 4;
SELECT bag_eq('SELECT * FROM pigeon.check()', $$
	SELECT 'pigeon.g_4', format('group %s has no entry that is early enough for message %s', group_key, 2000 + i) FROM keys WHERE i IN (1, 2)
	UNION ALL SELECT 'pigeon.g_4', format('group %s has an entry that begins behind message 2003', group_key) FROM keys WHERE i = 3
	UNION ALL SELECT 'pigeon.q_4', 'message 2004 (home 4) has no message group'$$, 'damaged groups are named');
ROLLBACK;
SELECT is(problems(), NULL, 'and no others');

-- The scan frontiers of both kinds of queues.  Once a minute a receive that finds nothing looks below them.
SELECT pigeon.purge_queue(queue) FROM pigeon.queues;
SELECT count(*) FROM pigeon.receive('work');
SELECT count(*) FROM pigeon.receive('work.fifo');
CREATE PROCEDURE advance(queue text) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 100 LOOP
		PERFORM pigeon.send(queue, 'm' || i || clock_timestamp(), group_id => 'g');
		COMMIT;
		PERFORM pigeon.delete(queue, receipt) FROM pigeon.receive(queue);
		COMMIT;
	END LOOP;
END
$$;
CALL advance('work');
CALL advance('work.fifo');
SELECT setval('pigeon.message_id_seq', 3000);
SELECT pigeon.send('work', 'm');	-- 3001
SELECT pigeon.send('work.fifo', 'm', group_id => 'g');	-- 3002
SELECT is(problems(), NULL, 'deliveries behind the frontier are fine');
BEGIN;
UPDATE pigeon.q_2 SET due_at = '2001-01-01 UTC';
UPDATE pigeon.g_4 SET visible_at = '2001-01-01 UTC';
SELECT is(problems(), (SELECT concat_ws(E'\n',
		format('pigeon.g_4 the entry of group %s is below the scan frontier, due at %s', group_key, '2001-01-01 UTC'::timestamptz),
		format('pigeon.q_2 message 3001 (home 2) is below the scan frontier, due at %s', '2001-01-01 UTC'::timestamptz))
	FROM pigeon.q_4 WHERE preloaded()), 'what a receive would not look at is named');
ROLLBACK;

-- Tables and the registry.
BEGIN;
ALTER TABLE pigeon.q_1 RENAME TO q_99;
CREATE TABLE pigeon.t_99_0 ();
ALTER TABLE pigeon.g_4 RENAME TO g_5;
DROP INDEX pigeon.q_2_due, pigeon.q_3_group, pigeon.d_4_key;
ALTER TABLE pigeon.t_5_7 DROP CONSTRAINT t_5_7_pkey;
SELECT is(problems(), concat_ws(E'\n',
	'pigeon.d_4 has no valid index on key_high',
	'pigeon.g_4 cannot be looked at: it is locked, or not as pigeon made it',
	'pigeon.g_4 is missing',
	'pigeon.g_5 belongs to no queue or topic',
	'pigeon.q_1 is missing',
	'pigeon.q_2 has no valid index on lane, due_at',
	'pigeon.q_3 has no valid index on group_key, message_id',
	'pigeon.q_99 belongs to no queue or topic',
	'pigeon.t_5_7 has no valid index on published_at, message_id',
	'pigeon.t_99_0 belongs to no queue or topic',
	'pigeon.t_99_0 has no valid index on published_at, message_id'), 'missing, spare and incomplete tables are named');
ROLLBACK;
BEGIN;
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pigeon.q_1_pkey'::regclass;
SELECT is(problems(), 'pigeon.q_1 has no valid index on message_id, home', 'so is an index that is not valid');
ROLLBACK;
BEGIN;
ALTER VIEW pigeon.t_5 RENAME TO t_7;
CREATE TABLE pigeon.t_5 ();
SELECT is(problems(), concat_ws(E'\n',
	'pigeon.t_5 has no valid index on published_at, message_id',
	'pigeon.t_5 is of another kind than it should be',
	'pigeon.t_7 belongs to no queue or topic'), 'so is a table in the place of a view');
ROLLBACK;
BEGIN;
CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER trap BEFORE INSERT ON pigeon.q_1 FOR EACH ROW EXECUTE FUNCTION trap();
ALTER TABLE pigeon.q_2 ADD COLUMN more text;
SELECT is(problems(), concat_ws(E'\n',
	'pigeon.q_1 cannot be looked at: it is locked, or not as pigeon made it',
	'pigeon.q_2 cannot be looked at: it is locked, or not as pigeon made it'), 'so are altered tables');
ROLLBACK;
BEGIN;
INSERT INTO pigeon.log_state VALUES (true, 9, now()) ON CONFLICT (only_row) DO UPDATE SET current_segment = 9;
SELECT is(problems(), 'pigeon.log_state segment 9 does not exist', 'a segment that does not exist is named');
ROLLBACK;
BEGIN;
UPDATE pigeon.subscription SET topic_id = 99 WHERE id = 7;
SELECT is(problems(), 'pigeon.subscription subscription 7 is to topic 99, which does not exist',
	'a subscription to no topic is named');
ROLLBACK;
SELECT last_value AS messages FROM pigeon.message_id_seq \gset
SELECT setval('pigeon.message_id_seq', 3002, false), setval('pigeon.queue_id_seq', 8);
SELECT is(problems(), concat_ws(E'\n', 'pigeon.message_id_seq is not above 3002, which is in use',
	'pigeon.queue_id_seq is not above 9, which is in use'), 'sequences that are behind are named');
SELECT setval('pigeon.message_id_seq', :messages), setval('pigeon.queue_id_seq', 9);
SELECT is(problems(), NULL, 'sequences that are not are fine');

-- A user's table cannot make it run anything of the user's.
CREATE ROLE check_mallory;
GRANT CREATE ON SCHEMA pigeon, public TO check_mallory;
CREATE TABLE ran (who name);
GRANT ALL ON ran TO PUBLIC;
SET ROLE check_mallory;
SELECT pigeon.create_queue('hostile');	-- 10
SELECT pigeon.send('hostile', 'm');
CREATE FUNCTION trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO ran VALUES (current_user); RETURN true; END $$;
CREATE POLICY trap ON pigeon.q_10 USING (trap());
ALTER TABLE pigeon.q_10 ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT throws_ok('SELECT * FROM pigeon.check()', '42501', NULL, 'check() is not for everybody');
RESET ROLE;
SELECT is(problems(), 'pigeon.q_10 cannot be looked at: it is locked, or not as pigeon made it', 'row-level security is named');
SET ROLE check_mallory;
ALTER TABLE pigeon.q_10 RENAME TO hidden;
CREATE VIEW pigeon.q_10 AS SELECT * FROM pigeon.hidden WHERE trap();
RESET ROLE;
SELECT is(problems(), concat_ws(E'\n', 'pigeon.q_10 cannot be looked at: it is locked, or not as pigeon made it',
	'pigeon.q_10 is of another kind than it should be'), 'so is a view');
SELECT is((SELECT count(*) FROM ran), 0::bigint, 'and nothing of the owner was run');
DROP VIEW pigeon.q_10;
ALTER TABLE pigeon.hidden RENAME TO q_10;
DROP OWNED BY check_mallory CASCADE;
DROP ROLE check_mallory;
SELECT is(problems(), NULL, 'nothing is wrong in the end');
SELECT * FROM finish();
