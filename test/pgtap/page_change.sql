-- What a batch receives or deletes in one page is changed together (src/page_change.c): nothing is lost or changed twice,
-- and table, indexes and counters are as if it had been changed row by row.
CREATE EXTENSION amcheck;
CREATE EXTENSION dblink;
CREATE EXTENSION pageinspect;
CREATE EXTENSION pg_visibility;
CREATE EXTENSION pg_walinspect;
SELECT plan(163);

-- This session waits for nobody.
SET lock_timeout = '10s';

CREATE FUNCTION connect(name text) RETURNS text LANGUAGE sql AS $$
	SELECT dblink_connect(name, format('host=%L port=%s dbname=%L user=%L',
		split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'),
		current_database(), current_user))
$$;
SELECT connect('a');
SELECT connect('b');
SELECT connect('c');

-- Leases in place, which are changed together, are there only if the library is preloaded.
CREATE FUNCTION preloaded() RETURNS boolean LANGUAGE sql AS $$
	SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%'
$$;
CREATE FUNCTION queue_table(name text) RETURNS regclass LANGUAGE sql AS $$
	SELECT queue_table FROM pigeon.queues WHERE queue = name
$$;
-- A queue with the messages m1, m2, and so on, in a table that nobody vacuums behind our back.
CREATE FUNCTION fill(name text, n integer) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	IF queue_table(name) IS NULL THEN
		PERFORM pigeon.create_queue(name, visibility_timeout => '1 hour');
		EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', queue_table(name));
	END IF;
	RETURN count(*) FROM pigeon.send_batch(name, ARRAY(SELECT 'm' || i FROM generate_series(1, n) AS i));
END $$;
-- The true answers and all answers.
CREATE FUNCTION answers(answers boolean[]) RETURNS text LANGUAGE sql AS $$
	SELECT count(*) FILTER (WHERE a) || ' of ' || count(*) FROM unnest(answers) AS a
$$;
-- Bodies as ranges of their numbers, in order of messages: "1-20 41-60".
CREATE FUNCTION ranges(bodies text[]) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(range, ' ' ORDER BY first) FROM (
		SELECT min(place) AS first, min(number) || '-' || max(number) AS range FROM (
			SELECT place, number, number - place AS distance
			FROM unnest(bodies) WITH ORDINALITY AS t (body, place), CAST(substr(body, 2) AS integer) AS number) AS numbers
		GROUP BY distance) AS ranges
$$;
CREATE FUNCTION received(queue text, n integer, visibility_timeout interval = '1 hour') RETURNS text LANGUAGE sql AS $$
	SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.receive(queue, n, visibility_timeout)
$$;
CREATE FUNCTION popped(queue text, n integer) RETURNS text LANGUAGE sql AS $$
	SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.pop(queue, n)
$$;
-- What is wrong with a queue's table. Fails if an index is out of order, or lacks an entry.
CREATE FUNCTION table_flaws(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ',
		(SELECT string_agg(format('(%s,%s): %s', blkno, offnum, msg), ', ') FROM verify_heapam(queue_table(queue))),
		(SELECT 'not visible: ' || string_agg(t_ctid::text, ' ') FROM pg_check_visible(queue_table(queue))),
		(SELECT 'not frozen: ' || string_agg(t_ctid::text, ' ') FROM pg_check_frozen(queue_table(queue))),
		(SELECT 'only one index' FROM pg_index WHERE indrelid = queue_table(queue)
			HAVING count(bt_index_parent_check(indexrelid, true, true)) < 2))
