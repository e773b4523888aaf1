-- The message log: rotation, truncation, survivors, the old generation, and what must keep a segment.
-- Maintenance commits, so there is no transaction around the whole.
SELECT plan(57);

-- Autovacuum would have the lock of who maintains the log.
ALTER TABLE pigeon.log_state SET (autovacuum_enabled = off);
CREATE TEMP TABLE got (body text, receipt pigeon.receipt);

-- Tables of the log that have pages, other than the current segment.
CREATE VIEW used_segments AS
	SELECT i FROM generate_series(0, 7) AS i
	WHERE pg_relation_size(('pigeon.log_' || i)::regclass) > 0
	AND i <> coalesce((SELECT current_segment FROM pigeon.log_state), 0);
CREATE FUNCTION used() RETURNS text LANGUAGE sql AS $$ SELECT coalesce(string_agg(i::text, ',' ORDER BY i), 'none') FROM used_segments $$;

-- Seals the current segment, and maintains the log.
CREATE PROCEDURE rotate() LANGUAGE plpgsql AS $$
BEGIN
	UPDATE pigeon.log_state SET current_since = '2000-01-01';
	COMMIT;
	CALL pigeon.maintain();
END $$;
CREATE FUNCTION current_segment() RETURNS integer LANGUAGE sql AS $$ SELECT current_segment FROM pigeon.log_state $$;

SELECT pigeon.create_queue('q', visibility_timeout => '1 hour');
SELECT pigeon.create_queue('other');
CALL pigeon.maintain();
SELECT is(current_segment(), NULL, 'an empty segment is not sealed');

-- Truncation
SELECT count(pigeon.send('q', 'message ' || i)) FROM generate_series(1, 1000) AS i;
CALL rotate();
SELECT is(current_segment(), 1, 'the next segment is current');
SELECT is(used(), '0', 'the sealed one stays while all of it is needed');
SELECT is((SELECT count(*) FROM pigeon.log_old), 0::bigint, 'and nothing is copied');
SELECT pigeon.send('q', 'in segment 1');
SELECT is((SELECT string_agg(body, ', ') FROM pigeon.peek('q', 2)), 'message 1, message 2', 'messages in a sealed segment are readable');
SELECT is((SELECT count(*) FROM pigeon.pop('q', 990)), 990::bigint, 'and received');
CALL pigeon.maintain();
SELECT is(used(), 'none', 'the segment is truncated when little of it is needed');
SELECT is(pg_relation_size('pigeon.log_0'), 0::bigint, 'to no page at all');
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.log_old),
	(SELECT string_agg('message ' || i, ',' ORDER BY i) FROM generate_series(991, 1000) AS i), 'survivors are in the old generation');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 5) WHERE body LIKE 'message 99_'), 5::bigint, 'and are received from there');
SELECT is((SELECT count(*) FROM pigeon.pop('q', 100)), 6::bigint, 'with what is in the current segment');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.log_old), 5::bigint, 'the old generation keeps what is in flight');
SELECT pigeon.purge_queue('q');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.log_old), 0::bigint, 'and loses what nobody needs');

-- Dead letters and moves keep the body
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('source', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT pigeon.send('source', 'moves on');
SELECT count(pigeon.send('source', 'filler')) FROM generate_series(1, 10);
SELECT is((SELECT count(*) FROM pigeon.receive('source', 1, '0')), 1::bigint, 'one receive');
CALL rotate();
SELECT is((SELECT count(*) FROM pigeon.pop('source', 100)), 10::bigint, 'the dead letter is not received again');
CALL rotate();
SELECT is((SELECT body FROM pigeon.peek('dead')), 'moves on', 'a dead letter is readable after its segment is gone');
SELECT is(used(), 'none', 'its segment is gone');
SELECT pigeon.redrive('dead');
CALL rotate();
SELECT is((SELECT body FROM pigeon.pop('source')), 'moves on', 'so is a message that was redriven');
CALL rotate();
SELECT is((SELECT count(*) FROM pigeon.log_old), 0::bigint, 'and forgotten in the end');

-- Open transactions
SELECT pigeon.send('q', 'before');
BEGIN;
SELECT pigeon.send('q', 'prepared');
PREPARE TRANSACTION 'sender';
SELECT is((SELECT count(*) FROM pigeon.pop('q')), 1::bigint, 'only the committed message is there');
CALL rotate();
CALL rotate();
SELECT isnt(used(), 'none', 'a prepared sender keeps its segment');
COMMIT PREPARED 'sender';
CALL pigeon.maintain();
SELECT is((SELECT body FROM pigeon.peek('q')), 'prepared', 'what it sent is there');
BEGIN;
SELECT body FROM pigeon.pop('q');
PREPARE TRANSACTION 'receiver';
CALL rotate();
ROLLBACK PREPARED 'receiver';
SELECT is((SELECT body FROM pigeon.pop('q')), 'prepared', 'a prepared pop that rolls back has lost nothing');
SELECT count(pigeon.send('q', 'again')) FROM generate_series(1, 10);
BEGIN;
SELECT pigeon.purge_queue('q');
PREPARE TRANSACTION 'purge';
CALL rotate();
CALL rotate();
SELECT isnt(used(), 'none', 'a prepared purge keeps the segment');
ROLLBACK PREPARED 'purge';
SELECT is((SELECT string_agg(body, ',') FROM pigeon.pop('q', 2)), 'again,again', 'a purge that rolls back has lost nothing');
BEGIN;
SELECT pigeon.drop_queue('q');
PREPARE TRANSACTION 'drop';
CALL rotate();
ROLLBACK PREPARED 'drop';
SELECT is((SELECT string_agg(body, ',') FROM pigeon.pop('q', 2)), 'again,again', 'nor has a drop');

-- Within one transaction, and at other isolation levels
BEGIN;
SELECT pigeon.send('q', 'mine');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock'
	AND relation IN (SELECT ('pigeon.log_' || i)::regclass FROM generate_series(0, 7) AS i)), 0::bigint,
	'maintenance inside a transaction locks no segment');
