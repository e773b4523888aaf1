-- What owners may do to the tables of queues, and how the extension goes and comes again.
SELECT plan(33);
CREATE ROLE pgn_owner;
GRANT CREATE ON SCHEMA pigeon TO pgn_owner;
SET ROLE pgn_owner;
SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('second');
SELECT pigeon.send('q', 'here');
RESET ROLE;
SELECT queue_table AS q, split_part(queue_table::text, '.', 2) AS name FROM pigeon.queues WHERE queue = 'q' \gset
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';

-- What the direct path would not see is refused, whatever is done, and works again when it is undone
CREATE FUNCTION refused(change text, undo text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE change;
	RETURN NEXT throws_ok($t$SELECT pigeon.send('q', 'x')$t$, '55000', NULL, change || ': send is refused');
	RETURN NEXT throws_ok($t$SELECT pigeon.receive('q')$t$, '55000', NULL, 'so is receive');
	EXECUTE undo;
	RETURN NEXT is((SELECT body FROM pigeon.receive('q', 1, '0')), 'here', undo || ' undoes it');
END $$;
SELECT refused(format('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION nothing()', :'q'), format('DROP TRIGGER t ON %s', :'q'));
SELECT refused(format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', :'q'), format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', :'q'));
SELECT refused(format('CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', :'q'), format('DROP RULE r ON %s', :'q'));
SELECT refused(format('CREATE INDEX i ON %s ((lane + 1))', :'q'), 'DROP INDEX pigeon.i');
SELECT refused(format('CREATE INDEX i ON %s (lane) WHERE lane = 1', :'q'), 'DROP INDEX pigeon.i');
SELECT refused(format('CREATE INDEX i ON %s USING hash (lane)', :'q'), 'DROP INDEX pigeon.i');
SELECT format('DROP INDEX pigeon.%I', :'name' || '_due') \gexec
SELECT throws_ok($$SELECT pigeon.receive('q')$$, '55000', NULL, 'an index that is missing');
SELECT format('CREATE INDEX %I ON %s (lane, visible_at)', :'name' || '_due', :'q') \gexec
SELECT is((SELECT body FROM pigeon.receive('q', 1, '0')), 'here', 'can be created again');

-- A plain index is maintained
SELECT format('CREATE INDEX extra ON %s (lease) INCLUDE (visible_at)', :'q') \gexec
SELECT lives_ok($$SELECT pigeon.send('q', 'more') FROM pigeon.receive('q', 1, '0')$$, 'a plain index is no obstacle');
SET enable_seqscan = off;
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 2::bigint, 'all is received');
SELECT format('SELECT is((SELECT count(*) FROM %s WHERE lease IS NOT NULL), 0::bigint, %L)', :'q', 'and the index tells the truth') \gexec
RESET enable_seqscan;

-- Tables that go by hand
SELECT format('DROP TABLE %s', :'q') \gexec
SELECT throws_ok($$SELECT pigeon.send('q', 'x')$$, '42704', NULL, 'a queue whose table is dropped is gone');
SELECT lives_ok($$SELECT pigeon.create_queue('q')$$, 'and its name is free');
SELECT format('ALTER TABLE %s OWNER TO pgn_owner', queue_table) FROM pigeon.queues WHERE queue = 'q' \gexec
SELECT is((SELECT string_agg(queue, ',' ORDER BY queue) FROM pigeon.queues WHERE owner = 'pgn_owner'), 'q,second', 'the owner of the table owns the queue');
DROP OWNED BY pgn_owner;
SELECT is((SELECT count(*) FROM pigeon.queues), 0::bigint, 'DROP OWNED takes the queues along');
SELECT is((SELECT count(*) FROM pigeon.queue), 0::bigint, 'out of the registry, too');
DROP ROLE pgn_owner;

-- The extension
SELECT pigeon.create_queue('q');
SELECT pigeon.send('q', 'x');
SELECT throws_ok('DROP EXTENSION pigeon', '2BP01', NULL, 'the extension is not dropped while there are queues');
SET client_min_messages = warning;
SELECT lives_ok('DROP EXTENSION pigeon CASCADE', 'unless with all of them');
SELECT lives_ok('CREATE EXTENSION pigeon', 'and comes again');
SELECT pigeon.create_queue('q');
SELECT pigeon.send('q', 'in a new life');
SELECT is((SELECT body FROM pigeon.pop('q')), 'in a new life', 'in a session that knew the old one');
SELECT lives_ok('ALTER EXTENSION pigeon UPDATE', 'an update to the same version');
SELECT * FROM finish();