$$;
-- And with all queues
CREATE FUNCTION flaws(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(', ', nullif(table_flaws(queue), ''), (SELECT string_agg(object || ': ' || problem, ', ') FROM pigeon.check()))
$$;
CREATE FUNCTION pages(name text) RETURNS TABLE (block integer, page bytea) LANGUAGE sql AS $$
	SELECT block, get_raw_page(t::text, block)
	FROM queue_table(name) AS t,
		generate_series(0, (pg_relation_size(t) / current_setting('block_size')::integer)::integer - 1) AS block
$$;
-- The row versions of a queue's table that say that they were replaced by, and that they are, one that is in no index.
CREATE FUNCTION hot_versions(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s by %s of %s', count(*) FILTER (WHERE t_infomask2 & 16384 <> 0), count(*) FILTER (WHERE t_infomask2 & 32768 <> 0),
		count(*))
	FROM pages(queue), heap_page_items(page) WHERE lp_flags = 1
$$;
-- The row versions that are deleted, and what of them says that they were replaced, too
CREATE FUNCTION deleted_versions(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s, %s replaced', count(*), count(*) FILTER (WHERE t_infomask2 & 16384 <> 0 OR t_ctid <> format('(%s,%s)', block, lp)::tid))
	FROM pages(queue), heap_page_items(page) WHERE lp_flags = 1 AND t_infomask2 & 8192 <> 0
$$;
-- Are the pages marked as visible to all?
CREATE FUNCTION all_visible(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT CASE WHEN flags & 4 <> 0 THEN 'yes' ELSE 'no' END, ', ') FROM pages(queue), page_header(page)
$$;
-- Vacuum a table until all that was committed is visible to all, which an older snapshot may delay.
CREATE FUNCTION vacuumed(queue text, command text = 'VACUUM') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		PERFORM dblink_exec('a', format('%s %s', command, queue_table(queue)));
		EXIT WHEN all_visible(queue) = 'yes';
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN all_visible(queue);
END $$;
-- The WAL records that a query writes.
CREATE FUNCTION wal_records(query text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
	plan json;
BEGIN
	EXECUTE 'EXPLAIN (ANALYZE, WAL, FORMAT JSON) ' || query INTO plan;
	RETURN plan -> 0 -> 'Plan' ->> 'WAL Records';
END $$;
CREATE TABLE got OF pigeon.message;

-- Receive, delete and pop
SELECT fill('q', 300);
INSERT INTO got SELECT * FROM pigeon.receive('q', 300, '1 hour');
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-300', 'every message is received once');
SELECT is((SELECT count(*) FROM got WHERE receive_count = 1 AND visible_at > now() + interval '59 minutes'), 300::bigint, 'with what a receive says');
SELECT is((SELECT count(*) FROM pigeon.peek('q', 1000) JOIN got USING (message_id, body, receive_count, first_received_at, visible_at)),
	300::bigint, 'which is what the table has');
SELECT is(received('q', 1000), NULL, 'none is received again');
SELECT is(flaws('q'), '', 'the table is whole after a receive');
SELECT is(answers(pigeon.change_visibility('q', ARRAY(SELECT receipt FROM got LIMIT 150), '2 hours')), '150 of 150', 'receipts are valid');
SELECT is(answers(pigeon.delete('q', ARRAY(SELECT receipt FROM got))), '300 of 300', 'all are deleted by their receipts');
SELECT is((SELECT count(*) FROM pigeon.peek('q', 1000)), 0::bigint, 'and gone');
SELECT is(flaws('q'), '', 'the table is whole after a delete');
SELECT fill('q', 300);
SELECT is(popped('q', 300), '1-300', 'every message is popped once');
SELECT is((SELECT count(*) FROM pigeon.peek('q', 1000)), 0::bigint, 'and gone');
SELECT is(flaws('q'), '', 'the table is whole after a pop');
TRUNCATE got;

-- Batches of all sizes, which begin and end anywhere on a page: 10 rows and more are changed together, a page has some 50,
-- and 128 are taken at once.
CREATE TABLE batches (n integer, receipts pigeon.receipt[]);
SELECT fill('sizes', 9870);
INSERT INTO batches SELECT n, ARRAY(SELECT receipt FROM pigeon.receive('sizes', n, '1 hour')) FROM generate_series(1, 140) AS n;
SELECT is((SELECT count(*) FROM batches WHERE cardinality(receipts) = n), 140::bigint, 'receives of 1 to 140');
SELECT is((SELECT count(DISTINCT receipt::text) FROM batches, unnest(receipts) AS receipt), 9870::bigint, 'no two of the same message');
SELECT is(received('sizes', 1), NULL, 'nothing is left');
SELECT is(flaws('sizes'), '', 'the table is whole after them');
SELECT is((SELECT count(*) FROM batches WHERE pigeon.delete('sizes', receipts) = array_fill(true, ARRAY[n])), 140::bigint, 'deletes of 1 to 140');
SELECT is((SELECT count(*) FROM pigeon.peek('sizes', 10000)), 0::bigint, 'all are deleted');
SELECT is(flaws('sizes'), '', 'the table is whole after them, too');
SELECT fill('sizes', 9870);
SELECT is((SELECT count(*) FROM generate_series(1, 140) AS n WHERE popped('sizes', n) = format('%s-%s', n * (n - 1) / 2 + 1, n * (n + 1) / 2)),
	140::bigint, 'pops of 1 to 140');
SELECT is(flaws('sizes'), '', 'the table is whole after pops');

-- New versions are in no index, and the WAL has few records, of the generic kind.
SELECT fill('hot', 300);
SELECT fill('indexed', 300);
SELECT format('CREATE INDEX ON %s (received_at)', queue_table('indexed')) \gexec
SELECT is(hot_versions('hot'), '0 by 0 of 300', 'what is sent is in all indexes');
SELECT is(received('hot', 300), '1-300', 'all is received');
SELECT is(hot_versions('hot'), CASE WHEN preloaded() THEN '300 by 300 of 600' ELSE '0 by 0 of 600' END, 'leases in place are in no index');
SELECT is((SELECT count(*) FROM pages('hot'), page_header(page) WHERE prune_xid = '0'), 0::bigint, 'pages say that there is something to prune');
SELECT is(received('indexed', 300), '1-300', 'all is received with an index on what changes');
SELECT is(hot_versions('indexed'), '0 by 0 of 600', 'where leases are in all indexes');
SELECT is(flaws('hot') || flaws('indexed'), '', 'both tables are whole');

-- The records of a receive, by kind
CREATE FUNCTION receive_records(queue text) RETURNS TABLE (generic bigint, heap bigint) LANGUAGE plpgsql AS $$
DECLARE
	start pg_lsn := pg_current_wal_insert_lsn();
	receiver xid;
BEGIN
	SELECT x INTO receiver FROM dblink('a', format('SELECT pg_current_xact_id()::xid FROM pigeon.receive(%L, 300)', queue)) AS t (x xid);
	-- A commit that is on disk, and everything before it, too.
	PERFORM dblink_exec('a', 'CREATE TABLE written (); DROP TABLE written');
	RETURN QUERY SELECT count(*) FILTER (WHERE resource_manager = 'Generic'), count(*) FILTER (WHERE resource_manager = 'Heap')
		FROM pg_get_wal_records_info(start, pg_current_wal_flush_lsn()) WHERE xid = receiver;
END $$;
SELECT fill('hot', 300);
SELECT fill('indexed', 300);
SELECT * FROM receive_records('hot') \gset hot_
SELECT * FROM receive_records('indexed') \gset indexed_
SELECT cmp_ok(:indexed_heap, '>=', 300, 'a record per row with an index on what changes');
SELECT CASE WHEN preloaded() THEN cmp_ok(:hot_heap, '<', 60, 'hardly a row has a record of its own')
	ELSE cmp_ok(:hot_heap, '>=', 300, 'a record per row if leases are not in place') END;
SELECT CASE WHEN preloaded() THEN ok(:hot_generic BETWEEN 6 AND 20, 'a generic record per page')
	ELSE pass('no leases in place without shared memory') END;

-- And their number
SELECT fill('hot', 300);
SELECT fill('indexed', 300);
CREATE TABLE records AS SELECT wal_records($$SELECT * FROM pigeon.receive('hot', 300)$$) AS hot,
	wal_records($$SELECT * FROM pigeon.receive('indexed', 300)$$) AS indexed;
SELECT cmp_ok(indexed, '>=', 300, 'a record per row and more with an index on what changes') FROM records;
SELECT CASE WHEN preloaded() THEN cmp_ok(hot, '<', 100, 'few records for a receive')
	ELSE cmp_ok(hot, '>=', 300, 'a record per row and more if leases are not in place') END FROM records;
SELECT fill('hot', 300);
SELECT cmp_ok(wal_records($$SELECT * FROM pigeon.pop('hot', 300)$$), '<', 100, 'few records for a pop');
SELECT fill('hot', 300);
INSERT INTO got SELECT * FROM pigeon.receive('hot', 300);
SELECT cmp_ok(wal_records($$SELECT pigeon.delete('hot', ARRAY(SELECT receipt FROM got))$$), '<', 100, 'few records for a delete');
SELECT is((SELECT count(*) FROM pigeon.peek('hot', 1000) JOIN got USING (message_id)), 0::bigint, 'of all of them');
SELECT is(flaws('hot') || flaws('indexed'), '', 'both tables are whole after all that');
TRUNCATE got;

-- Pages that are visible to all, or frozen
SELECT fill('visible', 300);
SELECT is(vacuumed('visible'), 'yes', 'pages are visible to all');
INSERT INTO got SELECT * FROM pigeon.receive('visible', 300);
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-300', 'all there is received');
SELECT is(all_visible('visible'), 'no', 'and they are not any more');
SELECT is(hot_versions('visible'), CASE WHEN preloaded() THEN '300 by 300 of 600' ELSE '0 by 0 of 600' END, 'leases are in place as ever');
SELECT is(flaws('visible'), '', 'the table is whole after that');
SELECT is(vacuumed('visible'), 'yes', 'pages of leases are visible to all');
SELECT is(answers(pigeon.delete('visible', ARRAY(SELECT receipt FROM got))), '300 of 300', 'all there is deleted');
SELECT is(all_visible('visible') || flaws('visible'), 'no', 'they are not any more, and the table is whole');
TRUNCATE got;
SELECT fill('frozen', 300);
SELECT is(vacuumed('frozen', 'VACUUM FREEZE'), 'yes', 'pages are frozen');
INSERT INTO got SELECT * FROM pigeon.receive('frozen', 300);
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-300', 'all on frozen pages is received');
SELECT is(flaws('frozen'), '', 'the table is whole after that');
SELECT is(vacuumed('frozen', 'VACUUM FREEZE'), 'yes', 'pages of leases are frozen');
SELECT is(answers(pigeon.delete('frozen', ARRAY(SELECT receipt FROM got))), '300 of 300', 'all on frozen pages is deleted');
SELECT is((SELECT count(*) FROM pigeon.peek('frozen', 1000)), 0::bigint, 'and gone');
SELECT fill('frozen', 300);
SELECT is(vacuumed('frozen', 'VACUUM FREEZE'), 'yes', 'pages with traces of deletes are frozen');
SELECT is(popped('frozen', 1000), '1-300', 'all on frozen pages is popped');
SELECT is(flaws('frozen'), '', 'the table is whole after that, too');
TRUNCATE got;

-- Rows that others hold, in the middle of a page and over its end, and traces of those who gave up
SELECT fill('held', 300);
SELECT min(message_id) AS first FROM pigeon.peek('held', 1000) \gset
SELECT dblink_exec('a', 'BEGIN');
SELECT dblink_exec('b', 'BEGIN');
SELECT dblink_exec('c', 'BEGIN');
SELECT is(x, '1-15', 'one receives some') FROM dblink('a', $$SELECT received('held', 15)$$) AS t (x text);
SELECT is(x, '16-35', 'the next others') FROM dblink('b', $$SELECT received('held', 20)$$) AS t (x text);
SELECT is(x, '36-60', 'a third pops some') FROM dblink('c', $$SELECT popped('held', 25)$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK; BEGIN; SAVEPOINT s');
SELECT is(x, '1-15 61-105', 'the first receives more, and those again that he gave up') FROM dblink('a', $$SELECT received('held', 60)$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK TO s');
SELECT is(x, '1-15 61-105', 'and pops them instead') FROM dblink('a', $$SELECT popped('held', 60)$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK TO s');
SELECT count(*) FROM unnest(ARRAY['a', 'b']) AS name,
	dblink(name, format('SELECT message_id FROM %s WHERE message_id - %s BETWEEN 110 AND 119 FOR SHARE', queue_table('held'), :first)) AS t (id bigint);
SELECT count(*) FROM dblink('a', format('SELECT message_id FROM %s WHERE message_id - %s BETWEEN 130 AND 139 FOR UPDATE', queue_table('held'), :first))
	AS t (id bigint);
INSERT INTO got SELECT * FROM pigeon.receive('held', 1000, '1 hour');
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-15 61-110 121-130 141-300', 'all that nobody holds is received');
SELECT is(received('held', 1000), NULL, 'the rest is not');
SELECT dblink_exec(name, 'ROLLBACK') FROM unnest(ARRAY['a', 'b', 'c']) AS name;
INSERT INTO got SELECT * FROM pigeon.receive('held', 1000, '1 hour');
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-300', 'until it is given up');
SELECT is(flaws('held'), '', 'the table is whole after that');

-- Deletes that were given up
SELECT dblink_exec('a', 'BEGIN');
SELECT is(x, '60 of 60', 'a delete that is to be rolled back')
	FROM dblink('a', $$SELECT answers(pigeon.delete('held', (SELECT array_agg(receipt) FROM got WHERE substr(body, 2)::integer BETWEEN 21 AND 80)))$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK; BEGIN; SAVEPOINT s');
SELECT is(x, '60 of 60', 'one of a subtransaction')
	FROM dblink('a', $$SELECT answers(pigeon.delete('held', (SELECT array_agg(receipt) FROM got WHERE substr(body, 2)::integer BETWEEN 61 AND 120)))$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK TO s');
SELECT is(answers(pigeon.delete('held', ARRAY(SELECT receipt FROM got))), '300 of 300', 'a delete goes over their traces');
SELECT dblink_exec('a', 'COMMIT');
SELECT is((SELECT count(*) FROM pigeon.peek('held', 1000)), 0::bigint, 'all are gone');
SELECT is(flaws('held'), '', 'the table is whole after that, too');
TRUNCATE got;

-- A delete by receipts that are no longer the last, while others receive
SELECT fill('held', 300);
INSERT INTO got SELECT * FROM pigeon.receive('held', 300, '0');
SELECT dblink_exec('a', 'BEGIN');
SELECT dblink_exec('b', 'BEGIN');
SELECT is(x, '1-15', 'some are received again') FROM dblink('a', $$SELECT received('held', 15)$$) AS t (x text);
SELECT is(x, '16-75', 'and more') FROM dblink('b', $$SELECT received('held', 60)$$) AS t (x text);
SELECT dblink_exec('a', 'ROLLBACK');
CREATE TABLE answered AS SELECT answer, body FROM (SELECT array_agg(receipt ORDER BY message_id) AS receipts, array_agg(body ORDER BY message_id) AS bodies FROM got) AS g,
	unnest(bodies, pigeon.delete('held', receipts)) AS t (body, answer);
SELECT is((SELECT ranges(array_agg(body ORDER BY substr(body, 2)::integer)) FROM answered WHERE answer), '1-15 76-300', 'all that nobody receives is deleted');
SELECT is(received('held', 1000), NULL, 'nothing is left that is free');
SELECT dblink_exec('b', 'ROLLBACK');
SELECT is(popped('held', 1000), '16-75', 'what was held comes back');
SELECT is(flaws('held'), '', 'the table is whole');
TRUNCATE got;

-- A delete waits for who has locked rows with SQL, having deleted what comes before; locks of its own are not in the way.
SELECT fill('held', 300);
INSERT INTO got SELECT * FROM pigeon.receive('held', 300);
SELECT dblink_exec('a', 'BEGIN');
SELECT count(*) FROM dblink('a', format('SELECT message_id FROM %s WHERE message_id IN (SELECT message_id FROM got WHERE body IN (''m110'', ''m120'')) FOR SHARE',
	queue_table('held'))) AS t (id bigint);
SELECT is(dblink_send_query('b', $$SELECT answers(pigeon.delete('held', (SELECT array_agg(receipt) FROM got)))$$), 1, 'a delete of locked rows');
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		EXIT WHEN EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database());
		PERFORM pg_sleep(0.01);
	END LOOP;
END
$$;
SELECT is(x, '180 of 180', 'waits, having deleted nothing behind them')
	FROM dblink('a', $$SELECT answers(pigeon.delete('held', (SELECT array_agg(receipt) FROM got WHERE substr(body, 2)::integer > 120)))$$) AS t (x text);
SELECT dblink_exec('a', 'COMMIT');
SELECT is(x, '120 of 300', 'and then goes on') FROM dblink_get_result('b') AS t (x text);
SELECT is((SELECT count(*) FROM dblink_get_result('b') AS t (x text)), 0::bigint, 'to the end');
SELECT is((SELECT count(*) FROM pigeon.peek('held', 1000)), 0::bigint, 'nothing is left');
TRUNCATE got;
SELECT fill('held', 300);
INSERT INTO got SELECT * FROM pigeon.receive('held', 300);
BEGIN;
SELECT format('SELECT count(*) FROM (SELECT FROM %s FOR UPDATE) AS locked', queue_table('held')) \gexec
SELECT is(answers(pigeon.delete('held', ARRAY(SELECT receipt FROM got))), '300 of 300', 'its own locks are not in the way');
COMMIT;
SELECT is(flaws('held'), '', 'the table is whole after that');
TRUNCATE got;

-- A pop among others, and a prepared transaction
SELECT fill('held', 300);
SELECT dblink_exec('a', 'BEGIN');
SELECT dblink_exec('b', 'BEGIN');
SELECT is(x, '1-15', 'one pops some') FROM dblink('a', $$SELECT popped('held', 15)$$) AS t (x text);
SELECT is(x, '16-75', 'another receives some') FROM dblink('b', $$SELECT received('held', 60)$$) AS t (x text);
SELECT dblink_exec('b', $$PREPARE TRANSACTION 'page_change'$$);
SELECT dblink_exec('a', 'ROLLBACK');
SELECT is(popped('held', 1000), '1-15 76-300', 'all that nobody holds is popped');
ROLLBACK PREPARED 'page_change';
SELECT is(popped('held', 1000), '16-75', 'the rest after a prepared transaction was rolled back');
SELECT is(flaws('held'), '', 'the table is whole after pops');

-- Deletes of what says that it was replaced
SELECT fill('traces', 300);
BEGIN;
SELECT received('traces', 300);
ROLLBACK;
BEGIN;
SELECT is(popped('traces', 300), '1-300', 'a pop after a receive that was rolled back');
SELECT is(deleted_versions('traces'), '300, 0 replaced', 'forgets the leases there were');
COMMIT;

-- Traces that fill the pages
SELECT fill('full', 300);
DO $$ BEGIN
	FOR i IN 1 .. 10 LOOP
		BEGIN
			PERFORM pigeon.receive('full', 300);
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
		END;
	END LOOP;
END $$;
SELECT is(received('full', 1000), '1-300', 'all is received from pages without room');
SELECT is(flaws('full'), '', 'the table is whole');

-- Inside one transaction
SELECT fill('own', 300);
BEGIN;
SELECT is(answers(pigeon.delete('own', ARRAY(SELECT receipt FROM pigeon.receive('own', 100)))), '100 of 100', 'what a transaction received it deletes');
INSERT INTO got SELECT * FROM pigeon.receive('own', 100);
SAVEPOINT s;
SELECT is(answers(pigeon.delete('own', ARRAY(SELECT receipt FROM got))), '100 of 100', 'also later');
SELECT is(popped('own', 1000), '201-300', 'the rest it pops');
ROLLBACK TO s;
SELECT is(popped('own', 1000), '201-300', 'and again, once that is undone');
SELECT is(answers(pigeon.delete('own', ARRAY(SELECT receipt FROM got))), '100 of 100', 'the delete, too');
ROLLBACK;
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.peek('own', 1000) WHERE receive_count = 0), '1-300', 'a rollback undoes it all');
SELECT is(flaws('own'), '', 'the table is whole');
BEGIN;
INSERT INTO got SELECT * FROM pigeon.receive('own', 100);
SAVEPOINT s;
SELECT pigeon.receive('own', 100);
SELECT pigeon.delete('own', ARRAY(SELECT receipt FROM got));
ROLLBACK TO s;
SELECT answers(pigeon.delete('own', ARRAY(SELECT receipt FROM got ORDER BY message_id LIMIT 50)));
COMMIT;
SELECT is(received('own', 1000), '101-300', 'what is committed after a savepoint was undone is not received again');
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.peek('own', 1000)), '51-300', 'what it deleted is gone');
SELECT is(answers(pigeon.delete('own', ARRAY(SELECT receipt FROM got))), '50 of 100', 'the rest is deleted later');
SELECT is(flaws('own'), '', 'the table is whole after that');
TRUNCATE got;

-- A cursor sees what was there when it was opened.
CREATE FUNCTION rest(c refcursor) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	receive_count integer;
	rows integer := 0;
	leases integer := 0;
BEGIN
	LOOP
		FETCH c INTO receive_count;
		EXIT WHEN NOT FOUND;
		rows := rows + 1;
		leases := leases + coalesce(receive_count, 0);
	END LOOP;
	RETURN rows || ' with ' || leases || ' leases';
END $$;
SELECT fill('cursor', 300);
BEGIN;
INSERT INTO got SELECT * FROM pigeon.receive('cursor', 100);
SELECT format('DECLARE c CURSOR FOR SELECT receive_count FROM %s', queue_table('cursor')) \gexec
SELECT is(answers(pigeon.delete('cursor', ARRAY(SELECT receipt FROM got))), '100 of 100', 'a delete while a cursor is open');
SELECT is(popped('cursor', 100), '101-200', 'a pop');
SELECT is(received('cursor', 100), '201-300', 'a receive');
SELECT is(rest('c'), '300 with 100 leases', 'are not seen by it');
COMMIT;
SELECT is(flaws('cursor'), '', 'the table is whole');
TRUNCATE got;

-- The answers of deletes, each in its place: receipts in reverse order, known ones, and the same twice
CREATE FUNCTION deleted(first integer, last integer) RETURNS boolean[] LANGUAGE sql AS $$
	SELECT pigeon.delete('answers', ARRAY(SELECT receipt FROM got WHERE substr(body, 2)::integer BETWEEN first AND last ORDER BY message_id DESC))
$$;
SELECT fill('answers', 300);
INSERT INTO got SELECT * FROM pigeon.receive('answers', 300);
SELECT is(deleted(31, 130), array_fill(true, ARRAY[100]), 'receipts in reverse order');
SELECT is(deleted(31, 130), array_fill(false, ARRAY[100]), 'which are deleted once');
SELECT is(deleted(1, 200), array_fill(true, ARRAY[70]) || array_fill(false, ARRAY[100]) || array_fill(true, ARRAY[30]), 'receipts around those');
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.peek('answers', 1000)), '201-300', 'all others are there');
SELECT is(answers(pigeon.delete('answers', ARRAY(SELECT receipt FROM got WHERE substr(body, 2)::integer % 3 = 0))), '34 of 100', 'every third is deleted');
SELECT is((SELECT array_agg(answer ORDER BY n) FROM unnest(deleted(201, 300)) WITH ORDINALITY AS t (answer, n)),
	(SELECT array_agg(i % 3 <> 0 ORDER BY i DESC) FROM generate_series(201, 300) AS i), 'those between them are left');
TRUNCATE got;
SELECT fill('answers', 300);
INSERT INTO got SELECT * FROM pigeon.receive('answers', 300);
SELECT is(deleted(41, 60), array_fill(true, ARRAY[20]), 'some are deleted before');
TRUNCATE answered;
INSERT INTO answered SELECT answer, body
	FROM (SELECT array_agg(receipt ORDER BY place) AS receipts, array_agg(body ORDER BY place) AS bodies
		FROM (SELECT receipt, body, random() AS place FROM got, generate_series(1, 3)) AS thrice) AS g,
	unnest(bodies, pigeon.delete('answers', receipts)) AS t (body, answer);
SELECT is((SELECT string_agg(format('%s of %s are deleted %s times', bodies, copies, times), ', ' ORDER BY times)
	FROM (SELECT times, count(*) AS bodies, sum(copies) AS copies
		FROM (SELECT body, count(*) AS copies, count(*) FILTER (WHERE answer) AS times FROM answered GROUP BY body) AS b GROUP BY times) AS t),
	'20 of 60 are deleted 0 times, 280 of 840 are deleted 1 times', 'the same receipts again and again, in any order');
SELECT is((SELECT count(*) FROM pigeon.peek('answers', 1000)), 0::bigint, 'nothing is left');
SELECT is(flaws('answers'), '', 'the table is whole');
TRUNCATE got;

-- Indexes that the owner added: on what does not change, on what is only stored with the key, unique ones
SELECT fill(name, 300) FROM unnest(ARRAY['same', 'stored', 'unique', 'refusing']) AS name;
SELECT format('CREATE INDEX ON %s (enqueued_at, log_key)', queue_table('same')) \gexec
SELECT format('CREATE INDEX ON %s (log_key) INCLUDE (visible_at)', queue_table('stored')) \gexec
SELECT format('CREATE UNIQUE INDEX "unique" ON %s (received_at, message_id)', queue_table('unique')) \gexec
SELECT format('CREATE UNIQUE INDEX refusing ON %s (received_at)', queue_table('refusing')) \gexec
SELECT is(received('same', 1000), '1-300', 'an index on what does not change');
SELECT is(hot_versions('same'), CASE WHEN preloaded() THEN '300 by 300 of 600' ELSE '0 by 0 of 600' END, 'keeps no lease from its place');
SELECT is(received('stored', 1000), '1-300', 'an index that has what changes beside its key');
SELECT is(hot_versions('stored'), '0 by 0 of 600', 'gets all of it');
INSERT INTO got SELECT * FROM pigeon.receive('unique', 1000);
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM got), '1-300', 'a unique index on what changes');
SELECT is(hot_versions('unique'), '0 by 0 of 600', 'gets all of it, too');
SELECT is(answers(pigeon.delete('unique', ARRAY(SELECT receipt FROM got))), '300 of 300', 'and is in no delete''s way');
SELECT is(table_flaws('unique'), '', 'the table is whole');
DROP INDEX pigeon."unique";
SELECT throws_ok($$SELECT pigeon.receive('refusing', 20)$$, '23505', NULL, 'a unique index refuses equal keys');
SELECT is(received('refusing', 1), '1-1', 'and no others');
DROP INDEX pigeon.refusing;
SELECT is(received('refusing', 1000), '2-300', 'without it all is received');
SELECT is(concat(flaws('same'), flaws('stored'), flaws('unique'), flaws('refusing')), '', 'the tables are whole');
TRUNCATE got;