ROLLBACK;
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 6::bigint, 'and is rolled back with it');
CALL rotate();
SELECT is(used(), 'none', 'all of the ring is free');
SET default_transaction_isolation = 'repeatable read';
SELECT pigeon.send('q', 'x');
CALL rotate();
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 1::bigint, 'a message is popped');
CALL rotate();
SELECT is(used(), 'none', 'maintain() works whatever the default isolation level is');
RESET default_transaction_isolation;

-- A database that is being restored: deliveries are still to come
SELECT pigeon.send('q', 'restored');
CALL rotate();
CREATE TABLE saved AS SELECT * FROM pigeon.queue WHERE name = 'q';
SELECT format('CREATE TABLE loaded AS SELECT * FROM pigeon.q_%s; DELETE FROM pigeon.q_%1$s', id) FROM saved \gexec
DELETE FROM pigeon.queue WHERE name = 'q';
CALL rotate();
SELECT isnt(used(), 'none', 'a table of deliveries that is not in the registry keeps the log');
INSERT INTO pigeon.queue SELECT * FROM saved;
SELECT format('INSERT INTO pigeon.q_%s SELECT * FROM loaded; ANALYZE pigeon.q_%1$s', id) FROM saved \gexec
SELECT pigeon.alter_queue('q', delay => '0');
SELECT is((SELECT body FROM pigeon.peek('q')), 'restored', 'until it is');
SELECT is((SELECT count(*) FROM pigeon.pop('q')), 1::bigint, 'and received');
INSERT INTO pigeon.queue SELECT (jsonb_populate_record(saved, '{"name": "no table", "id": 9999}')).* FROM saved;
CALL rotate();
SELECT isnt(used(), 'none', 'a queue without a table keeps the log, too');
DELETE FROM pigeon.queue WHERE name = 'no table';
CALL rotate();
SELECT is(used(), 'none', 'until it is gone');

-- A message in every segment that is needed for long: none of them may hold up the ring
DO $$
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM pigeon.send('q', 'long ' || i, delay => '1 day');
		COMMIT;
		CALL rotate();
	END LOOP;
END $$;
SELECT cmp_ok((SELECT count(*) FROM used_segments), '<', 7::bigint, 'the ring never stays full');
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.peek('q', 20)),
	(SELECT string_agg('long ' || i, ',' ORDER BY i) FROM generate_series(1, 20) AS i), 'and nothing is lost');

-- What the owner of a queue does to its table does not stop the maintenance of the log
SELECT pigeon.purge_queue('q');
CALL rotate();
CALL rotate();
SELECT pigeon.create_queue('owned');
SELECT queue_table AS owned FROM pigeon.queues WHERE queue = 'owned' \gset
SELECT count(pigeon.send('owned', 'owned ' || i)) FROM generate_series(1, 10) AS i;
SELECT count(pigeon.send('q', 'filler')) FROM generate_series(1, 100) AS i;
SELECT pigeon.purge_queue('q');
CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER nothing BEFORE UPDATE ON :owned FOR EACH ROW EXECUTE FUNCTION do_nothing();
ALTER TABLE :owned ADD COLUMN extra text;
SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', :'owned', conname) FROM pg_constraint WHERE conrelid = :'owned'::regclass AND contype = 'p' \gexec
SET client_min_messages = error;
CALL rotate();
CALL rotate();
SELECT is(used(), 'none', 'a trigger, a column more and no primary key do not keep the log');
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.log_old),
	(SELECT string_agg('owned ' || i, ',' ORDER BY i) FROM generate_series(1, 10) AS i), 'and what the queue needs is there');
DROP TRIGGER nothing ON :owned;
ALTER TABLE :owned ALTER COLUMN segment TYPE integer;
SELECT pigeon.send('q', 'short');
SELECT pigeon.pop('q');
CALL rotate();
CALL rotate();
SELECT isnt(used(), 'none', 'a table that cannot be read does');
SELECT is((SELECT count(*) FROM pigeon.log_old), 10::bigint, 'and all of the old generation');
SELECT pigeon.drop_queue('owned');
CALL rotate();
SELECT is(used(), 'none', 'until it is gone');
RESET client_min_messages;

