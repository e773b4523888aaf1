-- Messages whose rows in the log are not where their deliveries say (src/log_scan.c): found by a search, or, by who
-- looks for many, in a list of all rows.
SELECT plan(21);
SET client_min_messages = error;

SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('other');
CREATE TABLE sent (message_id bigint PRIMARY KEY, body text);

-- The bodies of a queue that are not those of its messages, or missing.
CREATE FUNCTION wrong_bodies() RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM sent LEFT JOIN pigeon.peek('q', 100000) AS p USING (message_id)
	WHERE p.body IS DISTINCT FROM sent.body
$$;
-- The same, found one by one, by looks that know nothing of each other. To be rolled back.
CREATE FUNCTION wrong_pops(n integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	wrong bigint := 0;
BEGIN
	FOR i IN 1 .. n LOOP
		wrong := wrong + (SELECT count(*) FROM pigeon.pop('q') AS p LEFT JOIN sent USING (message_id) WHERE p.body IS DISTINCT FROM sent.body);
	END LOOP;
	RETURN wrong + n - (SELECT 2050 - count(*) FROM pigeon.peek('q', 100000));
END $$;
-- How many messages are not where their deliveries say.
CREATE FUNCTION moved() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM pigeon.log_0 l JOIN %s q USING (message_id)
		WHERE l.ctid <> format(''(%%s,%%s)'', q.log_block, q.log_offset)::tid',
		(SELECT queue_table FROM pigeon.queues WHERE queue = 'q')) INTO n;
	RETURN n;
END $$;
-- Write the log anew, in some order, as a dump would.
CREATE PROCEDURE rewrite(ordering text) LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMP TABLE rows AS SELECT * FROM pigeon.log_0;
	TRUNCATE pigeon.log_0;
	EXECUTE 'INSERT INTO pigeon.log_0 SELECT * FROM rows ORDER BY ' || ordering;
	DROP TABLE rows;
END $$;

-- Messages of two queues, batches and single ones, of very different sizes, some rolled back.
BEGIN;
SELECT count(*) FROM pigeon.send_batch('other', array_fill(repeat('gone', 100), ARRAY[500]));
ROLLBACK;
WITH s AS MATERIALIZED (SELECT i, pigeon.send('other', 'other ' || i) AS other,
							   pigeon.send('q', i || repeat('.', i % 100)) AS id FROM generate_series(1, 2000) AS i)
INSERT INTO sent SELECT id, i || repeat('.', i % 100) FROM s;
SELECT count(*) FROM pigeon.send_batch('other', array_fill(repeat('other', 100), ARRAY[1000]));
WITH s AS MATERIALIZED (SELECT i, pigeon.send('q', repeat(md5(i::text), i * 10)) AS id FROM generate_series(1, 50) AS i)
INSERT INTO sent SELECT id, repeat(md5(i::text), i * 10) FROM s;
SELECT is(wrong_bodies(), 0::bigint, 'all is where it was written');
SELECT is(moved(), 0::bigint, 'and deliveries know the place');

