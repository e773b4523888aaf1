-- publish_changes: what is published of a table's changes, and by whose rights.
BEGIN;
SELECT plan(85);
SELECT pigeon.create_topic('changes'), pigeon.create_queue('q');
SELECT pigeon.subscribe('changes', 'q');
CREATE TABLE orders (id int PRIMARY KEY, customer text, status text, total numeric, note text DEFAULT 'n');

-- The changes that have been published since the last call, without what differs each time
CREATE FUNCTION changes() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s -> %s', body::jsonb->>'operation', body::jsonb->>'old', body::jsonb->>'new') FROM pigeon.pop('q', 1000) $$;

-- Every event, all columns
SELECT lives_ok($$SELECT pigeon.publish_changes('orders', 'changes', events => 'INSERT, update,delete , truncate')$$, 'publish_changes');
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes')$$, '42710', 'changes of table "orders" are already published to topic "changes"', 'twice');
INSERT INTO orders VALUES (1, 'anna', 'new', 10.50);
SELECT is((SELECT array_agg(key ORDER BY ordinality) FROM pigeon.peek('q'), json_object_keys(body::json) WITH ORDINALITY AS k (key)),
	'{schema,table,operation,time,transaction_id,old,new}', 'the shape of a message');
SELECT results_eq($$SELECT body::jsonb - 'time' - 'new', attributes, topic, sender FROM pigeon.peek('q')$$,
	$$VALUES (jsonb_build_object('schema', 'public', 'table', 'orders', 'operation', 'insert', 'transaction_id', pg_current_xact_id()::text::bigint, 'old', NULL),
	'{"schema": "public", "table": "orders", "operation": "insert"}'::jsonb, 'changes', current_user::name)$$, 'what is in it');
SELECT ok((SELECT (body::jsonb->>'time')::timestamptz BETWEEN now() AND clock_timestamp() AND body::jsonb->>'time' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$' FROM pigeon.peek('q')),
	'time is that of the change, in UTC');
SELECT results_eq($$SELECT changes()$$, $$VALUES ('insert  -> {"id": 1, "note": "n", "total": 10.50, "status": "new", "customer": "anna"}')$$, 'insert');
UPDATE orders SET status = 'paid', note = E'a "quote"\nand \\';
SELECT results_eq($$SELECT changes()$$, $$VALUES ('update {"id": 1, "note": "n", "total": 10.50, "status": "new", "customer": "anna"}'
	' -> {"id": 1, "note": "a \"quote\"\nand \\", "total": 10.50, "status": "paid", "customer": "anna"}')$$, 'update, before and after');
INSERT INTO orders VALUES (1, 'x', 'y', 1) ON CONFLICT (id) DO UPDATE SET note = NULL;
SELECT is((SELECT string_agg(left(c, 6), ',') FROM changes() AS c), 'update', 'insert on conflict is an update');
DELETE FROM orders;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('delete {"id": 1, "note": null, "total": 10.50, "status": "paid", "customer": "anna"} -> ')$$, 'delete');
TRUNCATE orders;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('truncate  -> ')$$, 'truncate');
COPY orders (id, note) FROM STDIN;
1	x
2	y
\.
SELECT is((SELECT count(*) FROM changes()), 2::bigint, 'COPY');
SAVEPOINT s;
UPDATE orders SET note = 'never';
ROLLBACK TO s;
SELECT is_empty('SELECT changes()', 'what is rolled back is not published');
SELECT is(pigeon.stop_publishing_changes('orders', 'changes'), true, 'stop_publishing_changes');
SELECT is(pigeon.stop_publishing_changes('orders', 'changes'), false, 'again');
DELETE FROM orders;
SELECT is_empty('SELECT changes()', 'it has stopped');

-- Columns
SELECT pigeon.publish_changes('orders', 'changes', columns => '{status,id}');
INSERT INTO orders VALUES (1, 'anna', 'new', 10.50);
UPDATE orders SET note = 'x', total = 0;
UPDATE orders SET status = status;
UPDATE orders SET status = 'paid';
UPDATE orders SET status = NULL;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('insert  -> {"id": 1, "status": "new"}'), ('update {"id": 1, "status": "new"} -> {"id": 1, "status": "paid"}'),
	('update {"id": 1, "status": "paid"} -> {"id": 1, "status": null}')$$, 'columns limit which updates count and what is shown');