-- Serializable: of two transactions each of which changes what the other has read, one fails.
CREATE TABLE other (x integer);
CREATE FUNCTION skew(queue text, query text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM dblink_exec(name, 'BEGIN ISOLATION LEVEL SERIALIZABLE') FROM unnest(ARRAY['a', 'b']) AS name;
	PERFORM FROM dblink('a', format('SELECT count(*) FROM %s', queue_table(queue))) AS t (n bigint);
	PERFORM FROM dblink('b', 'SELECT count(*) FROM other') AS t (n bigint);
	PERFORM FROM dblink('b', query) AS t (x text);
	PERFORM dblink_exec('a', 'INSERT INTO other VALUES (1)');
	PERFORM dblink_exec('a', 'COMMIT');
	PERFORM dblink_exec('b', 'COMMIT');
	RETURN 'committed';
EXCEPTION WHEN OTHERS THEN
	PERFORM dblink_exec(name, 'ROLLBACK') FROM unnest(ARRAY['a', 'b']) AS name;
	RETURN SQLSTATE;
END $$;
SELECT fill('serial', 300);
INSERT INTO got SELECT * FROM pigeon.receive('serial', 20);
SELECT is(skew('serial', 'SELECT 1'), 'committed', 'a serializable transaction that changes nothing');
SELECT is(skew('serial', $$SELECT received('serial', 20)$$), '40001', 'one that receives what another has read');
SELECT is(skew('serial', $$SELECT answers(pigeon.delete('serial', ARRAY(SELECT receipt FROM got)))$$), '40001', 'one that deletes it');
SELECT is(skew('serial', $$SELECT popped('serial', 20)$$), '40001', 'one that pops it');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT is(answers(pigeon.delete('serial', ARRAY(SELECT receipt FROM got))), '20 of 20', 'a serializable delete');
SELECT is(received('serial', 100), '21-120', 'a serializable receive');
SELECT is(popped('serial', 1000), '121-300', 'a serializable pop');
COMMIT;
SELECT is((SELECT ranges(array_agg(body ORDER BY message_id)) FROM pigeon.peek('serial', 1000)), '21-120', 'are committed');
SELECT is(flaws('serial'), '', 'the table is whole');
TRUNCATE got;

-- Repeatable read: receivers take what is committed now, readers see what was there.
CREATE FUNCTION seen(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	EXECUTE format('SELECT count(*) || '' with '' || count(receive_count) || '' leases'' FROM %s', queue_table(name)) INTO seen;
	RETURN seen;
END $$;
SELECT fill('repeatable', 200);
SELECT dblink_exec('a', 'BEGIN ISOLATION LEVEL REPEATABLE READ');
SELECT is(x, '200 with 0 leases', 'a snapshot is taken') FROM dblink('a', $$SELECT seen('repeatable')$$) AS t (x text);
SELECT fill('repeatable', 100);
INSERT INTO got SELECT * FROM pigeon.receive('repeatable', 150);
SELECT is(answers(pigeon.delete('repeatable', ARRAY(SELECT receipt FROM got LIMIT 75))), '75 of 75', 'others receive and delete');
SELECT is(x, '200 with 0 leases', 'which it does not see') FROM dblink('a', $$SELECT seen('repeatable')$$) AS t (x text);
SELECT is(x, '151-200 1-100', 'a receive takes what they left, and what was sent since') FROM dblink('a', $$SELECT received('repeatable', 1000)$$) AS t (x text);
SELECT is(x, '75 of 150', 'a delete what it was not told of')
	FROM dblink('a', format('SELECT answers(pigeon.delete(%L, %L::pigeon.receipt[]))', 'repeatable', (SELECT array_agg(receipt) FROM got))) AS t (x text);
SELECT dblink_exec('a', 'COMMIT');
SELECT is(seen('repeatable'), '150 with 150 leases', 'both are committed');
SELECT is(flaws('repeatable'), '', 'the table is whole');
TRUNCATE got;

-- Tables that are rewritten between a receive and a delete
SELECT fill('rewritten', 300);
INSERT INTO got SELECT * FROM pigeon.receive('rewritten', 300);
SELECT format('VACUUM FULL %s', queue_table('rewritten')) \gexec
SELECT is(answers(pigeon.delete('rewritten', ARRAY(SELECT receipt FROM got LIMIT 100))), '100 of 100', 'deletes after VACUUM FULL');
SELECT is(flaws('rewritten'), '', 'the table is whole');
SELECT format('CLUSTER %s USING %I', indrelid::regclass, relname) FROM pg_index JOIN pg_class ON oid = indexrelid
	WHERE indrelid = queue_table('rewritten') AND relname LIKE '%due' \gexec
SELECT is(answers(pigeon.delete('rewritten', ARRAY(SELECT receipt FROM got))), '200 of 300', 'deletes after CLUSTER');
SELECT is(flaws('rewritten'), '', 'the table is whole');
SELECT fill('rewritten', 300);
SELECT format('ALTER TABLE %s SET UNLOGGED', queue_table('rewritten')) \gexec
SELECT is(received('rewritten', 100), '1-100', 'receives from a table without WAL');
SELECT is(popped('rewritten', 1000), '101-300', 'pops from it');
SELECT is(flaws('rewritten'), '', 'the table is whole');
TRUNCATE got;

-- A FIFO queue, whose rows get longer when they are received again, with more indexes
SELECT pigeon.create_queue('ordered', fifo => true, visibility_timeout => '1 hour');
SELECT format('CREATE INDEX ON %s (source); CREATE INDEX ON %1$s (subscription)', queue_table('ordered')) \gexec
SELECT pigeon.send_batch('ordered', ARRAY['m1', 'm2', 'm3'], group_ids => '{g,g,h}', deduplication_ids => '{1,2,3}');
SELECT is(received('ordered', 10, '0'), '1-3', 'messages of groups are received');
SELECT is(received('ordered', 10), '1-3', 'and again');
SELECT is(flaws('ordered'), '', 'indexes on what was null are complete');
SET enable_seqscan = off;
SELECT format('SELECT count(*) AS found FROM %s WHERE source = 0', queue_table('ordered')) AS query \gset
:query \gset
SELECT is(:found, 3, 'and find all');
RESET enable_seqscan;

-- An index that cannot be maintained is refused, even where nothing else would be looked for in an index.
SELECT fill('refused', 20);
SELECT is(received('refused', 1), '1-1', 'a receive that leaves candidates to others');
SELECT format('CREATE INDEX brin ON %s USING brin (received_at)', queue_table('refused')) \gexec
SELECT throws_ok($$SELECT received('refused', 1)$$, '55000', NULL, 'an index on what a receive changes');
DROP INDEX pigeon.brin;
SELECT format('CREATE INDEX whole ON pigeon.%s (message_id) WHERE %1$s IS DISTINCT FROM NULL', relname)
FROM pg_class WHERE oid = queue_table('refused') \gexec
SELECT throws_ok($$SELECT received('refused', 1)$$, '55000', NULL, 'one with a predicate on all columns');
DROP INDEX pigeon.whole;
SELECT is((SELECT count(*) FROM pigeon.receive('refused', 20)), 19::bigint, 'without them it goes on');

-- Counters
CREATE FUNCTION changes(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s updated, %s of them HOT, %s deleted, %s left', n_tup_upd, n_tup_hot_upd, n_tup_del, n_live_tup)
	FROM pg_stat_user_tables WHERE relid = queue_table(queue)
$$;
CREATE FUNCTION hot(n integer) RETURNS integer LANGUAGE sql AS $$ SELECT CASE WHEN preloaded() THEN n ELSE 0 END $$;
SELECT fill('counted', 600);
INSERT INTO got SELECT * FROM pigeon.receive('counted', 300);
SELECT pg_stat_force_next_flush();
SELECT is(changes('counted'), format('300 updated, %s of them HOT, 0 deleted, 600 left', hot(300)), 'a receive is counted');
SELECT answers(pigeon.delete('counted', ARRAY(SELECT receipt FROM got LIMIT 200)));
SELECT pg_stat_force_next_flush();
SELECT is(changes('counted'), format('300 updated, %s of them HOT, 200 deleted, 400 left', hot(300)), 'so is a delete');
SELECT popped('counted', 200);
SELECT pg_stat_force_next_flush();
SELECT is(changes('counted'), format('300 updated, %s of them HOT, 400 deleted, 200 left', hot(300)), 'so is a pop');
BEGIN;
SELECT received('counted', 50);
SELECT popped('counted', 50);
SELECT answers(pigeon.delete('counted', ARRAY(SELECT receipt FROM got)));
ROLLBACK;
SELECT pg_stat_force_next_flush();
SELECT is(changes('counted'), format('350 updated, %s of them HOT, 550 deleted, 200 left', hot(350)), 'and what is rolled back');
SELECT * FROM finish();
