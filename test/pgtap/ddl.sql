-- What owners may do to the tables of queues, and how the extension goes and comes again.
SELECT plan(71);
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
SELECT refused(format('ALTER TABLE %s ADD CONSTRAINT c CHECK (receive_count < 1000)', :'q'), format('ALTER TABLE %s DROP CONSTRAINT c', :'q'));
SELECT refused(format('ALTER TABLE %s ADD CONSTRAINT c EXCLUDE (lease WITH =)', :'q'), format('ALTER TABLE %s DROP CONSTRAINT c', :'q'));
SELECT refused(format('ALTER TABLE %s ALTER segment DROP NOT NULL', :'q'), format('ALTER TABLE %s ALTER segment SET NOT NULL', :'q'));
SELECT refused(format('CREATE INDEX i ON %s ((lane + 1))', :'q'), 'DROP INDEX pigeon.i');
SELECT refused(format('CREATE INDEX i ON %s (lane) WHERE lane = 1', :'q'), 'DROP INDEX pigeon.i');
SELECT refused(format('CREATE INDEX i ON %s USING hash (lane)', :'q'), 'DROP INDEX pigeon.i');
SELECT format('DROP INDEX pigeon.%I', :'name' || '_due') \gexec
SELECT throws_ok($$SELECT pigeon.receive('q')$$, '55000', NULL, 'an index that is missing');
SELECT format('CREATE INDEX descending ON %s (lane, due_at DESC)', :'q') \gexec
SELECT throws_ok($$SELECT pigeon.receive('q')$$, '55000', NULL, 'one in another order does not replace it');
DROP INDEX pigeon.descending;
SELECT format('CREATE INDEX %I ON %s (lane, due_at)', :'name' || '_due', :'q') \gexec
SELECT is((SELECT body FROM pigeon.receive('q', 1, '0')), 'here', 'can be created again');

-- There may be many, twice as many while they are made anew
SELECT format('CREATE INDEX many_%s ON %s (lease)', n, :'q') FROM generate_series(1, 14) AS n \gexec
SELECT format('REINDEX TABLE CONCURRENTLY %s', :'q') \gexec
SELECT format('CREATE INDEX more_%s ON %s (lease)', n, :'q') FROM generate_series(1, 16) AS n \gexec
SELECT is((SELECT body FROM pigeon.receive('q', 1, '0')), 'here', 'thirty-two indexes');
SELECT format('CREATE INDEX one_more ON %s (lease)', :'q') \gexec
SELECT throws_ok($$SELECT pigeon.receive('q', 1, '0')$$, '54000', NULL, 'one more is too many');
SELECT format('DROP INDEX pigeon.%I', indexname) FROM pg_indexes WHERE schemaname = 'pigeon' AND indexname ~ '^(many_|more_|one_more)' \gexec

-- A plain index is maintained
SELECT format('CREATE INDEX extra ON %s (lease) INCLUDE (visible_at)', :'q') \gexec
SELECT lives_ok($$SELECT pigeon.send('q', 'more') FROM pigeon.receive('q', 1, '0')$$, 'a plain index is no obstacle');
SET enable_seqscan = off;
SELECT format('SELECT is((SELECT count(*) FROM %1$s t WHERE lease = ANY (ARRAY(SELECT lease FROM %1$s ORDER BY message_id)) OR lease IS NULL), 2::bigint, %2$L)', :'q', 'it has what was inserted and updated') \gexec
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 2::bigint, 'all is received');
SELECT format('SELECT is((SELECT count(*) FROM %s WHERE lease IS NOT NULL), 0::bigint, %L)', :'q', 'and the index tells the truth') \gexec
RESET enable_seqscan;

-- Tables that go by hand
SELECT format('DROP TABLE %s', :'q') \gexec
SELECT throws_ok($$SELECT pigeon.send('q', 'x')$$, '42704', NULL, 'a queue whose table is dropped is gone');
SELECT lives_ok($$SELECT pigeon.create_queue('q')$$, 'and its name is free');
SELECT format('ALTER TABLE %s OWNER TO pgn_owner', queue_table) FROM pigeon.queues WHERE queue = 'q' \gexec
SELECT is((SELECT string_agg(queue, ',' ORDER BY queue) FROM pigeon.queues WHERE owner = 'pgn_owner'), 'q,second', 'the owner of the table owns the queue');

-- The other tables of a FIFO queue belong to the extension, whoever owns the queue
CREATE FUNCTION tables() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(left(relname, 1) || ' ' || relowner::regrole, ', ' ORDER BY relname DESC) FROM pg_class
	WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'r' AND relname ~ (SELECT '^._' || id || '$' FROM pigeon.queue WHERE name = 'fifo') $$;
CREATE ROLE pgn_heir;
SET ROLE pgn_owner;
SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true);
RESET ROLE;
SELECT is(tables(), format('q pgn_owner, g %1$s, d %1$s', current_user), 'who owns the tables of a FIFO queue');
SELECT queue_table AS q, replace(queue_table::text, 'q_', 'g_') AS g, replace(queue_table::text, 'q_', 'd_') AS d FROM pigeon.queues WHERE queue = 'fifo' \gset
SET ROLE pgn_owner;
SELECT throws_ok(statement, '42501', NULL, statement) FROM (VALUES
	(format('SELECT FROM %s', :'g')),
	(format('CREATE TRIGGER t BEFORE TRUNCATE ON %s EXECUTE FUNCTION nothing()', :'g')),
	(format('ALTER TABLE %s ADD COLUMN more integer', :'d')),
	(format('DROP TABLE %s', :'d'))) AS v (statement);
