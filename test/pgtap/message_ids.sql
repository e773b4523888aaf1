-- The numbers of messages: a batch takes its own from the sequence at once (src/message_id.c).
CREATE EXTENSION dblink;
SELECT plan(22);

SELECT dblink_connect('other', format('host=%L port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user));
SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('f', fifo => true);
-- The distances between the ids of a batch
CREATE FUNCTION distances(ids bigint[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT distance::text, ' ') FROM (SELECT id - lag(id) OVER (ORDER BY n) AS distance FROM unnest(ids) WITH ORDINALITY AS t (id, n)) AS d
$$;
CREATE FUNCTION sent(queue text, n integer) RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(id) FROM pigeon.send_batch(queue, array_fill('x'::text, ARRAY[n]),
		group_ids => CASE queue WHEN 'f' THEN array_fill('g'::text, ARRAY[n]) END,
		deduplication_ids => CASE queue WHEN 'f' THEN ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, n)) END) AS id
$$;

SELECT is(sent('q', 3), '{1,2,3}', 'the first batch of all');
SELECT is(pigeon.send('q', 'x'), 4::bigint, 'a single message');
SELECT is(distances(sent('q', 1000)), '1', 'a large batch has consecutive numbers');
SELECT is(distances(sent('f', 100)), '1', 'one for a FIFO queue, too');
SELECT is(pigeon.send('q', 'x'), 1105::bigint, 'none is left out');
SELECT is(nextval('pigeon.message_id_seq'), 1106::bigint, 'nextval() goes on behind them');
SELECT is(pigeon.send('q', 'x'), 1107::bigint, 'and they behind it');

-- What a session's own sequences say
SELECT dblink_exec('other', 'CREATE SEQUENCE own');
SELECT is(x, 1::bigint, 'a sequence of the application') FROM dblink('other', 'SELECT nextval(''own'')') AS t (x bigint);
SELECT is(x, 1108::bigint, 'a send') FROM dblink('other', 'SELECT pigeon.send(''q'', ''x'')') AS t (x bigint);
SELECT is(x, 1::bigint, 'does not change lastval()') FROM dblink('other', 'SELECT lastval()') AS t (x bigint);

-- A batch that was rolled back leaves a gap, as with any sequence.
BEGIN;
SELECT sent('q', 10);
ROLLBACK;
SELECT is(pigeon.send('q', 'x'), 1119::bigint, 'numbers that were rolled back are not used again');

-- Somebody alters the sequence while a send waits for it.
SELECT dblink_connect('third', format('host=%L port=%s dbname=%L user=%L',
	split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database(), current_user));
BEGIN;
ALTER SEQUENCE pigeon.message_id_seq RESTART 1200;
SELECT dblink_send_query('other', 'SELECT pigeon.send(''q'', ''x'')');
SELECT dblink_send_query('third', 'SELECT sent(''f'', 2)');
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXIT WHEN (SELECT count(*) = 2 FROM pg_locks WHERE relation = 'pigeon.message_id_seq'::regclass AND NOT granted);
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;
COMMIT;
SELECT ok(id >= 1200, 'who waits for the sequence sends then') FROM dblink_get_result('other') AS t (id bigint);
SELECT is(distances(ids), '1', 'whether it has sent before or not') FROM dblink_get_result('third') AS t (ids bigint[]);
SELECT FROM dblink_get_result('other') AS t (id bigint);
SELECT FROM dblink_get_result('third') AS t (id bigint);

-- A sequence that was altered
ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY 3;
SELECT is(distances(sent('q', 40)), '3', 'other steps');
ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY 1 CACHE 5;
SELECT is(distances(sent('q', 40)), '1', 'a cache');
SELECT pigeon.send('q', 'x') AS before \gset
SELECT id AS of_other FROM dblink('other', 'SELECT pigeon.send(''q'', ''x'')') AS t (id bigint) \gset
SELECT pigeon.send('q', 'x') AS after \gset
SELECT ok(:before < :of_other AND :of_other < :after, 'of which no session keeps numbers for later');
ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY -1;
SELECT throws_ok($$SELECT pigeon.send('q', 'x')$$, '55000', NULL, 'steps down');
ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY 2;
SELECT throws_ok($$SELECT pigeon.send('q', 'x')$$, '55000', NULL, 'a cache of other steps');
ALTER SEQUENCE pigeon.message_id_seq INCREMENT BY 1;
ALTER SEQUENCE pigeon.message_id_seq CACHE 1 MAXVALUE 5000 RESTART 4980;
SELECT is(sent('q', 3), '{4980,4981,4982}', 'near its end');
SELECT throws_ok($$SELECT sent('q', 20)$$, '2200H', NULL, 'beyond it nothing is sent');
ALTER SEQUENCE pigeon.message_id_seq NO MAXVALUE RESTART 6000;
SELECT is(sent('q', 3), '{6000,6001,6002}', 'after a restart');
SELECT is((SELECT string_agg(problem, ', ') FROM pigeon.check()), NULL, 'check() finds nothing');

SELECT * FROM finish();