CREATE TABLE wide (id int, body text);
SELECT pigeon.publish_changes('wide', 'changes', columns => '{body}');
INSERT INTO wide SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n;
SELECT pigeon.purge_queue('q');
UPDATE wide SET id = 2;
UPDATE wide SET body = body || '';
SELECT is_empty('SELECT changes()', 'a large value that is the same has not changed');
UPDATE wide SET body = body || 'x';
SELECT is((SELECT count(*) FROM changes()), 1::bigint, 'one that is another has');
ALTER TABLE orders RENAME status TO state;
SELECT throws_ok($$UPDATE orders SET state = 'x'$$, '42703', 'column "status" of relation "orders" does not exist', 'a chosen column that is renamed is an error');
ALTER TABLE orders RENAME state TO status;
ALTER TABLE orders RENAME TO orders2;
ALTER TABLE orders2 DROP note;
UPDATE orders2 SET status = 'y';
SELECT is((SELECT body::jsonb->>'table' FROM pigeon.pop('q')), 'orders2', 'a table may be renamed');
ALTER TABLE orders2 RENAME TO orders;
SELECT pigeon.stop_publishing_changes('orders', 'changes');

-- Conditions
SELECT pigeon.publish_changes('orders', 'changes', columns => '{id,status}', condition => $$NEW.status = 'paid' OR old . "total" > 100$$);
TRUNCATE orders;
INSERT INTO orders VALUES (1, 'a', 'new', 10), (2, 'a', 'paid', 10), (3, 'a', 'new', 1000);
UPDATE orders SET status = 'paid' WHERE id = 1;
UPDATE orders SET status = 'sent' WHERE id IN (1, 3);
DELETE FROM orders;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('insert  -> {"id": 2, "status": "paid"}'), ('update {"id": 1, "status": "new"} -> {"id": 1, "status": "paid"}'),
	('update {"id": 3, "status": "new"} -> {"id": 3, "status": "sent"}'), ('delete {"id": 3, "status": "sent"} -> ')$$, 'a condition; a row that the event lacks is null');
