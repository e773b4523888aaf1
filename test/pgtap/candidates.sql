-- Candidates and the look ahead in empty lanes save work; who receives what, and in which order, does not change.
-- Other sessions are dblink connections; everything here is committed as it goes.
CREATE EXTENSION dblink;
SELECT plan(39);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
-- Fill the queue with numbered messages; the first receive afterwards collects candidates.
CREATE FUNCTION fill(n integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pigeon.send_batch('q', (SELECT array_agg('m' || i ORDER BY i) FROM generate_series(1, n) i))
$$;
CREATE FUNCTION next_body(timeout interval = '1 h') RETURNS text LANGUAGE sql AS $$
	SELECT body FROM pigeon.receive('q', 1, timeout)
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

SELECT pigeon.create_queue('q');
SELECT connect('a');

-- Order.
SELECT fill(200);
SELECT is(next_body(), 'm1', 'the first');
SELECT is(array(SELECT body FROM pigeon.receive('q', 16)), (SELECT array_agg('m' || i ORDER BY i) FROM generate_series(2, 17) i),
	'the next few, in order');
SELECT is(array(SELECT body FROM pigeon.receive('q', 50)), (SELECT array_agg('m' || i ORDER BY i) FROM generate_series(18, 67) i),
	'many, without candidates');
SELECT is(next_body(), 'm68', 'what is taken already is passed over');
SELECT is((SELECT array_agg(next_body() ORDER BY i) FROM generate_series(69, 200) i),
	(SELECT array_agg('m' || i ORDER BY i) FROM generate_series(69, 200) i), 'and so on to the last');
SELECT is(next_body(), NULL, 'then there is nothing');
SELECT pigeon.purge_queue('q');

-- Whoever takes it, each message is received once.
SELECT fill(100);
SELECT is((SELECT count(DISTINCT body) FROM (
		SELECT CASE WHEN i % 2 = 0 THEN next_body() ELSE (SELECT in_a(format('SELECT body FROM pigeon.receive(''q'') /* %s */', i))) END AS body
		FROM generate_series(1, 100) i) AS received), 100::bigint, 'two sessions share candidates');
SELECT is(next_body(), NULL, 'all of them');
SELECT pigeon.purge_queue('q');

-- A receive that rolls back.
SELECT fill(20);
SELECT in_a('BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'm1', 'the first is held');
SELECT is(next_body(), 'm2', 'the second is received');
SELECT in_a('ROLLBACK');
SELECT is(next_body(), 'm1', 'after a rollback the first is received next');
SELECT in_a('BEGIN');
SELECT in_a('SAVEPOINT s');
SELECT is(in_a($$SELECT body FROM pigeon.pop('q')$$), 'm3', 'the third is held');
SELECT is(next_body(), 'm4', 'the fourth is received');
SELECT in_a('ROLLBACK TO s');
SELECT is(next_body(), 'm3', 'after a rollback to a savepoint the third is received next');
SELECT in_a('COMMIT');
SELECT in_a('BEGIN');
SELECT is(in_a($$SELECT body FROM pigeon.receive('q')$$), 'm5', 'the fifth is held');
SELECT in_a($$PREPARE TRANSACTION 'held'$$);
SELECT is(next_body(), 'm6', 'the sixth is received');
SELECT in_a($$ROLLBACK PREPARED 'held'$$);
SELECT is(next_body(), 'm5', 'after the rollback of a prepared transaction the fifth is received next');
SELECT pigeon.purge_queue('q');

-- A receive that takes candidates, and then looks in the index for more, rolls back.
SELECT fill(4);
SELECT is(next_body(), 'm1', 'the first of four');
SELECT count(*) FROM pigeon.send_batch('q', (SELECT array_agg('n' || i ORDER BY i) FROM generate_series(1, 36) i));
SELECT connect('fresh');
SELECT dblink_exec('fresh', 'BEGIN');
SELECT is(n, 16::bigint, 'the others, and more')
	FROM dblink('fresh', $$SELECT count(*) FROM pigeon.receive('q', 16)$$) AS t (n bigint);
SELECT dblink_exec('fresh', 'ROLLBACK');
SELECT is(next_body(), 'm2', 'what was taken first is received next after a rollback');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 100)), 38::bigint, 'and then all others');
SELECT pigeon.purge_queue('q');

