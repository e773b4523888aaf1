-- Who holds a message group of a FIFO queue for long does not make others walk over what has come and gone behind it, and
-- the group is found when he lets go (src/fifo_receive.c, src/frontier.c).  Who waits beside it is woken in vain often.
-- Other sessions are dblink connections; everything here is committed as it goes.
CREATE EXTENSION dblink;
SELECT plan(26);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
CREATE FUNCTION in_a(command text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT * FROM dblink('a', command) AS t (x text) $$;
CREATE FUNCTION send(queue text, body text, group_id text) RETURNS void LANGUAGE sql AS $$
	SELECT pigeon.send(queue, body, group_id => group_id, deduplication_id => gen_random_uuid()::text)
$$;
-- So many groups come and go, when what is held has been so for a while.
CREATE PROCEDURE work(n integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.2);
	PERFORM count(*) FROM (SELECT array_agg(gen_random_uuid()::text) AS ids FROM generate_series(1, n)) AS many,
		pigeon.send_batch('q', array_fill('work'::text, ARRAY[n]), group_ids => ids, deduplication_ids => ids);
	COMMIT;
	FOR i IN 1 .. n / 10 LOOP
		PERFORM count(*) FROM pigeon.pop('q', 10);
		COMMIT;
	END LOOP;
END
$$;
-- Buffers that a receive touches: what it costs, independent of the machine.
CREATE FUNCTION buffers_of_receive() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM pigeon.receive(''q'')' INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
END
$$;
CREATE FUNCTION is_cheap(buffers integer, name text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
		THEN cmp_ok(buffers, '<', 200, name) ELSE pass('without shared memory there is no frontier') END
$$;

SELECT pigeon.create_queue('dead', fifo => true);
SELECT pigeon.create_queue('q', fifo => true, dead_letter_queue => 'dead', max_receive_count => 10);
SELECT connect('a'), connect('b');
-- Who finds nothing looks below the frontier, once a minute.
SELECT count(*) FROM pigeon.receive('q');

-- Rolled back
SELECT send('q', 'held', 'a');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'held', 'a worker takes its time');
CALL work(4000);
SELECT buffers_of_receive() AS buffers \gset
SELECT is_cheap(:buffers, 'a receive does not walk over what has gone behind it');
SELECT is_empty($$SELECT * FROM pigeon.receive('q')$$, 'and finds nothing');
SELECT buffers_of_receive() AS buffers \gset
SELECT is_cheap(:buffers, 'nor does that make others walk');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'check() knows that it will be found');
SELECT send('q', 'next', 'a');
SELECT dblink_exec('a', 'ROLLBACK');
SELECT results_eq($$SELECT body, receive_count FROM pigeon.pop('q', 10)$$, $$VALUES ('held', 1), ('next', 1)$$, 'it is found after a rollback');
SELECT is_empty($$SELECT * FROM pigeon.pop('q', 10)$$, 'once');

-- Committed
SELECT send('q', 'held', 'a');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q', visibility_timeout => '500 ms')$$), 'held', 'another');
CALL work(4000);
SELECT dblink_exec('a', 'COMMIT');
SELECT pg_sleep(0.6);
SELECT results_eq($$SELECT body, receive_count FROM pigeon.pop('q', 10)$$, $$VALUES ('held', 2)$$, 'it comes back after its lease');
CALL work(20);
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'all is well');

-- Somebody waits for it
SELECT send('q', 'held', 'a');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'held', 'a third');
CALL work(1000);
SELECT is(dblink_send_query('b', $$SELECT body FROM pigeon.receive('q', wait_time => '60 s')$$), 1, 'somebody waits');
SELECT pg_sleep(1);
SELECT is(dblink_is_busy('b'), 1, 'as it is held');
SELECT clock_timestamp() AS before \gset
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is((SELECT body FROM dblink_get_result('b') AS t (body text)), 'held', 'and gets it');
SELECT cmp_ok(clock_timestamp() - :'before', '<', interval '30 s', 'when it is free');
SELECT count(*) FROM dblink_get_result('b') AS t (body text);
SELECT pigeon.purge_queue('q');

-- Groups that are blocked, and what waits in them
SELECT count(*) FROM (SELECT array_agg('l' || n) AS ids FROM generate_series(1, 4000) AS n) AS many,
	pigeon.send_batch('q', ids, group_ids => array_fill('long'::text, ARRAY[4000]), deduplication_ids => ids);
SELECT is((SELECT body FROM pigeon.receive('q', 1, '1 h')), 'l1', 'a long group is blocked');
SELECT count(*) FROM (SELECT array_agg('b' || n) AS ids FROM generate_series(1, 4000) AS n) AS many,
	pigeon.send_batch('q', ids || ids, group_ids => ids || ids, deduplication_ids => ids || ARRAY(SELECT id || 'x' FROM unnest(ids) AS id));
DO $$ BEGIN
	FOR i IN 1 .. 4000 LOOP
		PERFORM count(*) FROM pigeon.receive('q', 1, '1 h');
		COMMIT;
	END LOOP;
END $$;
SELECT is((SELECT count(*) FROM pigeon.peek('q', 20000) WHERE receive_count = 1), 4001::bigint, 'and so are four thousand others');
CALL work(1000);
SELECT buffers_of_receive() AS buffers \gset
SELECT is_cheap(:buffers, 'a receive does not walk over them');
SELECT pigeon.purge_queue('q');

-- A dead letter
SELECT pigeon.alter_queue('q', max_receive_count => 1);
SELECT send('q', 'poison', 'a');
SELECT is((SELECT body FROM pigeon.receive('q', visibility_timeout => '0')), 'poison', 'a message is used up');
SELECT dblink_exec('a', 'BEGIN');
SELECT is_empty($$SELECT in_a($q$SELECT body FROM pigeon.receive('q')$q$)$$, 'it is moved by somebody who takes his time');
CALL work(1000);
SELECT dblink_exec('a', 'ROLLBACK');
CALL pigeon.maintain();
SELECT is((SELECT body FROM pigeon.peek('dead')), 'poison', 'maintenance finds it after a rollback');
SELECT is_empty($$SELECT * FROM pigeon.pop('q')$$, 'it is not in the queue any more');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'all is well');

-- A receive of many that waits, and is woken by each message of a group that is in flight, takes no memory for that.
CREATE PROCEDURE send_one_by_one(n integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM send('q', 'x', 'a');
		COMMIT;
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
CREATE FUNCTION peak(pid integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT substring(pg_read_file(format('/proc/%s/status', pid)) FROM 'VmPeak:\s*(\d+)')::bigint / 1024
$$;
SELECT pid AS waiter FROM dblink('b', 'SELECT pg_backend_pid()') AS t (pid integer) \gset
SELECT send('q', 'first', 'a');
SELECT is((SELECT body FROM pigeon.receive('q', visibility_timeout => '1 h')), 'first', 'a group is in flight');
SELECT dblink_send_query('b', $$SELECT body FROM pigeon.receive('q', 100000, wait_time => '60 s')$$);
SELECT pg_sleep(0.5);
SELECT peak(:waiter) AS before \gset
CALL send_one_by_one(100);
SELECT cmp_ok(peak(:waiter) - :before, '<', 200::bigint, 'a receive waits, and does not grow by 10 MB at each message');
SELECT send('q', 'other', 'b');
SELECT is((SELECT body FROM dblink_get_result('b') AS t (body text)), 'other', 'it gets what it may have');
SELECT count(*) FROM dblink_get_result('b') AS t (body text);

SELECT dblink_disconnect('a'), dblink_disconnect('b');
SELECT * FROM finish();