SELECT pigeon.stop_publishing_changes('orders', 'changes');
CREATE SCHEMA app;
CREATE FUNCTION app.interesting(orders) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.total > 5';
SET LOCAL search_path = app, public;
SELECT pigeon.publish_changes('orders', 'changes', columns => '{id}', condition => $$interesting(NEW) -- what the caller calls so
$$);
RESET search_path;
SET LOCAL search_path = public, pg_catalog;
CREATE FUNCTION interesting(orders) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
INSERT INTO orders VALUES (1, 'a', 'b', 4), (2, 'a', 'b', 6);
DELETE FROM orders;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('insert  -> {"id": 2}')$$, 'functions are those of the caller''s search_path, for ever');
SELECT pigeon.stop_publishing_changes('orders', 'changes');
SELECT pigeon.publish_changes('orders', 'changes', events => 'insert,truncate', condition => 'false');
INSERT INTO orders VALUES (1);
TRUNCATE orders;
SELECT results_eq($$SELECT changes()$$, $$VALUES ('truncate  -> ')$$, 'a truncate has no rows for a condition');
SELECT pigeon.stop_publishing_changes('orders', 'changes');
SELECT throws_ok(format($$SELECT pigeon.publish_changes('orders', 'changes', condition => %L)$$, condition), code, NULL, 'refused: ' || condition)
FROM (VALUES ('true) EXECUTE FUNCTION evil(); DROP TABLE orders; --', '42601'), ('true) EXECUTE FUNCTION pigeon.publish_change(''x'', '''') --', '42601'),
	('true), (true', '42601'), ('true) FROM orders WHERE (true', '42601'), ('true) LIMIT (1', '42601'), ('true) UNION SELECT (true', '42601'),
	('true); SELECT (true', '42601'), ('true /*', '42601'), ('', '42601'), ('NEW.nothing', '42703'), ('nothing', '42703'), ('other.id = 1', '42P01'), ('NEW.id', '42804'),
	('EXISTS (SELECT)', '0A000'), ('OLD/**/.id = 1', '0A000'), ('count(*) = 1', '42803')) AS bad (condition, code);
SELECT is_empty($$SELECT FROM pg_trigger WHERE tgrelid = 'orders'::regclass$$, 'what is refused leaves nothing');

-- Bad arguments
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes', events => 'insert,fly')$$, '22023', 'unknown event "fly"', 'an unknown event');
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes', events => '')$$, '22023', NULL, 'no event');
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes', columns => '{id,nothing}')$$, '42703', NULL, 'an unknown column');
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes', columns => '{}')$$, '22023', NULL, 'no column');
-- The group of a change does not depend on how a session writes values.
CREATE TABLE times (day date, t timestamptz, b bytea, i interval, f float8);
SELECT pigeon.create_topic('times'), pigeon.create_queue('times');
SELECT pigeon.subscribe('times', 'times');
CREATE FUNCTION groups_by(name text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	PERFORM pigeon.publish_changes('times', 'times', group_by => name);
	SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL TimeZone = 'UTC'; SET LOCAL bytea_output = 'hex'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL extra_float_digits = 1;
	INSERT INTO times VALUES ('2026-01-31', '2026-01-31 12:00+00', 'ab', '1 day 1 hour', 0.1::float8 + 0.2::float8);
	SET LOCAL DateStyle = 'SQL, DMY'; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL bytea_output = 'escape'; SET LOCAL IntervalStyle = 'iso_8601'; SET LOCAL extra_float_digits = -15;
	INSERT INTO times TABLE times;
	SELECT count(DISTINCT group_id) INTO n FROM pigeon.pop('times', 10) HAVING count(*) = 2;
	PERFORM pigeon.stop_publishing_changes('times', 'times');
	DELETE FROM times;
	RETURN n;
END $$;
SELECT is(groups_by(attname), 1::bigint, 'one group in every session: ' || attname) FROM pg_attribute WHERE attrelid = 'times'::regclass AND attnum > 0;
RESET DateStyle; RESET TimeZone; RESET bytea_output; RESET IntervalStyle; RESET extra_float_digits;
-- A generated column that is not stored is not known to triggers.
SELECT current_setting('server_version_num')::integer >= 180000 AS has_virtual \gset
\if :has_virtual
CREATE TABLE virtual (a integer PRIMARY KEY, b integer GENERATED ALWAYS AS (a + 1) VIRTUAL, c integer GENERATED ALWAYS AS (a + 2) STORED);
SELECT throws_ok($$SELECT pigeon.publish_changes('virtual', 'times', columns => '{b}')$$, '0A000', NULL, 'a virtual generated column cannot be published');
SELECT throws_ok($$SELECT pigeon.publish_changes('virtual', 'times', group_by => 'b')$$, '0A000', NULL, 'nor grouped by');
SELECT pigeon.publish_changes('virtual', 'times');
INSERT INTO virtual VALUES (1);
UPDATE virtual SET a = a;
SELECT is((SELECT string_agg(body::jsonb ->> 'new', ', ' ORDER BY message_id) FROM pigeon.pop('times', 10)), '{"a": 1, "c": 3}, {"a": 1, "c": 3}',
	'it is left out, and each update is published');
\else
SELECT skip('there are no virtual generated columns', 3);
\endif
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes', group_by => 'nothing')$$, '42703', NULL, 'an unknown column to group by');
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'nothing')$$, '42704', NULL, 'an unknown topic');
SELECT throws_ok($$SELECT pigeon.publish_changes('pg_views', 'changes')$$, '42809', NULL, 'a view');
SELECT throws_ok($$SELECT pigeon.publish_changes('pigeon.queue', 'changes')$$, '22023', NULL, 'a table of pigeon');

-- Names that need quotes, groups, partitions
CREATE TABLE "Odd ""Table" (id int, "a ""b'c" text);
SELECT pigeon.publish_changes('"Odd ""Table"', 'changes', columns => ARRAY['a "b''c'], condition => $$NEW."a ""b'c" = 'it''s' OR OLD."a ""b'c" IS NOT NULL$$, group_by => 'a "b''c');
INSERT INTO "Odd ""Table" VALUES (1, 'it''s'), (2, 'not');
SELECT results_eq($$SELECT body::jsonb->>'table', body::jsonb->'new', group_id FROM pigeon.pop('q', 10)$$, $$VALUES ('Odd "Table', '{"a \"b''c": "it''s"}'::jsonb, 'it''s')$$, 'names with quotes');
CREATE TABLE part (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (0) TO (10);
SELECT pigeon.publish_changes('part', 'changes', events => 'insert,update,delete,truncate');
CREATE TABLE part2 (extra int, v text, id int);
ALTER TABLE part2 DROP extra;
ALTER TABLE part ATTACH PARTITION part2 FOR VALUES FROM (10) TO (20);
INSERT INTO part VALUES (1, 'a'), (11, 'b');
INSERT INTO part2 (id, v) VALUES (12, 'c');
UPDATE part SET v = 'd' WHERE id = 12;
UPDATE part SET id = 2 WHERE id = 12;
TRUNCATE part;
SELECT is((SELECT array_agg(DISTINCT body::jsonb->>'table') FROM pigeon.peek('q')), '{part}', 'a partition''s changes are those of its table');
SELECT results_eq($$SELECT changes()$$, $$VALUES ('insert  -> {"v": "a", "id": 1}'), ('insert  -> {"v": "b", "id": 11}'), ('insert  -> {"v": "c", "id": 12}'),
	('update {"v": "c", "id": 12} -> {"v": "d", "id": 12}'), ('delete {"v": "d", "id": 12} -> '), ('insert  -> {"v": "d", "id": 2}'), ('truncate  -> ')$$, 'partitions');

-- Under logical replication apply
SELECT pigeon.publish_changes('wide', 'changes', include_replicated => true) FROM pigeon.stop_publishing_changes('wide', 'changes');
SELECT pigeon.publish_changes('orders', 'changes');
SET LOCAL session_replication_role = replica;
INSERT INTO wide VALUES (1);
INSERT INTO orders VALUES (1);
RESET session_replication_role;
SELECT is((SELECT string_agg(body::jsonb->>'table', ',') FROM pigeon.pop('q', 10)), 'wide', 'what is replicated is published if asked for');
SELECT pigeon.stop_publishing_changes('orders', 'changes');

-- Rights
CREATE ROLE pgn_owner;
CREATE ROLE pgn_writer;
GRANT CREATE ON SCHEMA public TO pgn_owner;
SET ROLE pgn_owner;
CREATE TABLE mine (id int);
GRANT INSERT ON mine TO pgn_writer;
SELECT throws_ok($$SELECT pigeon.publish_changes('mine', 'changes')$$, '42501', 'permission denied for topic "changes"', 'it takes the right to publish');
RESET ROLE;
SELECT pigeon.grant_access('changes', 'pgn_owner', '{publish}');
SET ROLE pgn_owner;
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 'changes')$$, '42501', 'must be owner of table "orders"', 'and ownership of the table');
SELECT lives_ok($$SELECT pigeon.publish_changes('mine', 'changes')$$, 'with both it works');
SET ROLE pgn_writer;
SELECT lives_ok($$INSERT INTO mine VALUES (1)$$, 'who writes needs no right on the topic');
SELECT throws_ok($$SELECT pigeon.publish('changes', 'x')$$, '42501', NULL, 'and has none');
RESET ROLE;
SELECT results_eq($$SELECT body::jsonb->'new', sender FROM pigeon.pop('q')$$, $$VALUES ('{"id": 1}'::jsonb, 'pgn_writer'::name)$$, 'the sender is who wrote');
SELECT pigeon.revoke_access('changes', 'pgn_owner', '{publish}');
SET ROLE pgn_writer;
SELECT throws_ok($$INSERT INTO mine VALUES (1)$$, '42501', NULL, 'without the owner''s right changes are refused, not lost');
SET ROLE pgn_owner;
SELECT throws_ok($$CREATE TABLE sly (id int); CREATE TRIGGER t AFTER INSERT ON sly FOR EACH ROW EXECUTE FUNCTION pigeon.publish_change('changes', ''); INSERT INTO sly VALUES (1)$$,
	'42501', NULL, 'attaching the trigger by hand does not help');
RESET ROLE;
CREATE TABLE other (id int);
CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION pigeon.publish_change('changes', '');
SELECT throws_ok($$INSERT INTO other VALUES (1)$$, '39P01', NULL, 'nor attaching it in the wrong way');

-- Whose right it is: the table's owner's. Who has none cannot keep a topic from being dropped.
CREATE TABLE of_another (id int);
ALTER TABLE of_another OWNER TO pgn_owner;
SELECT throws_ok($$SELECT pigeon.publish_changes('of_another', 'changes')$$, '42501', 'owner of table "of_another" may not publish to topic "changes"', 'a table whose owner may not publish, even for a superuser');
SELECT pigeon.create_topic('dropped');
CREATE TRIGGER t AFTER INSERT ON of_another FOR EACH ROW EXECUTE FUNCTION pigeon.publish_change('dropped', '');
SELECT is(pigeon.drop_topic('dropped'), true, 'its trigger does not hold a topic');

-- The order of changes, with a trigger that changes the row again
CREATE TABLE priced (id int, total int);
CREATE FUNCTION compute_total() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE priced SET total = 10 WHERE id = NEW.id; RETURN NULL; END';
CREATE TRIGGER compute_total AFTER INSERT ON priced FOR EACH ROW EXECUTE FUNCTION compute_total();
SELECT pigeon.publish_changes('priced', 'changes');
SELECT pigeon.purge_queue('q');
INSERT INTO priced VALUES (1, 0);
SELECT is((SELECT array_agg(c) FROM changes() AS c), ARRAY['insert  -> {"id": 1, "total": 0}', 'update {"id": 1, "total": 0} -> {"id": 1, "total": 10}'],
	'changes are published in the order in which they are made');

-- Characters that a text may have, and a message not as such
CREATE TABLE odd (a text);
SELECT pigeon.publish_changes('odd', 'changes');
INSERT INTO odd VALUES (U&'\FFFE \FFFF\FFFD' || E'\u2028\x01');
SELECT is((SELECT body::json #>> '{new,a}' FROM pigeon.pop('q')), (SELECT a FROM odd), 'all characters of a row');

-- Other forms of conditions for all events
CREATE TABLE item (id int, tags text[], doc jsonb);
CREATE FUNCTION write_items(condition text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pigeon.purge_queue('q');
	INSERT INTO item VALUES (1, '{x}', '{"a": 1}');
	UPDATE item SET doc = '{"a": 2}';
	UPDATE item SET id = id;
	DELETE FROM item;
	RETURN QUERY SELECT changes();
END $$;
SELECT unnest(ARRAY[lives_ok(format($$SELECT pigeon.publish_changes('item', 'changes', condition => %L)$$, condition), condition),
	is((SELECT string_agg(split_part(c, ' ', 1), ' ') FROM write_items(condition) AS c), events, 'that is fulfilled by some'),
	ok(pigeon.stop_publishing_changes('item', 'changes'), 'which ends')])
FROM (VALUES ('OLD.* IS DISTINCT FROM NEW.*', 'insert update delete'),
	($$NEW.tags[1] = 'x' OR OLD.doc['a'] = '2'$$, 'insert update update delete'),
	('ROW(OLD.*) = ROW(NEW.*)', 'update')) AS conditions (condition, events);

-- A condition on a column whose domain has no NULL
CREATE DOMAIN email AS text NOT NULL;
CREATE TABLE person (id int, address email);
SELECT pigeon.publish_changes('person', 'changes', condition => 'OLD.address IS DISTINCT FROM NEW.address');
SELECT pigeon.purge_queue('q');
SELECT lives_ok($$INSERT INTO person VALUES (1, 'a@b'); UPDATE person SET id = 2; UPDATE person SET address = 'c@d'; DELETE FROM person$$, 'does not fail what changes the table');
SELECT is((SELECT array_agg(c) FROM changes() AS c), ARRAY['insert  -> {"id": 1, "address": "a@b"}',
	'update {"id": 2, "address": "a@b"} -> {"id": 2, "address": "c@d"}', 'delete {"id": 2, "address": "c@d"} -> '], 'and finds what it is to find');

-- An outbox table is drained into a topic.
CREATE TABLE outbox (id serial, payload jsonb);
INSERT INTO outbox (payload) SELECT jsonb_build_object('n', n) FROM generate_series(1, 5) AS n;
WITH moved AS (
	DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED) RETURNING id, payload
)
SELECT count(*) FROM pigeon.publish_batch('changes', (SELECT array_agg(payload ORDER BY id) FROM moved));
SELECT results_eq($$SELECT body FROM pigeon.pop('q', 10)$$, $$VALUES ('{"n": 1}'), ('{"n": 2}'), ('{"n": 3}')$$, 'draining an outbox table');
SELECT * FROM finish();
ROLLBACK;
