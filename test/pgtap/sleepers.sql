-- Deliveries that are leased in place are passed over while they sleep, and found when their leases end (src/sleepers.c).
-- Other sessions are dblink connections; everything here is committed as it goes.
CREATE EXTENSION dblink;
SELECT plan(66);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
-- Send, receive and delete so many messages, 10 at a time: the frontier moves beyond what was leased before.
CREATE PROCEDURE work(n integer) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(*) FROM pigeon.send_batch('q', array_fill('work'::text, ARRAY[n]));
	COMMIT;
	FOR i IN 1 .. n / 10 LOOP
		PERFORM pigeon.delete('q', array_agg(receipt)) FROM pigeon.receive('q', 10) WHERE body = 'work';
		COMMIT;
	END LOOP;
END
$$;
-- Only leases of the usual length are taken in place: the queue's own.
CREATE FUNCTION lease_for(timeout interval) RETURNS void LANGUAGE sql AS $$
	SELECT pigeon.alter_queue('q', visibility_timeout => timeout)
$$;
-- Lease so many messages, 100 in a transaction.
CREATE PROCEDURE lease(n integer, timeout interval) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM lease_for(timeout);
	COMMIT;
	FOR i IN 1 .. n / 100 LOOP
		PERFORM count(*) FROM pigeon.receive('q', 100);
		COMMIT;
	END LOOP;
END
$$;
CREATE FUNCTION next_body(timeout interval = '1 h') RETURNS text LANGUAGE sql AS $$
	SELECT lease_for(timeout);
	SELECT body || receive_count FROM pigeon.receive('q')
$$;
CREATE FUNCTION in_a(command text) RETURNS SETOF text LANGUAGE sql AS $$ SELECT * FROM dblink('a', command) AS t (x text) $$;
-- Buffers that a receive touches: what it costs, independent of the machine.
CREATE FUNCTION buffers_of_receive() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM pigeon.receive(''q'')' INTO plan;
	RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
END
$$;
CREATE FUNCTION figures() RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s %s', visible, in_flight, delayed) FROM pigeon.queue_metrics WHERE queue = 'q'
$$;

SELECT pigeon.create_queue('q');
SELECT connect('a');

-- A lease that ends behind the frontier.
SELECT pigeon.send('q', 'a');
SELECT is(next_body('5 s'), 'a1', 'a message is received');
CALL work(1000);
SELECT is(figures(), '0 1 0', 'it is counted where the frontier has passed it');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'and is not taken for hidden');
SELECT is(next_body(), NULL, 'while its lease lasts it is not received');
SELECT pg_sleep(5);
SELECT is(figures(), '1 0 0', 'afterwards it is visible');
SELECT count(*) FROM pigeon.send_batch('q', ARRAY['b', 'c']);
SELECT is(next_body(), 'a2', 'and received before the backlog');
SELECT is(next_body(), 'b1', 'which comes then');
SELECT is(next_body(), 'c1', 'in order');
SELECT is(next_body(), NULL, 'and nothing twice');
SELECT pigeon.purge_queue('q');

-- A lease that was not committed yet when the frontier passed.
SELECT pigeon.send('q', 'late');
SELECT lease_for('6 s');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'late', 'a receiver takes its time');
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT dblink_exec('a', 'COMMIT');
CALL work(1000);
SELECT is(next_body(), NULL, 'its lease holds');
SELECT pg_sleep(6);
SELECT is(next_body(), 'late2', 'and ends');
SELECT pigeon.purge_queue('q');

-- Deletes and receives behind the frontier that come to nothing.
SELECT pigeon.send('q', 'a');
SELECT lease_for('5 s');
SELECT receipt FROM pigeon.receive('q') \gset
CALL work(1000);
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a(format('SELECT pigeon.delete(%L, %L::pigeon.receipt)', 'q', :'receipt')), 't', 'a delete in an open transaction');
SELECT pg_sleep(5);
CALL work(1000);
SELECT is(next_body(), NULL, 'what is being deleted is not received when the lease ends');
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is(next_body('50 ms'), 'a2', 'but at once when the delete is rolled back');
SELECT pigeon.purge_queue('q');

SELECT pigeon.send('q', 'a');
SELECT is(next_body('5 s'), 'a1', 'a short lease');
CALL work(1000);
SELECT pg_sleep(5);
SELECT dblink_exec('a', 'BEGIN');
SELECT dblink_exec('a', 'SAVEPOINT s');
SELECT is(in_a($$SELECT body || receive_count FROM pigeon.receive('q')$$), 'a2', 'the second receive is in a savepoint');
CALL work(1000);
SELECT is(next_body(), NULL, 'and holds the message');
SELECT dblink_exec('a', 'ROLLBACK TO s');
SELECT is(next_body('50 ms'), 'a2', 'until it is rolled back');
SELECT dblink_exec('a', 'COMMIT');
SELECT pg_sleep(0.1);
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body || receive_count FROM pigeon.receive('q')$$), 'a3', 'the third');
SELECT dblink_exec('a', $$PREPARE TRANSACTION 'third'$$);
CALL work(1000);
SELECT is(next_body(), NULL, 'is prepared');
ROLLBACK PREPARED 'third';
SELECT is(next_body(), 'a3', 'and rolled back');
SELECT pigeon.purge_queue('q');

