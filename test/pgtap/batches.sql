-- Receive and delete of many walk over messages that follow one another; gaps, strangers and what is out of order are in
-- nobody's way.
CREATE EXTENSION dblink;
SELECT plan(24);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
CREATE FUNCTION fill(queue text, first integer, last integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pigeon.send_batch(queue, (SELECT array_agg('m' || i ORDER BY i) FROM generate_series(first, last) i))
$$;
-- The true answers and all answers.
CREATE FUNCTION answers(answers boolean[]) RETURNS text LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE a) || ' of ' || count(*) FROM unnest(answers) a
$$;
SELECT connect('a');
SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('other');

-- Bodies, when the messages of two queues alternate in the log in every distance.
SELECT pigeon.send(CASE WHEN i % (1 + i / 100) = 0 THEN 'q' ELSE 'other' END, 'm' || i) FROM generate_series(1, 1000) i;
SELECT is((SELECT count(*) FROM pigeon.peek('q', 1000) JOIN pigeon.log_0 USING (message_id, body)),
	(SELECT count(*) FROM generate_series(1, 1000) i WHERE i % (1 + i / 100) = 0), 'every message has its own body');
CREATE TABLE got AS SELECT * FROM pigeon.receive('q', 1000);
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM got),
	(SELECT string_agg('m' || i, ' ' ORDER BY i) FROM generate_series(1, 1000) i WHERE i % (1 + i / 100) = 0),
	'also when it is received');
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM pigeon.receive('other', 1000)),
	(SELECT string_agg('m' || i, ' ' ORDER BY i) FROM generate_series(1, 1000) i WHERE i % (1 + i / 100) <> 0),
	'from the other queue, too');
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt ORDER BY random()) FROM got))),
	(SELECT count(*) || ' of ' || count(*) FROM got), 'all are deleted, in whatever order the receipts are');
SELECT is((SELECT count(*) FROM pigeon.peek('q', 1000)), 0::bigint, 'and gone');
SELECT is((SELECT count(*) FROM pigeon.peek('other', 1000)), 1000 - (SELECT count(*) FROM got), 'those of the other queue are not');
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got))), (SELECT '0 of ' || count(*) FROM got),
	'a second delete finds nothing');
TRUNCATE got;

-- Messages that come back in another order, and some that moved to the old generation of the log.
SELECT fill('q', 1, 300);
INSERT INTO got SELECT * FROM pigeon.receive('q', 300);
SELECT count(pigeon.change_visibility('q', receipt, '0')) FROM (SELECT receipt FROM got ORDER BY message_id DESC) AS backwards;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 300) AS again JOIN got USING (message_id, body)), 300::bigint,
	'messages that come back have their own bodies');
TRUNCATE got;
SELECT pigeon.purge_queue('q');

-- Deletes: the same receipt twice, stale receipts, and what is not there any more.
SELECT fill('q', 1, 200);
INSERT INTO got SELECT * FROM pigeon.receive('q', 200, '0');
INSERT INTO got SELECT * FROM pigeon.receive('q', 200);
SELECT is((SELECT count(DISTINCT receipt::text) FROM got), 400::bigint, 'two receipts of each message');
SELECT ok(pigeon.delete('q', receipt), 'one is deleted before') FROM got WHERE body = 'm100' LIMIT 1;
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got))), '199 of 400', 'each message is deleted once');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'and none is left');
TRUNCATE got;

-- Messages that another transaction holds: nobody waits for another receiver, and the others are deleted.
SELECT fill('q', 1, 20);
INSERT INTO got SELECT * FROM pigeon.receive('q', 20, '0');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(x, 'm5', 'one is received again')
	FROM dblink('a', $$SELECT body FROM (SELECT body FROM pigeon.receive('q', 5)) AS five ORDER BY body DESC LIMIT 1$$) AS t (x text);
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got))), '15 of 20', 'what another transaction receives is its own');
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM pigeon.peek('q')), 'm1 m2 m3 m4 m5', 'and is still there');
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got))), '5 of 20', 'until it is free');
TRUNCATE got;

-- Two deletes of the same receipts wait for each other, one after the other, and never for each other at once.
SELECT fill('q', 1, 50);
INSERT INTO got SELECT * FROM pigeon.receive('q', 50);
SELECT dblink_exec('a', 'BEGIN');
SELECT is(x, '10 of 10', 'another transaction deletes some')
	FROM dblink('a', $$SELECT answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got WHERE substr(body, 2)::integer BETWEEN 21 AND 30)))$$) AS t (x text);
SELECT connect('b');
SELECT is(dblink_send_query('b', $$SELECT answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got)))$$), 1, 'a third waits for it');
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database());
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT is(x, '10 of 10', 'having deleted nothing behind the first that is held')
	FROM dblink('a', $$SELECT answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM got WHERE substr(body, 2)::integer > 40)))$$) AS t (x text);
SELECT dblink_exec('a', 'COMMIT');
SELECT is(x, '30 of 50', 'and then deletes the rest') FROM dblink_get_result('b') AS t (x text);
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'nothing is left');
TRUNCATE got;

-- Inside one transaction.
SELECT fill('q', 1, 100);
BEGIN;
SELECT is(answers(pigeon.delete('q', (SELECT array_agg(receipt) FROM pigeon.receive('q', 100)))), '100 of 100',
	'what a transaction received it deletes');
ROLLBACK;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1000)), 100::bigint, 'a rollback undoes both');
SELECT pigeon.purge_queue('q');
SELECT fill('q', 1, 10);
INSERT INTO got SELECT * FROM pigeon.receive('q', 10);
SELECT is((SELECT count(*) FROM got WHERE pigeon.delete('q', ARRAY[receipt, receipt]) = '{t,f}'), 10::bigint, 'one receipt twice in a call');
SELECT * FROM finish();