-- A sender that commits late.
SELECT in_a('BEGIN');
SELECT in_a($$SELECT pigeon.send('q', 'late')$$);
SELECT fill(20);
SELECT is(next_body(), 'm1', 'the first that is committed');
SELECT in_a('COMMIT');
SELECT is(next_body(), 'late', 'what is older and committed now is received next');
SELECT pigeon.purge_queue('q');

-- A message that comes back, or falls due.
SELECT fill(20);
SELECT pigeon.send('q', 'delayed', delay => '5 s');
SELECT is(next_body('3 s'), 'm1', 'a short lease');
SELECT is(next_body(), 'm2', 'another message meanwhile');
SELECT pg_sleep(3);
SELECT is(next_body(), 'm1', 'when the lease has ended, the message goes first');
SELECT in_a($$SELECT pigeon.change_visibility('q', receipt, '0') FROM pigeon.receive('q')$$);
SELECT is(next_body(), 'm3', 'so does a message that is given back');
SELECT pg_sleep(2);
SELECT is(array(SELECT body FROM pigeon.receive('q', 16)), (SELECT array_agg('m' || i ORDER BY i) FROM generate_series(4, 19) i),
	'the others');
SELECT is(array(SELECT body FROM pigeon.receive('q', 16)), '{m20,delayed}', 'and at last the one that was delayed');
SELECT pigeon.purge_queue('q');

-- The look ahead in a lane where nothing is due does not hide what is written there afterwards.
SELECT fill(200);
SELECT count(next_body()) FROM generate_series(1, 100);
SELECT is(next_body('1 ms'), 'm101', 'a lease that ends before the lane is looked at again');
SELECT pg_sleep(0.002);
SELECT is(next_body(), 'm101', 'is not overlooked');
SELECT in_a('BEGIN');
SELECT in_a($$SELECT body FROM pigeon.receive('q', 1, '1 ms')$$);
SELECT pg_sleep(0.002);
SELECT is(next_body(), 'm103', 'an uncommitted lease hides its message');
SELECT in_a('COMMIT');
SELECT is(next_body(), 'm102', 'until it is committed, and over');
SELECT pigeon.purge_queue('q');

-- What has become of the places of candidates.
SELECT fill(100);
SELECT next_body();
VACUUM FULL pigeon.q_1;
SELECT is(next_body(), 'm2', 'a table that is written anew');
SELECT count(*) FROM in_a($$SELECT pigeon.delete('q', receipt)::text FROM pigeon.receive('q', 48)$$);
SELECT is(next_body(), 'm51', 'messages that were deleted');
SELECT pigeon.purge_queue('q');
SELECT is(next_body(), NULL, 'messages that were purged');
SELECT fill(100);
SELECT next_body();
SELECT count(*) FROM in_a($$SELECT pigeon.delete('q', receipt)::text FROM pigeon.receive('q', 99)$$);
VACUUM (TRUNCATE, INDEX_CLEANUP) pigeon.q_1;
SELECT is(next_body(), NULL, 'a table that is shorter now');
SELECT fill(100);
SELECT next_body();
SELECT count(*) FROM in_a($$SELECT pigeon.delete('q', receipt)::text FROM pigeon.receive('q', 99)$$);
VACUUM (TRUNCATE OFF, INDEX_CLEANUP) pigeon.q_1;
SELECT count(*) FROM pigeon.send_batch('q', array_fill('not yet'::text, ARRAY[100]), delay => '1 h');
SELECT is(next_body(), NULL, 'places that were given to messages which are not due');
SELECT pigeon.purge_queue('q');

-- What a candidate saves: the looks at the lanes.
SELECT fill(200);
SELECT count(next_body()) FROM generate_series(1, 100);
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN cmp_ok((SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY buffers_of_receive()) FROM generate_series(1, 9)), '<', 16,
		'a candidate mostly costs few pages')
	ELSE cmp_ok(buffers_of_receive(), '>', 0, 'without shared memory there are no candidates') END;

SELECT * FROM finish();