-- A transaction that receives what has come back, and rolls back.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[300]));
CALL lease(300, '5 s');
CALL work(1000);
SELECT pg_sleep(5);
SELECT lease_for('1 h');
BEGIN;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 200)), 200::bigint, 'some that have come back are received');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 200)), 100::bigint, 'and the others');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 200)), 0::bigint, 'each once');
ROLLBACK;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1000, '1 h')), 300::bigint, 'all are there after a rollback');
SELECT pigeon.purge_queue('q');

-- A transaction that receives in place, looks again, and rolls back.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[100]));
BEGIN;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 50)), 50::bigint, 'a transaction receives half of a queue');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100)), 50::bigint, 'and the other half');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100)), 0::bigint, 'and then nothing');
ROLLBACK;
SELECT lease_for('5 s');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1000)), 100::bigint, 'all are there after a rollback');

-- Changes of visibility.
CALL work(1000);
SELECT is((SELECT count(*) FROM (SELECT pigeon.change_visibility('q', receipts, '1 h') FROM (SELECT array_agg(receipt) AS receipts
	FROM pigeon.receive('q', 1, '1 h')) r WHERE receipts IS NOT NULL) c), 0::bigint, 'all are in flight');
SELECT pigeon.send('q', 'long');
SELECT receipt FROM pigeon.receive('q') \gset
SELECT ok(pigeon.change_visibility('q', :'receipt', '1 h'), 'one lease is extended');
CALL work(1000);
SELECT pg_sleep(5);
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1000, '1 h') WHERE body = 'x'), 100::bigint, 'the others come back');
SELECT is(next_body(), NULL, 'and only those');
SELECT ok(pigeon.change_visibility('q', :'receipt', '0'), 'it is given back');
SELECT is(next_body(), 'long2', 'and received at once');
SELECT pigeon.purge_queue('q');

-- Leases that end one after the other, in another order than they were taken in.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[2000]));
SELECT count(*) FROM generate_series(1, 100) AS i, LATERAL pigeon.receive('q', 20, make_interval(secs => 5 + (i * 37 % 100) / 400.0));
CALL work(1000);
CREATE TEMPORARY TABLE got (message_id bigint, receive_count integer);
DO $$
BEGIN
	FOR i IN 1 .. 30000 LOOP
		INSERT INTO got SELECT message_id, receive_count FROM pigeon.receive('q', 7, '1 h');
		COMMIT;
		EXIT WHEN (SELECT count(*) FROM got) = 2000;
		PERFORM pg_sleep(0.001);
	END LOOP;
END $$;
SELECT is((SELECT count(*) FROM got), 2000::bigint, 'all come back');
SELECT is((SELECT count(DISTINCT message_id) FROM got WHERE receive_count = 2), 2000::bigint, 'once');
SELECT pigeon.purge_queue('q');

-- Neither many that sleep, nor many that wake up one after the other, make a receive dear.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20000]));
CALL lease(20000, '1 h');
CALL work(1000);
SELECT pigeon.send('q', 'new');
SELECT buffers_of_receive() AS buffers \gset
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok(:buffers, '<', 200, 'a receive does not walk over those that sleep')
	ELSE pass('without shared memory there is no list of sleepers') END;
SELECT pigeon.purge_queue('q');
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20000]));
CALL lease(20000, '4 s');
SELECT pg_sleep(4);
SELECT lease_for('1 h');
CREATE TEMPORARY TABLE cost (buffers integer);
DO $$
BEGIN
	FOR i IN 1 .. 200 LOOP
		INSERT INTO cost SELECT buffers_of_receive();
		COMMIT;
	END LOOP;
END $$;
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok((SELECT avg(buffers)::integer FROM cost), '<', 200, 'nor over those that will wake up soon')
	ELSE pass('without shared memory leases have places of their own') END;
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100000, '1 h')), 19800::bigint, 'all others come back, too');
SELECT pigeon.purge_queue('q');

-- Nor somebody who holds one of them for long.
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20000]));
CALL lease(20000, '8 s');
SELECT pg_sleep(8);
SELECT lease_for('1 h');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT receive_count FROM pigeon.receive('q')$$), '2', 'a worker takes its time with what came back');
CALL lease(15000, '1 h');
SELECT buffers_of_receive() AS buffers \gset
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok(:buffers, '<', 200, 'a receive does not walk over what was taken behind it')
	ELSE pass('without shared memory there is no frontier') END;
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100000)), 4999::bigint, 'in the end it is received, too');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'all is well');
SELECT pigeon.purge_queue('q');

