-- A backend remembers where it put the rows of its last leases (src/known_place.c). That is a hint: whatever has happened
-- to the row or to its place meanwhile, a receipt means its own message.
CREATE EXTENSION dblink;
SELECT plan(40);

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
SELECT connect('other');
CREATE FUNCTION queue_table(name text) RETURNS regclass LANGUAGE sql AS $$
	SELECT queue_table FROM pigeon.queues WHERE queue = name
$$;
CREATE FUNCTION create_queue(name text, fifo boolean = false) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pigeon.create_queue(name, fifo => create_queue.fifo, visibility_timeout => '1 hour');
	EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', queue_table(name));
END $$;
-- What this session has looked for in the primary key of a queue's table
CREATE FUNCTION looks(name text) RETURNS bigint LANGUAGE sql AS $$
	SELECT pg_stat_get_xact_numscans(indexrelid) FROM pg_index WHERE indrelid = queue_table(name) AND indisprimary
$$;
-- Delete by a receipt: the answer, and in how many looks at the primary key
CREATE FUNCTION deleted(queue text, receipt pigeon.receipt) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before bigint := looks(queue);
	answer boolean := pigeon.delete(queue, receipt);
BEGIN
	RETURN format('%s, %s looks', answer, looks(queue) - before);
END $$;
CREATE FUNCTION bodies(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(body, ' ' ORDER BY body) FROM pigeon.peek(queue, 100)
$$;
-- Where the row of a message is
CREATE FUNCTION place(queue text, message_id bigint) RETURNS tid LANGUAGE plpgsql AS $$
DECLARE
	place tid;
BEGIN
	EXECUTE format('SELECT ctid FROM %s WHERE message_id = $1', queue_table(queue)) INTO place USING message_id;
	RETURN place;
END $$;
CREATE TABLE got (message_id bigint, receipt pigeon.receipt, body text);

-- It is found without the index by who has received it, and with it by others.
SELECT create_queue('q');
SELECT pigeon.send('q', 'm' || i) FROM generate_series(1, 4) AS i;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('q', 4);
SELECT is(deleted('q', receipt), 't, 0 looks', 'who has received a message knows where it is') FROM got WHERE body = 'm1';
SELECT is(deleted('q', receipt), 'f, 2 looks', 'when it is gone, the index is asked') FROM got WHERE body = 'm1';
SELECT is(x, 't, 1 looks', 'others ask the index') FROM got,
	dblink('other', format('SELECT deleted(%L, %L)', 'q', receipt)) AS t (x text) WHERE body = 'm2';
SELECT is(deleted('q', receipt), 'f, 2 looks', 'where it was known to be it is no longer') FROM got WHERE body = 'm2';
SELECT is(pigeon.change_visibility('q', receipt, '2 hours'), true, 'a change of its visibility') FROM got WHERE body = 'm3';
SELECT is(deleted('q', receipt), 't, 0 looks', 'is remembered, too') FROM got WHERE body = 'm3';
SELECT is(bodies('q'), 'm4', 'the other messages are there');

-- The whole table moves.
SELECT pigeon.send('q', 'm' || i) FROM generate_series(5, 6) AS i;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('q', 2);
SELECT dblink_exec('other', 'VACUUM FULL ' || queue_table('q'));
SELECT is(deleted('q', receipt), 't, 1 looks', 'a message is found in a table that was written anew') FROM got WHERE body = 'm5';
SELECT is(bodies('q'), 'm4 m6', 'and no other one is deleted');

-- The place is another message's: it was moved, and vacuum has given the place away.
SELECT create_queue('moved');
SELECT pigeon.send('moved', 'm1');
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('moved');
CREATE TABLE known AS SELECT place('moved', message_id) FROM got;
SELECT is(x, true, 'another session moves the message') FROM got,
	dblink('other', format('SELECT pigeon.change_visibility(%L, %L, %L)', 'moved', receipt, '2 hours')) AS t (x boolean);
SELECT isnt(place('moved', message_id), place, 'to another place') FROM got, known;
CREATE FUNCTION vacuumed(queue text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		PERFORM dblink_exec('other', 'VACUUM ' || queue_table(queue));
		EXIT WHEN pg_stat_get_dead_tuples(queue_table(queue)) = 0;
		PERFORM pg_stat_clear_snapshot(), pg_sleep(0.01);
	END LOOP;
END $$;
SELECT vacuumed('moved');
SELECT count(*) FROM dblink('other', $$SELECT pigeon.send('moved', 'n' || i) FROM generate_series(1, 5) AS i$$) AS t (id bigint);
SELECT is((SELECT count(*) FROM pigeon.peek('moved', 10), known WHERE place('moved', message_id) = place), 1::bigint, 'and its place is given to another one');
SELECT is(deleted('moved', receipt), 't, 1 looks', 'the receipt deletes its own message') FROM got;
SELECT is(bodies('moved'), 'n1 n2 n3 n4 n5', 'and not the one that is there');

-- The place is behind the end of the table.
SELECT create_queue('cut');
SELECT count(*) FROM pigeon.send_batch('cut', array_fill('x'::text, ARRAY[300]));
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('cut', 300);
CREATE TABLE last AS SELECT receipt, place('cut', message_id) FROM got ORDER BY message_id DESC LIMIT 1;
SELECT is(x, 300::bigint, 'another session deletes all of a table') FROM
	dblink('other', $$SELECT count(*) FILTER (WHERE pigeon.delete('cut', receipt)) FROM got$$) AS t (x bigint);
SELECT vacuumed('cut');
SELECT cmp_ok((split_part(trim('()' FROM place::text), ',', 1))::bigint * current_setting('block_size')::bigint, '>=',
	pg_relation_size(queue_table('cut')), 'and vacuum cuts its end off') FROM last;
SELECT is(deleted('cut', receipt), 'f, 2 looks', 'then a place there is not looked at') FROM last;

-- A message may be in a dead-letter queue twice, from two queues.
SELECT create_queue('dead');
SELECT pigeon.create_topic('topic');
SELECT pigeon.create_queue(name, dead_letter_queue => 'dead', max_receive_count => 1, visibility_timeout => '0'),
	pigeon.subscribe('topic', name) FROM unnest('{a,b}'::text[]) AS name;
SELECT pigeon.publish('topic', 'twice');
SELECT is((SELECT count(*) FROM unnest('{a,b}'::text[]) AS name, pigeon.receive(name)), 2::bigint, 'both queues receive it');
SELECT is((SELECT count(*) FROM unnest('{a,b}'::text[]) AS name, pigeon.receive(name)), 0::bigint, 'and give it up');
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('dead', 10);
SELECT is((SELECT format('%s %s', count(*), count(DISTINCT message_id)) FROM got), '2 1', 'it is received twice from their dead-letter queue');
SELECT is((SELECT array_agg(deleted('dead', receipt) ORDER BY ctid) FROM got), '{"t, 1 looks","t, 0 looks"}',
	'each receipt deletes its own; where the last one is is known');
SELECT is(bodies('dead'), NULL, 'and both are gone');

-- What it knows of was rolled back.
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('moved', 2);
BEGIN;
SAVEPOINT s;
SELECT is(pigeon.change_visibility('moved', receipt, '3 hours'), true, 'a change of the visibility') FROM got WHERE body = 'n1';
ROLLBACK TO s;
SELECT is(deleted('moved', receipt), 't, 1 looks', 'that was rolled back is not what counts') FROM got WHERE body = 'n1';
SAVEPOINT s;
SELECT is(deleted('moved', receipt), 't, 0 looks', 'a delete') FROM got WHERE body = 'n2';
ROLLBACK TO s;
SELECT is(deleted('moved', receipt), 't, 0 looks', 'that was rolled back can be repeated') FROM got WHERE body = 'n2';
COMMIT;
SELECT is(bodies('moved'), 'n3 n4 n5', 'both are gone');

-- All in one transaction, in one command, and the same message twice
TRUNCATE got;
BEGIN;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('moved');
SELECT is(deleted('moved', receipt), 't, 0 looks', 'a message is deleted by the transaction that received it') FROM got;
COMMIT;
SELECT is((SELECT array_agg(pigeon.delete('moved', receipt)) FROM pigeon.receive('moved')), '{t}', 'and by the same command');
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('moved');
SELECT is(pigeon.delete('moved', ARRAY[receipt, receipt]), '{t,f}', 'but only once') FROM got WHERE body = 'n5';
SELECT is(bodies('moved'), NULL, 'nothing is left');

-- FIFO queues: deliveries and the entries of their groups
SELECT create_queue('f', fifo => true);
SELECT pigeon.send('f', 'm' || i, group_id => 'g', deduplication_id => 'm' || i) FROM generate_series(1, 3) AS i;
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('f', 2);
SELECT is(deleted('f', receipt), 't, 0 looks', 'who has received it knows where it is') FROM got WHERE body = 'm1';
SELECT is(deleted('f', receipt), 't, 0 looks', 'of all messages') FROM got WHERE body = 'm2';
SELECT is((SELECT body FROM pigeon.receive('f')), 'm3', 'the group goes on');
SELECT is(x, true, 'another session empties the queue') FROM
	dblink('other', $$SELECT pigeon.purge_queue('f') IS NOT NULL$$) AS t (x boolean);
SELECT pigeon.send('f', 'm' || i, group_id => 'g', deduplication_id => 'm' || i) FROM generate_series(4, 5) AS i;
TRUNCATE got;
INSERT INTO got SELECT message_id, receipt, body FROM pigeon.receive('f', 10);
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM got), 'm4 m5', 'what is sent then is received');
SELECT is(x, '{t}', 'another session deletes the first') FROM got,
	dblink('other', format('SELECT pigeon.delete(%L, ARRAY[%L]::pigeon.receipt[])', 'f', receipt)) AS t (x text) WHERE body = 'm4';
SELECT is(pigeon.change_visibility('f', receipt, '0'), true, 'the second is given back') FROM got WHERE body = 'm5';
SELECT is((SELECT body FROM pigeon.receive('f')), 'm5', 'and received again');
SELECT is((SELECT string_agg(problem, ', ') FROM pigeon.check()), NULL, 'check() finds nothing');

SELECT * FROM finish();