SELECT is((SELECT count(*) FROM pigeon.send_batch('fifo', '{x,y}'::text[], group_ids => '{a,b}')), 2::bigint, 'the owner uses the queue');
SELECT is(pigeon.purge_queue('fifo'), 2::bigint, 'and purges it');
RESET ROLE;
SELECT format('CREATE TRIGGER t BEFORE TRUNCATE ON %s EXECUTE FUNCTION nothing()', :'d') \gexec
SELECT throws_ok($$SELECT pigeon.purge_queue('fifo')$$, '55000', NULL, 'nothing is truncated that has triggers');
SELECT format('DROP TRIGGER t ON %s', :'d') \gexec
SELECT format('ALTER TABLE %s OWNER TO pgn_heir', :'q') \gexec
SELECT is(tables(), format('q pgn_heir, g %1$s, d %1$s', current_user), 'a queue that changes hands');
SET ROLE pgn_heir;
SELECT is((SELECT count(*) FROM pigeon.send_batch('fifo', '{x,y}'::text[], group_ids => '{a,b}')), 2::bigint, 'is used by the new owner');
SELECT is(pigeon.purge_queue('fifo'), 2::bigint, 'and purged');
SELECT is((SELECT count(*) FROM pigeon.send_batch('fifo', '{x,y}'::text[], group_ids => '{a,b}')), 2::bigint, 'which forgets groups and deduplication ids');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.pop('fifo', 10)), 'x y', 'messages are received');
SELECT is(pigeon.drop_queue('fifo'), true, 'and dropped');
SELECT is_empty(format('SELECT FROM pg_class WHERE oid = to_regclass(%L) OR oid = to_regclass(%L) OR oid = to_regclass(%L)', :'q', :'g', :'d'), 'with all its tables');
RESET ROLE;
SET ROLE pgn_owner;
SELECT pigeon.create_queue('fifo', fifo => true);
RESET ROLE;

-- A table that is renamed
SELECT queue_table AS q, replace(queue_table::text, 'q_', 'g_') AS g FROM pigeon.queues WHERE queue = 'fifo' \gset
SET ROLE pgn_owner;
SELECT format('ALTER TABLE %s RENAME TO renamed', :'q') \gexec
SELECT throws_ok($$SELECT pigeon.purge_queue('fifo')$$, '42704', NULL, 'a queue whose table is renamed is not there');
SELECT format('ALTER TABLE pigeon.renamed RENAME TO %I', split_part(:'q', '.', 2)) \gexec
SELECT is(pigeon.purge_queue('fifo'), 0::bigint, 'until it is named as before');
SELECT format('ALTER TABLE %s RENAME TO renamed', :'q') \gexec
SELECT lives_ok($$SELECT pigeon.create_queue('fifo', fifo => true)$$, 'its name is free');
SELECT isnt((SELECT queue_table::text FROM pigeon.queues WHERE queue = 'fifo'), :'q', 'for another queue');
SELECT is(to_regclass(:'g'), NULL, 'which leaves nothing of the first but the table that was renamed');
DROP TABLE pigeon.renamed;
SELECT is(pigeon.purge_queue('fifo'), 0::bigint, 'that does not concern the other any more');
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = 'fifo'), 1::bigint, 'a queue is registered once');
SELECT pigeon.create_topic('t', fifo => true);
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 't' \gset
SELECT format('ALTER VIEW %s RENAME TO renamed', :'view') \gexec
SELECT lives_ok($$SELECT pigeon.create_topic('t')$$, 'the same with a topic');
DROP VIEW pigeon.renamed;
RESET ROLE;

-- A table that is named like that of a queue, with the number of somebody else's FIFO topic
SELECT pigeon.create_topic('other', fifo => true);
SELECT topic_view AS view, replace(topic_view::text, 't_', 'q_') AS q, replace(topic_view::text, 't_', 'd_') AS d FROM pigeon.topics WHERE topic = 'other' \gset
SET ROLE pgn_owner;
SELECT format('CREATE TABLE %s ()', :'q') \gexec
SELECT format('DROP TABLE %s', :'q') \gexec
RESET ROLE;
SELECT isnt(to_regclass(:'d'), NULL, 'the topic keeps its deduplication keys');
SELECT pigeon.drop_topic('other');

DROP OWNED BY pgn_owner;
SELECT is((SELECT count(*) FROM pigeon.queues), 0::bigint, 'DROP OWNED takes the queues along');
SELECT is((SELECT count(*) FROM pigeon.queue), 0::bigint, 'out of the registry, too');
SELECT is_empty($$SELECT relname FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'r' AND relname ~ '^[qgd]_[0-9]+$'$$, 'and all their tables');
DROP ROLE pgn_owner, pgn_heir;

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