-- What has come back and was not taken is not hidden.
SELECT lease_for('4 s');
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20]));
SELECT count(*) FROM pigeon.receive('q', 20);
CALL work(1000);
SELECT pg_sleep(4.5);
SELECT is((SELECT count(*) FROM pigeon.receive('q', 5, '1 h')), 5::bigint, 'some are received a second time');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'check() knows that the others are found');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100, '1 h')), 15::bigint, 'as they are');
SELECT pigeon.purge_queue('q');

-- A receive that waits is awake when a lease ends,
SELECT pigeon.send('q', 'a');
SELECT is(next_body('5 s'), 'a1', 'a lease of some seconds');
CALL work(1000);
SELECT is((SELECT body || receive_count FROM pigeon.receive('q', 1, '1 h', wait_time => '20 s')), 'a2', 'ends while somebody waits');
SELECT pigeon.purge_queue('q');
-- also if one that was taken shortly before was ended by a delete,
SELECT lease_for('5 s');
SELECT count(*) FROM pigeon.send_batch('q', ARRAY['a', 'b']);
SELECT receipt FROM pigeon.receive('q') \gset
SELECT pg_sleep(0.1);
SELECT is((SELECT body FROM pigeon.receive('q')), 'b', 'two leases end at about the same time');
CALL work(1000);
SELECT ok(pigeon.delete('q', :'receipt'), 'one by a delete');
SELECT clock_timestamp() AS before \gset
SELECT is((SELECT body || receive_count FROM pigeon.receive('q', 1, '1 h', wait_time => '20 s')), 'b2', 'the other while somebody waits');
SELECT cmp_ok(clock_timestamp() - :'before', '<', interval '15 s', 'who is not late');
SELECT pigeon.purge_queue('q');
-- or if it was committed behind the frontier.
SELECT pigeon.send('q', 'a');
SELECT lease_for('1 s');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'a', 'a lease');
SELECT pg_sleep(0.2);
CALL work(1000);
SELECT is((SELECT body FROM pigeon.receive('q')), NULL, 'is not seen');
SELECT dblink_exec('a', 'COMMIT');
SELECT clock_timestamp() AS before \gset
SELECT is((SELECT body || receive_count FROM pigeon.receive('q', 1, '1 h', wait_time => '20 s')), 'a2', 'until it ends, while somebody waits');
SELECT cmp_ok(clock_timestamp() - :'before', '<', interval '15 s', 'who is not late');
-- Who waits in a transaction that has changed the queue hears of what falls due, too.
SELECT pigeon.send('q', 'first');
SELECT dblink_exec('a', 'BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.pop('q')$$), 'first', 'a transaction changes the queue');
SELECT dblink_send_query('a', $$SELECT body FROM pigeon.receive('q', wait_time => '20 s')$$);
SELECT pg_sleep(0.5);
SELECT pigeon.send('q', 'second', delay => '500 ms');
SELECT clock_timestamp() AS before \gset
SELECT is(x, 'second', 'it waits for another message') FROM dblink_get_result('a') AS t (x text);
SELECT cmp_ok(clock_timestamp() - :'before', '<', interval '15 s', 'and is not late');
SELECT count(*) FROM dblink_get_result('a') AS t (x text);
SELECT dblink_exec('a', 'COMMIT');

-- Where receives are served from candidates the frontier moves on, whatever their size.
SELECT pigeon.purge_queue('q');
SELECT lease_for('1 h');
SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20000]));
TRUNCATE cost;
DO $$
BEGIN
	FOR i IN 1 .. 1400 LOOP
		IF i > 1000 THEN
			INSERT INTO cost SELECT buffers_of_receive();
		END IF;
		PERFORM count(*) FROM pigeon.receive('q', 10);
		COMMIT;
	END LOOP;
END $$;
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok((SELECT max(buffers) FROM cost), '<', 200, 'no receive walks over those in flight')
	ELSE pass('without shared memory there is no frontier') END;
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'all is well');
-- Of a message that was received before nobody expects that it sleeps; its owner may have written so.
SELECT pigeon.create_queue('written', visibility_timeout => '0');
SELECT pigeon.send('written', 'm');
SELECT count(*) FROM pigeon.receive('written');
SELECT count(*) FROM pigeon.receive('written', 1, '6 s');
SELECT pg_sleep(0.2);
SELECT format('UPDATE %s SET due_at = clock_timestamp()', queue_table) FROM pigeon.queues WHERE queue = 'written' \gexec
SELECT is_empty($$SELECT r FROM generate_series(1, 20), LATERAL pigeon.receive('written') AS r$$, 'a message whose row was changed by SQL is in flight');
SELECT pg_sleep(6);
SELECT results_eq($$SELECT body FROM pigeon.receive('written')$$, $$VALUES ('m')$$, 'and found when it is not any more');
SELECT is_empty($$SELECT * FROM pigeon.check()$$, 'all is well');
SELECT * FROM finish();