-- More of the old generation than is looked at together
SELECT pigeon.send('q', 'first');
INSERT INTO pigeon.log_old SELECT nextval('pigeon.message_id_seq'), 0, now(), current_user, 'x' FROM generate_series(1, 120000);
SELECT pigeon.send('q', 'second');
SELECT pigeon.create_queue('filler');
SELECT count(pigeon.send('filler', 'filler')) FROM generate_series(1, 20) AS i;
SELECT pigeon.purge_queue('filler');
CALL rotate();
CALL rotate();
SELECT is((SELECT count(*) FROM pigeon.log_old WHERE body = 'x'), 0::bigint, 'all that is not needed is deleted');
SELECT is((SELECT string_agg(body, ',') FROM pigeon.peek('q')), 'first,second', 'and nothing else');

-- Segments are small as long as few are needed, and grow with a backlog
SELECT pigeon.purge_queue(queue) FROM pigeon.queues;
SELECT pigeon.create_queue('large', visibility_timeout => '1 hour');
CREATE PROCEDURE send_three_megabytes() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pigeon.send_batch('large', array_agg(repeat(md5(i::text), 220))) FROM generate_series(1, 400) AS i;
	COMMIT;
	CALL pigeon.maintain();
	CALL pigeon.maintain();
END $$;
CALL rotate();
CALL rotate();
SELECT is(used(), 'none', 'a fresh log');
CALL send_three_megabytes();
SELECT is((SELECT count(*) FROM used_segments), 1::bigint, 'a segment of three megabytes is full');
CALL send_three_megabytes();
CALL send_three_megabytes();
CALL send_three_megabytes();
SELECT is((SELECT count(*) FROM used_segments), 4::bigint, 'and so are those that follow');
CALL send_three_megabytes();
CALL send_three_megabytes();
SELECT is((SELECT count(*) FROM used_segments), 4::bigint, 'the next is not: there is a backlog');
CALL send_three_megabytes();
CALL send_three_megabytes();
SELECT is((SELECT count(*) FROM used_segments), 5::bigint, 'it has room for four times as much');

-- Many survivors, and statistics that know of none
SELECT pigeon.purge_queue(queue) FROM pigeon.queues;
CALL rotate();
CALL rotate();
SELECT pigeon.send('q', 'kept');
SELECT count(pigeon.send('filler', 'filler')) FROM generate_series(1, 10);
SELECT pigeon.purge_queue('filler');
CALL rotate();
CALL rotate();
SELECT count(*) FROM generate_series(1, 200) AS i, pigeon.send_batch('filler', array_fill('filler ' || i, ARRAY[1000]));
SELECT count(*) FROM generate_series(1, 60) AS i, pigeon.send_batch('q', array_fill('many ' || i, ARRAY[1000]));
SELECT pigeon.purge_queue('filler');
-- As after an autovacuum that came while they were being sent.
UPDATE pg_class SET relpages = pg_relation_size(oid) / current_setting('block_size')::integer, reltuples = 1 WHERE relname ~ '^log_([0-7]|old)$';
SET statement_timeout = '300 s';
CALL rotate();
CALL rotate();
RESET statement_timeout;
SELECT is((SELECT count(*) FROM pigeon.log_old), 60001::bigint, 'many messages are copied, however few there were before');
SELECT is(used(), 'none', 'and their segments are free');

-- A segment has room for messages to come
SELECT pigeon.purge_queue(queue) FROM pigeon.queues;
CALL rotate();
CALL rotate();
CREATE FUNCTION pages() RETURNS TABLE (pages bigint, used bigint) LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('SELECT pg_relation_size(%L) / current_setting(''block_size'')::bigint,'
		' count(DISTINCT (ctid::text::point)[0]) FROM %1$s', 'pigeon.log_' || current_segment());
END $$;
SELECT pigeon.send('q', 'little');
SELECT results_eq('SELECT * FROM pages()', 'VALUES (1::bigint, 1::bigint)', 'a small one grows by what it needs');
SELECT count(pigeon.send('q', repeat('x', 1000))) FROM generate_series(1, 2000) AS i;
CREATE TABLE before AS SELECT * FROM pages();
SELECT cmp_ok(pages - used, '>=', 1::bigint, 'a larger one by more') FROM before;
SELECT cmp_ok(pages - used, '<=', 80::bigint, 'but not by very much') FROM before;
SELECT format('VACUUM pigeon.log_%s', current_segment()) \gexec
SELECT is(pages.pages, before.pages, 'vacuum leaves it the room') FROM pages(), before;
SELECT count(pigeon.send('q', repeat('x', 1000))) FROM generate_series(1, 4000) AS i;
SELECT cmp_ok(pages - used, '<=', 80::bigint, 'which is used in the end') FROM pages();
SELECT * FROM finish();