CALL rewrite('message_id');
SELECT is(moved(), 2050::bigint, 'a log written anew: nothing is where it was');
SELECT is(wrong_bodies(), 0::bigint, 'and all is found');
BEGIN;
SELECT is(wrong_pops(2000), 0::bigint, 'one by one, too');
ROLLBACK;
CALL rewrite('message_id DESC');
SELECT is(wrong_bodies(), 0::bigint, 'in the reverse order');
BEGIN;
SELECT is(wrong_pops(2000), 0::bigint, 'one by one, too');
ROLLBACK;
CALL rewrite('random()');
SELECT is(wrong_bodies(), 0::bigint, 'in no order');
-- How many pages a statement looks at, in units of all there are.
CREATE FUNCTION looks(statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	pages bigint := pg_relation_size('pigeon.log_0') / current_setting('block_size')::bigint;
	before bigint := pg_stat_get_xact_blocks_fetched('pigeon.log_0'::regclass);
BEGIN
	EXECUTE statement;
	RETURN (pg_stat_get_xact_blocks_fetched('pigeon.log_0'::regclass) - before) / pages;
END $$;
SELECT cmp_ok(looks('SELECT pigeon.peek(''q'', 100)'), '<', 5::bigint, 'who looks for many does not look at all pages for each');
BEGIN;
SELECT is(wrong_pops(2000), 0::bigint, 'one by one, too');
ROLLBACK;

-- Pages without any row, at the beginning, in between, and several in a row.
CALL rewrite('message_id');
SELECT pigeon.purge_queue('other');
DELETE FROM pigeon.log_0 WHERE body LIKE 'other%';
VACUUM pigeon.log_0;
SELECT is(wrong_bodies(), 0::bigint, 'between pages without rows');
DELETE FROM pigeon.log_0 WHERE message_id < (SELECT message_id FROM sent ORDER BY 1 OFFSET 700 LIMIT 1);
DELETE FROM sent WHERE message_id < (SELECT message_id FROM sent ORDER BY 1 OFFSET 700 LIMIT 1);
VACUUM pigeon.log_0;
SELECT is(wrong_bodies(), 0::bigint, 'after pages without rows');
VACUUM FULL pigeon.log_0;
SELECT is(wrong_bodies(), 0::bigint, 'after VACUUM FULL');

-- A message that is nowhere, and another row with its id: the key of the delivery decides.
SELECT message_id AS lost FROM sent ORDER BY message_id OFFSET 300 LIMIT 1 \gset
DELETE FROM pigeon.log_0 WHERE message_id = :lost;
VACUUM pigeon.log_0;
SELECT is(wrong_bodies(), 1::bigint, 'what is nowhere is not found');
INSERT INTO pigeon.log_0 SELECT :lost, 0, now(), current_user, 'forged';
SELECT is((SELECT count(*) FROM pigeon.peek('q', 100000) WHERE body = 'forged'), 0::bigint, 'nor is another row with its id');
DELETE FROM sent WHERE message_id = :lost;

-- A dead row with the same id and key, as a restore leaves that was begun twice.
BEGIN;
INSERT INTO pigeon.log_0 SELECT * FROM pigeon.log_0 ORDER BY message_id LIMIT 1000;
ROLLBACK;
CREATE TEMP TABLE again AS SELECT * FROM pigeon.log_0 WHERE log_key <> 0 ORDER BY message_id LIMIT 1000;
DELETE FROM pigeon.log_0 WHERE message_id IN (SELECT message_id FROM again);
INSERT INTO pigeon.log_0 SELECT * FROM again;
SELECT is((SELECT count(*) FROM pigeon.check() WHERE problem LIKE '%not in the message log%'), 701::bigint, 'dead rows do not hide others');
SELECT is(wrong_bodies(), 0::bigint, 'from anybody');

-- Received and deleted, wherever it is.
CALL rewrite('random()');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1000) AS r JOIN sent USING (message_id, body)), 1000::bigint, 'received, too');
SELECT is((SELECT count(*) FROM pigeon.pop('q', 1000) AS r JOIN sent USING (message_id, body)), 349::bigint, 'and popped');

-- What is not the message's row is passed over by a single search, too: one with another key, and a dead one.
SELECT pigeon.purge_queue('q');
SELECT pigeon.send('q', 'found');
CREATE TEMP TABLE found AS SELECT l.* FROM pigeon.log_0 AS l JOIN pigeon.peek('q') USING (message_id);
TRUNCATE pigeon.log_0;
INSERT INTO pigeon.log_0 SELECT message_id, log_key + 1, sent_at, sender, 'forged' FROM found;
INSERT INTO pigeon.log_0 SELECT * FROM found;
SELECT is((SELECT body FROM pigeon.peek('q')), 'found', 'its row is found behind that of another key');
DELETE FROM pigeon.log_0;
INSERT INTO pigeon.log_0 SELECT * FROM found;
SELECT is((SELECT string_agg(problem, ', ') FROM pigeon.check()), NULL, 'and behind dead ones');
SELECT * FROM finish();
