-- The scan frontier never hides a message, and keeps a receive cheap while old rows cannot be removed.
-- Other sessions are dblink connections; everything here is committed as it goes.
CREATE EXTENSION dblink;
SELECT plan(22);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
-- Send, receive and delete so many messages, 10 at a time: the frontier moves beyond what is open elsewhere.
CREATE PROCEDURE work(n integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(*) FROM pigeon.send_batch('q', array_fill('work'::text, ARRAY[n]));
	COMMIT;
	FOR i IN 1 .. n / 10 LOOP
		PERFORM pigeon.delete('q', array(SELECT receipt FROM pigeon.receive('q', 10)));
		COMMIT;
	END LOOP;
END
$$;
CREATE FUNCTION next_body() RETURNS text LANGUAGE sql AS $$ SELECT body FROM pigeon.pop('q') $$;
-- Buffers that a receive touches: what it costs, independent of the machine.
CREATE FUNCTION buffers_of_receive() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM pigeon.receive(''q'')' INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
END
$$;

SELECT pigeon.create_queue('q', visibility_timeout => '1 hour');
SELECT connect('a');
SELECT connect('b');

-- A sender that commits late.
SELECT dblink_exec('a', 'BEGIN');
SELECT * FROM dblink('a', $$SELECT pigeon.send('q', 'late')$$) AS t (id bigint);
CALL work(1000);
SELECT is(next_body(), NULL, 'an uncommitted message is not received');
SELECT dblink_exec('a', 'COMMIT');
SELECT is(next_body(), 'late', 'a message committed behind the frontier is received');

-- Messages of a large batch fall due one after the other, the first of them before the last look of a receiver.
SELECT pigeon.create_queue('batch');
DO $$
DECLARE
	bodies text[] := array_fill('x'::text, ARRAY[100000]);
BEGIN
	FOR i IN 1 .. 20 LOOP
		PERFORM pigeon.receive('batch');
	END LOOP;
	PERFORM count(*) FROM pigeon.send_batch('batch', bodies);
END $$;
SELECT is((SELECT count(*) FROM pigeon.pop('batch', 100000)), 100000::bigint, 'a batch that begins behind the frontier is received');

-- What was written by other means is found by the first receive in a minute that finds nothing else.
SELECT pigeon.create_queue('foreign');
SELECT queue_table FROM pigeon.queues WHERE queue = 'foreign' \gset
SELECT count(*) FROM pigeon.send_batch('foreign', array_fill('x'::text, ARRAY[40]));
DO $$ BEGIN
	FOR i IN 1 .. 39 LOOP
		PERFORM pigeon.delete('foreign', receipt) FROM pigeon.receive('foreign');
		COMMIT;
	END LOOP;
	PERFORM pigeon.receive('foreign');
END $$;
UPDATE :queue_table SET due_at = '2000-01-01', visible_at = NULL;
SELECT is((SELECT count(*) FROM pigeon.receive('foreign')), 1::bigint, 'a delivery changed by SQL is found behind the frontier');

-- A sender that is slow while the frontier stands still, so that its message is left behind.
SELECT dblink_exec('a', 'BEGIN');
SELECT * FROM dblink('a', $$SELECT pigeon.send('q', 'very late')$$) AS t (id bigint);
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT dblink_exec('a', 'COMMIT');
SELECT is(next_body(), 'very late', 'a message that was left behind is received');
SELECT is(next_body(), NULL, 'once');

-- A sender that rolls back, whole or in part.
SELECT dblink_exec('a', 'BEGIN');
SELECT * FROM dblink('a', $$SELECT pigeon.send('q', 'kept')$$) AS t (id bigint);
SELECT dblink_exec('a', 'SAVEPOINT s');
SELECT * FROM dblink('a', $$SELECT pigeon.send('q', 'undone')$$) AS t (id bigint);
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT dblink_exec('a', 'ROLLBACK TO s');
SELECT dblink_exec('a', 'COMMIT');
SELECT is(next_body(), 'kept', 'what a savepoint did not undo is received');
SELECT is(next_body(), NULL, 'what it undid is not');

-- A prepared transaction.
SELECT dblink_exec('a', 'BEGIN');
SELECT * FROM dblink('a', $$SELECT pigeon.send('q', 'prepared')$$) AS t (id bigint);
SELECT dblink_exec('a', $$PREPARE TRANSACTION 'frontier'$$);
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT is(next_body(), NULL, 'a prepared message is not received');
COMMIT PREPARED 'frontier';
SELECT is(next_body(), 'prepared', 'a message is received once its prepared transaction is committed');

-- Receivers and deleters that roll back.
SELECT count(*) FROM pigeon.send_batch('q', ARRAY['first', 'second']);
SELECT dblink_exec('a', 'BEGIN');
SELECT is(body, 'first', 'one session receives a message') FROM dblink('a', $$SELECT body FROM pigeon.receive('q')$$) AS t (body text);
SELECT dblink_exec('b', 'BEGIN');
SELECT is(body, 'second', 'another pops the next') FROM dblink('b', $$SELECT body FROM pigeon.pop('q')$$) AS t (body text);
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is(next_body(), 'first', 'a receive rolled back behind the frontier is undone at once');
SELECT dblink_exec('b', 'ROLLBACK');
SELECT is(next_body(), 'second', 'and so is a delete');

-- A receive by a transaction that deleted messages itself must not take its own deletions for final.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('mine'::text, ARRAY[100]));
BEGIN;
SELECT count(*) FROM pigeon.pop('q', 50);
SELECT count(*) FROM pigeon.pop('q', 50);
SELECT is(count(*), 0::bigint, 'all is received') FROM pigeon.receive('q', 100);
ROLLBACK;
SELECT is(count(*), 100::bigint, 'all is back after a rollback') FROM pigeon.pop('q', 1000);

-- More held deliveries than the frontier can leave behind.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('held'::text, ARRAY[100]));
SELECT dblink_exec('a', 'BEGIN');
SELECT is(n, 100::bigint, 'a session holds many messages') FROM dblink('a', $$SELECT count(*) FROM pigeon.receive('q', 100)$$) AS t (n bigint);
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is(count(*), 100::bigint, 'all of them come back') FROM pigeon.pop('q', 1000);

-- The cost of a receive while a snapshot keeps every dead row, and a worker holds a message.
SELECT pigeon.send('q', 'long job');
SELECT dblink_exec('a', 'BEGIN ISOLATION LEVEL REPEATABLE READ');
SELECT is(body, 'long job', 'a worker starts a long job') FROM dblink('a', $$SELECT body FROM pigeon.receive('q')$$) AS t (body text);
SELECT pg_sleep(0.2);
CALL work(20000);
SELECT count(*) FROM pigeon.send_batch('q', array_fill('cheap'::text, ARRAY[10]));
SELECT count(*) FROM pigeon.receive('q', 2);
SELECT buffers_of_receive() AS buffers \gset
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok(:buffers, '<', 200, 'a receive does not pass the dead rows')
	ELSE pass('without shared memory there is no frontier') END;
SELECT dblink_exec('a', 'COMMIT');
SELECT is(count(*), 7::bigint, 'the rest is there') FROM pigeon.pop('q', 1000);
SELECT is(count(*), 4::bigint, 'what was received is still leased, the long job too') FROM pigeon.peek('q', 1000) WHERE receive_count = 1;
SELECT * FROM finish();
