-- What somebody with some rights may try in order to get more: objects of his in our schema, what he does to the tables of his
-- queues and topics, names that are SQL, default privileges, row security, event triggers.
SELECT plan(157);
CREATE ROLE pgn_victim;
CREATE ROLE pgn_eve;
CREATE ROLE pgn_reader;

CREATE FUNCTION attempt(role name, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE command;
	PERFORM set_config('role', 'none', true);
	RETURN 'OK';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
-- A table beside a queue's or topic's: q_7 to g_7.
CREATE FUNCTION beside(what regclass, prefix text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace(what::text, '[a-z]_', prefix || '_') $$;

-- Default privileges of who installs give nobody a right
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO pgn_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO pgn_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO pgn_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO pgn_reader;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO pgn_reader, PUBLIC;
CREATE TABLE usual AS SELECT oid::regprocedure::text AS object, proacl::text AS acl FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace
	UNION ALL SELECT oid::regclass::text, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))::text FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind <> 'i'
	UNION ALL SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = 'pigeon';
DROP EXTENSION pigeon;
CREATE EXTENSION pigeon;
SELECT set_eq($$SELECT oid::regprocedure::text, proacl::text FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace
	UNION ALL SELECT oid::regclass::text, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))::text FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind <> 'i'
	UNION ALL SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = 'pigeon'$$, 'TABLE usual', 'default privileges change no right on the extension');
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM pgn_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM pgn_reader, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM pgn_reader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM pgn_reader;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM pgn_reader, PUBLIC;

GRANT CREATE ON SCHEMA pigeon TO pgn_victim, pgn_eve;
CREATE SCHEMA eve AUTHORIZATION pgn_eve;
CREATE TABLE witness (who name, session name DEFAULT session_user);
GRANT INSERT, SELECT ON witness TO PUBLIC;

-- Those of who creates a queue do: they are rights that he wants on his tables
ALTER DEFAULT PRIVILEGES FOR ROLE pgn_victim GRANT SELECT ON TABLES TO pgn_reader;
SET ROLE pgn_victim;
SELECT pigeon.create_queue('shown');
RESET ROLE;
SELECT is(attempt('pgn_reader', $$SELECT pigeon.peek('shown')$$), 'OK', 'default privileges of a queue''s owner apply to it');
ALTER DEFAULT PRIVILEGES FOR ROLE pgn_victim REVOKE SELECT ON TABLES FROM pgn_reader;

-- Functions, operators and types beside ours
SET ROLE pgn_eve;
CREATE FUNCTION eve.evil(text, text) RETURNS bigint LANGUAGE sql AS $$ INSERT INTO witness VALUES (current_user); SELECT 0::bigint $$;
CREATE FUNCTION eve.send(text, text) RETURNS bigint LANGUAGE sql AS $$ SELECT eve.evil($1, $2) $$;
CREATE PROCEDURE eve.maintain(text) LANGUAGE sql AS $$ SELECT eve.evil($1, $1) $$;
CREATE AGGREGATE eve.peek(text) (SFUNC = textcat, STYPE = text);
CREATE FUNCTION eve.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT eve.evil($1, $2) IS NOT NULL $$;
CREATE OPERATOR eve.= (LEFTARG = text, RIGHTARG = text, FUNCTION = eve.same);
CREATE DOMAIN eve.purge_queue AS text CHECK (eve.evil(VALUE, '') IS NOT NULL);
CREATE TYPE eve.pop AS ENUM ('q');
RESET ROLE;
SELECT is(attempt('pgn_eve', command), '42501', command)
FROM unnest(ARRAY[
	$$CREATE FUNCTION pigeon.send(text, text) RETURNS bigint LANGUAGE sql AS 'SELECT eve.evil($1, $2)'$$,
	$$CREATE FUNCTION pigeon.other() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'$$,
	$$CREATE PROCEDURE pigeon.maintain(text) LANGUAGE sql AS 'SELECT 1'$$,
	$$CREATE AGGREGATE pigeon.peek(text) (SFUNC = textcat, STYPE = text)$$,
	$$CREATE OPERATOR pigeon.= (LEFTARG = text, RIGHTARG = text, FUNCTION = eve.same)$$,
	$$CREATE DOMAIN pigeon.purge_queue AS text$$,
	$$CREATE TYPE pigeon.purge_queue AS ENUM ('q')$$,
	$$CREATE TYPE pigeon.purge_queue AS RANGE (SUBTYPE = integer)$$,
	$$CREATE TYPE pigeon.purge_queue AS (a integer)$$,
	$$CREATE TYPE pigeon.purge_queue$$,
	$$ALTER FUNCTION eve.send SET SCHEMA pigeon$$,
	$$ALTER ROUTINE eve.send SET SCHEMA pigeon$$,
	$$ALTER PROCEDURE eve.maintain SET SCHEMA pigeon$$,
	$$ALTER AGGREGATE eve.peek(text) SET SCHEMA pigeon$$,
	$$ALTER OPERATOR eve.= (text, text) SET SCHEMA pigeon$$,
	$$ALTER DOMAIN eve.purge_queue SET SCHEMA pigeon$$,
	$$CREATE TYPE eve.r AS RANGE (SUBTYPE = text, MULTIRANGE_TYPE_NAME = pigeon.receive)$$,
	$$ALTER TYPE eve.pop SET SCHEMA pigeon$$,
	$$CREATE OR REPLACE FUNCTION pigeon.queue_table(queue_id integer) RETURNS regclass LANGUAGE sql AS 'SELECT NULL::regclass'$$,
	$$ALTER FUNCTION pigeon.queue_table(integer) SECURITY DEFINER$$,
	$$ALTER EXTENSION pigeon ADD FUNCTION eve.send(text, text)$$,
	$$CREATE CAST (text AS pigeon.receipt) WITH INOUT AS IMPLICIT$$,
	$$ALTER EVENT TRIGGER pigeon_guard_schema DISABLE$$,
	$$DROP FUNCTION pigeon.guard_schema()$$]) AS command;
SELECT is(attempt('pgn_eve', 'CREATE TABLE pigeon.notes ()'), 'OK', 'tables are no danger');
SELECT is(attempt('postgres', 'CREATE FUNCTION pigeon.extra() RETURNS integer LANGUAGE sql RETURN 1'), 'OK', 'the owner of the extension may add functions');
DROP FUNCTION pigeon.extra();
SELECT is(attempt('pgn_eve', 'CREATE FUNCTION eve.fine() RETURNS integer LANGUAGE sql RETURN 1'), 'OK', 'other schemas are not guarded');

-- Tables with names that others need: in nobody's way
SELECT last_value + 1 AS next FROM pigeon.queue_id_seq \gset
SET ROLE pgn_eve;
SELECT format('CREATE TABLE pigeon.%s_%s ()', prefix, :next + place) FROM unnest('{q,g,d,t}'::text[]) WITH ORDINALITY AS prefixes (prefix, place) \gexec
SELECT format('CREATE TABLE pigeon.t_%s_7 ()', :next) \gexec
SELECT format('CREATE TABLE pigeon.%s ()', replace(name, 'N', (:next + 4 + place)::text)) FROM unnest('{q_N_due,q_N_group,g_N_due,g_N_group,d_N_key}'::text[]) WITH ORDINALITY AS names (name, place) \gexec
SET ROLE pgn_victim;
SELECT lives_ok($$SELECT pigeon.create_queue('orders')$$, 'creating a queue when names are taken');
SELECT lives_ok($$SELECT pigeon.create_topic('sales', archive_retention => '1 day')$$, 'creating a topic');
SELECT lives_ok($$SELECT pigeon.create_queue('victim''s')$$, 'creating another queue');
SELECT queue_table AS orders FROM pigeon.queues WHERE queue = 'orders' \gset
SELECT queue_table AS victims FROM pigeon.queues WHERE queue = 'victim''s' \gset
SET ROLE pgn_eve;
SELECT format('CREATE TABLE %s ()', beside(:'victims', prefix)) FROM unnest('{g,d}'::text[]) AS prefix \gexec
SET ROLE pgn_victim;
SELECT lives_ok($$SELECT pigeon.drop_queue('victim''s')$$, 'dropping a queue beside which somebody has tables');
RESET ROLE;
SELECT ok(to_regclass(beside(:'orders', 'g')) IS NULL, 'a queue has no tables of others');
SET ROLE pgn_eve;
SELECT format('DROP TABLE %s', oid::regclass) FROM pg_class WHERE relowner = 'pgn_eve'::regrole AND relkind = 'r' AND relnamespace = 'pigeon'::regnamespace \gexec
RESET ROLE;
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = 'orders') + (SELECT count(*) FROM pigeon.topics), 2::bigint, 'dropping them drops nothing of others');
SELECT topic_view AS sales FROM pigeon.topics WHERE topic = 'sales' \gset
SET ROLE pgn_eve;
SELECT format('CREATE TABLE %1$s (); DROP TABLE %1$s', replace(:'orders', '_', '_0')) \gexec
SELECT format('CREATE VIEW %1$s AS SELECT 1; DROP VIEW %1$s', replace(:'sales', '_', '_0')) \gexec
RESET ROLE;
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = 'orders') + (SELECT count(*) FROM pigeon.topics), 2::bigint, 'nor does dropping what has nearly the name of others');

-- Code on the tables of one's own queue: never run by others
SET ROLE pgn_eve;
SELECT pigeon.create_queue('eve');
SELECT pigeon.create_queue('eve fifo', fifo => true, content_based_deduplication => true);
SELECT pigeon.send('eve fifo', 'x', group_id => 'a');
SELECT queue_table AS eve FROM pigeon.queues WHERE queue = 'eve' \gset
SELECT queue_table AS eve_fifo FROM pigeon.queues WHERE queue = 'eve fifo' \gset
CREATE FUNCTION eve.trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO witness VALUES (current_user); PERFORM set_config('search_path', 'eve', false); RETURN NULL; END $$;
CREATE FUNCTION eve.trap(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'eve', false); RETURN $1; END $$;
RESET ROLE;
CREATE TABLE trap (make text, undo text, what text, queue text);
INSERT INTO trap
	WITH tables (name, queue, number) AS (VALUES (:'eve', 'eve', 'message_id'), (:'eve_fifo', 'eve fifo', 'message_id'))
	SELECT format('CREATE TRIGGER trap BEFORE TRUNCATE ON %s EXECUTE FUNCTION eve.trap()', name), format('DROP TRIGGER trap ON %s', name), 'truncate trigger on ' || name, queue
	FROM tables
	UNION ALL
	SELECT format('CREATE TRIGGER trap AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION eve.trap()', name), format('DROP TRIGGER trap ON %s', name), 'row trigger on ' || name, queue
	FROM tables
	UNION ALL
	SELECT format('CREATE RULE trap AS ON DELETE TO %s DO ALSO INSERT INTO witness VALUES (current_user)', name), format('DROP RULE trap ON %s', name), 'rule on ' || name, queue
	FROM tables
	UNION ALL
	SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name), format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', name), 'row security on ' || name, queue
	FROM tables
	UNION ALL
	SELECT format('CREATE INDEX trap ON %s (eve.trap(%s))', name, number), 'DROP INDEX pigeon.trap', 'index on an expression of ' || name, queue
	FROM tables
	UNION ALL
	SELECT format('CREATE INDEX trap ON %s (message_id) WHERE eve.trap(message_id) > 0', name), 'DROP INDEX pigeon.trap', 'partial index on ' || name, queue
	FROM tables WHERE name = ANY (ARRAY[:'eve', :'eve_fifo']);
CREATE FUNCTION spring(make text, undo text, queue text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answers text;
BEGIN
	SET LOCAL search_path = public, pg_catalog;
	PERFORM set_config('role', 'pgn_eve', true);
	EXECUTE make;
	PERFORM set_config('role', 'none', true);
	TRUNCATE witness;
	SELECT string_agg(DISTINCT attempt('postgres', format(command, queue)) COLLATE "C", ' ') INTO answers
	FROM unnest(ARRAY['SELECT pigeon.send(%L, ''x'', group_id => ''a'')', 'SELECT pigeon.receive(%L)', 'SELECT pigeon.pop(%L)', 'SELECT pigeon.purge_queue(%L)',
		'CALL pigeon.maintain()', 'SELECT * FROM pigeon.check()', 'SELECT * FROM pigeon.queue_metrics']) AS command;
	PERFORM set_config('role', 'pgn_eve', true);
	EXECUTE undo;
	PERFORM set_config('role', 'none', true);
	RETURN format('%s, %s runs, %s', answers, (SELECT count(*) FROM witness), current_setting('search_path'));
END $$;
GRANT SELECT ON trap TO PUBLIC;
SET client_min_messages = error;
SELECT is(spring(make, undo, queue), '55000 OK, 0 runs, public, pg_catalog', what) FROM trap;

-- A trigger that takes the place of the guard is one like all others, and tables of groups and keys are not the queue's owner's
SET ROLE pgn_eve;
SELECT format('DROP TRIGGER pigeon_guard ON %s', :'eve_fifo') \gexec
SELECT format('CREATE TRIGGER pigeon_guard BEFORE TRUNCATE ON %s EXECUTE FUNCTION eve.trap()', :'eve_fifo') \gexec
RESET ROLE;
\set ON_ERROR_STOP off
SELECT pigeon.purge_queue('eve fifo');
\set ON_ERROR_STOP on
SELECT is(:'LAST_ERROR_SQLSTATE'::text, '55000', 'a purge that would run a trigger of the owner');
SELECT is(current_setting('search_path'), '"$user", public', 'and did not');
SET ROLE pgn_eve;
SELECT format('DROP TRIGGER pigeon_guard ON %s', :'eve_fifo') \gexec
RESET ROLE;
SELECT lives_ok($$SELECT pigeon.purge_queue('eve fifo')$$, 'a purge without the guard');
SELECT is(attempt('pgn_eve', format(command, beside(:'eve_fifo', prefix))), '42501', format(command, prefix || '_N'))
FROM unnest('{g,d}'::text[]) AS prefix, unnest(ARRAY['CREATE TRIGGER trap BEFORE TRUNCATE ON %s EXECUTE FUNCTION eve.trap()', 'ALTER TABLE %s DISABLE TRIGGER ALL',
	'DELETE FROM %s', 'DROP TABLE %s', 'CREATE INDEX ON %s (eve.trap(1))']) AS command;

-- A subscriber cannot stop those who publish
SET ROLE pgn_victim;
SELECT pigeon.create_topic('ordered', fifo => true, content_based_deduplication => true);
SELECT pigeon.grant_access('sales', 'pgn_eve', '{subscribe}'), pigeon.grant_access('ordered', 'pgn_eve', '{subscribe}');
SET ROLE pgn_eve;
SELECT pigeon.subscribe('ordered', 'eve fifo'), pigeon.subscribe('sales', 'eve');
RESET ROLE;
CREATE FUNCTION sabotage(change text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', 'pgn_eve', true);
	EXECUTE change;
	PERFORM set_config('role', 'pgn_victim', true);
	PERFORM pigeon.publish_batch('ordered', ARRAY['1', '2', '3'], group_ids => ARRAY['a', 'a', 'b']);
	PERFORM pigeon.publish_batch('sales', ARRAY['1', '2', '3']);
	RAISE EXCEPTION USING ERRCODE = 'OK000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'OK000' THEN 'OK' ELSE SQLSTATE || ' ' || SQLERRM END;
END $$;
SELECT is(sabotage(change), 'OK', 'publishing in spite of ' || change)
FROM unnest(ARRAY[:'eve', :'eve_fifo']) AS name,
	LATERAL (VALUES
		(format('DROP TABLE %s CASCADE', name)),
		(format('ALTER TABLE %s RENAME TO away', name)),
		(format('ALTER TABLE %s SET SCHEMA eve', name)),
		(format('ALTER TABLE %s ADD COLUMN more integer', name)),
		(format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name)),
		(format('CREATE TRIGGER trap BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION eve.trap()', name)),
		(format('CREATE UNIQUE INDEX trap ON %s (lane)', name)),
		(format('ALTER TABLE %s DROP CONSTRAINT %s', name, replace(name, 'pigeon.', '') || '_pkey')),
		(format('DROP INDEX %s', name || CASE name WHEN :'eve' THEN '_due' ELSE '_group' END)),
		(format('REVOKE ALL ON %s FROM pgn_eve', name))) AS changes (change);

-- A queue in the place of one that was dropped gets nothing that its creator could not have otherwise
SET ROLE pgn_victim;
SELECT pigeon.create_topic('secret'), pigeon.create_queue('bills'), pigeon.create_queue('bills dead'), pigeon.create_queue('letters'), pigeon.create_queue('there');
SELECT pigeon.create_queue('source', dead_letter_queue => 'letters');
SELECT pigeon.subscribe('secret', 'bills', dead_letter_queue => 'bills dead');
SELECT count(*) FROM pigeon.send_batch('letters', array_fill('x'::text, ARRAY[100]));
SELECT pigeon.redrive('letters', 'there', max_per_second => 1);
SELECT pigeon.drop_queue('bills'), pigeon.drop_queue('bills dead'), pigeon.drop_queue('there');
RESET ROLE;
SELECT is(attempt('pgn_eve', format('SELECT pigeon.create_queue(%L)', name)), '42501', 'creating ' || name) FROM unnest('{bills,bills dead,there}'::text[]) AS name;
SELECT is(attempt('pgn_victim', format('SELECT pigeon.create_queue(%1$L), pigeon.drop_queue(%1$L)', name)), 'OK', 'its owner may create ' || name) FROM unnest('{bills,there}'::text[]) AS name;
SELECT pigeon.grant_access('secret', 'pgn_eve', '{subscribe}');
SELECT is(attempt('pgn_eve', $$SELECT pigeon.create_queue('bills'), pigeon.drop_queue('bills')$$), 'OK', 'who may subscribe may create it');
SELECT pigeon.revoke_access('secret', 'pgn_eve', '{subscribe}');

-- Nor get what he has no right to any more
SET ROLE pgn_victim;
SELECT pigeon.revoke_access('sales', 'pgn_eve', '{subscribe}');
SELECT pigeon.publish('sales', 'not for eve');
RESET ROLE;
SELECT is((SELECT count(*) FROM pigeon.peek('eve')), 0::bigint, 'a subscriber without the right to subscribe gets nothing');
SELECT is(attempt('pgn_eve', $$SELECT pigeon.replay(subscription_id, '-infinity') FROM pigeon.subscriptions WHERE topic = 'sales'$$), '42501', 'nor by a replay');

-- Trigger functions of ours, attached by hand, publish with no more rights
SET ROLE pgn_eve;
CREATE TABLE eve.t (a integer);
CREATE TRIGGER t AFTER INSERT ON eve.t FOR EACH ROW EXECUTE FUNCTION pigeon.publish_change('sales', '');
CREATE VIEW eve.v AS SELECT 1 AS a;
CREATE TRIGGER v INSTEAD OF INSERT ON eve.v FOR EACH ROW EXECUTE FUNCTION pigeon.publish_rows();
CREATE TABLE eve.g (a integer);
CREATE TRIGGER g BEFORE INSERT ON eve.g FOR EACH STATEMENT EXECUTE FUNCTION pigeon.guard_deliveries();
CREATE TRIGGER h AFTER UPDATE ON eve.g FOR EACH ROW EXECUTE FUNCTION pigeon.publish_change();
GRANT ALL ON ALL TABLES IN SCHEMA eve TO PUBLIC;
GRANT USAGE ON SCHEMA eve TO PUBLIC;
RESET ROLE;
SELECT is(attempt('pgn_eve', 'INSERT INTO eve.t VALUES (1)'), '42501', 'publish_change for the table of who may not publish');
SELECT is(attempt('pgn_victim', 'INSERT INTO eve.t VALUES (1)'), '42501', 'even if the writer may');
SELECT is(attempt('pgn_eve', 'INSERT INTO eve.v VALUES (1)'), '55000', 'publish_rows on another view');
SELECT is(attempt('pgn_victim', 'INSERT INTO eve.g VALUES (1)'), '42501', 'the guard on another table');
SELECT is(attempt('pgn_eve', 'WITH i AS (INSERT INTO eve.g VALUES (1)) SELECT 1'), 'OK', 'lets its owner pass');
SELECT is(attempt('pgn_eve', 'UPDATE eve.g SET a = 1'), '39P01', 'publish_change without arguments');

-- Names that are SQL
CREATE TABLE precious (a integer);
CREATE TABLE nasty (name text);
INSERT INTO nasty VALUES ($$x'; DROP TABLE precious; --$$), ($$x"; DROP TABLE precious; --$$), ($$'$$), ($$"$$), ('%s%n%L'), ('$1'), ('\'), (E'a\nb'),
	('$$'), ('{}'), ('NULL'), (''' OR true --'), (')'), ('ü😀'), (repeat('"''', 40));
CREATE FUNCTION use_name(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	short name := substr(name, 1, 20);
	subscription bigint;
BEGIN
	EXECUTE format('CREATE ROLE %I', short);
	EXECUTE format('CREATE TABLE %I (%I integer)', name, short);
	PERFORM pigeon.create_queue(substr(name, 1, 75) || 'dead');
	PERFORM pigeon.create_queue(name, dead_letter_queue => substr(name, 1, 75) || 'dead', tags => jsonb_build_object(name, name),
		redrive_allow_policy => ARRAY[name], notify => octet_length(name) < 50);
	PERFORM pigeon.alter_queue(name, tags => jsonb_build_object(name, ''), redrive_allow_policy => ARRAY['*', name]);
	PERFORM pigeon.create_topic(name, tags => jsonb_build_object(name, name), archive_retention => '1 h');
	PERFORM pigeon.grant_access(name, short, '{send,publish,peek}');
	subscription := pigeon.subscribe(name, name, jsonb_build_object(name, jsonb_build_array(name)), 'body', false, substr(name, 1, 75) || 'dead');
	PERFORM pigeon.alter_subscription(subscription, '{}');
	PERFORM pigeon.publish_changes(quote_ident(name)::regclass, name, columns => ARRAY[short], group_by => short, condition => format('NEW.%I = 1', short));
	EXECUTE format('INSERT INTO %I VALUES (1)', name);
	PERFORM pigeon.publish(name, name, replace(name, E'\n', ' '), jsonb_build_object('a', name));
	PERFORM pigeon.send(name, name, jsonb_build_object('a', name));
	PERFORM pigeon.replay(subscription, '-infinity');
	PERFORM pigeon.redrive(substr(name, 1, 75) || 'dead', name);
	PERFORM pigeon.stop_publishing_changes(quote_ident(name)::regclass, name);
	PERFORM pigeon.unschedule(name);
	PERFORM FROM pigeon.receive(name, 10) m, pigeon.delete(name, m.receipt);
	PERFORM pigeon.revoke_access(name, short, '{send,publish,peek}');
	PERFORM pigeon.purge_queue(name);
	PERFORM pigeon.alter_topic(name, archive_retention => '0');
	RETURN format('%s %s', pigeon.drop_queue(name), pigeon.drop_topic(name));
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT is(use_name(name), 't t', 'a name of ' || name) FROM nasty;
SELECT is(attempt('postgres', format(command, name)), '22023', format(command, name))
FROM (VALUES ($$x'; DROP TABLE precious; --$$)) AS names (name),
	unnest(ARRAY['SELECT pigeon.grant_access(''orders'', ''pgn_eve'', ARRAY[%L])', 'SELECT pigeon.publish_changes(''precious'', ''sales'', events => %L)',
		'SELECT pigeon.send(''orders'', ''x'', jsonb_build_object(%L, 1))', 'SELECT pigeon.subscribe(''sales'', ''orders'', filter_scope => %L)',
		'SELECT pigeon.create_queue(''new'', fifo => true, deduplication_scope => %L)']) AS command;
SELECT ok(to_regclass('precious') IS NOT NULL, 'the table that they name is there');

-- A condition is one expression, evaluated with the rights of who writes to the table, as every condition of a trigger
SELECT is(attempt('postgres', format('SELECT pigeon.publish_changes(''precious'', ''sales'', condition => %L)', condition)), '42601', 'condition ' || condition)
FROM unnest(ARRAY['', 'true) EXECUTE FUNCTION eve.trap() --', 'true); DROP TABLE precious; --', 'true; DROP TABLE precious', 'true) --', 'true /*', 'true, true',
	'true AS a', 'true a', '*', 'true FROM precious', 'true) FROM (SELECT 1', 'true UNION SELECT false', '$a$', 'true INTO x', 'true WHERE false', '1) + (2']) AS condition;
SELECT is(attempt('postgres', $$SELECT pigeon.publish_changes('precious', 'sales', condition => '(SELECT true)')$$), '0A000', 'condition with a subquery');
SET ROLE pgn_victim;
CREATE TEMP TABLE mine (a integer);
GRANT ALL ON mine TO pgn_reader;
CREATE FUNCTION pg_temp.who(integer) RETURNS boolean LANGUAGE sql AS $$ INSERT INTO public.witness VALUES (current_user); SELECT true $$;
SELECT pigeon.publish_changes('mine', 'sales', condition => 'pg_temp.who(NEW.a)');
SET ROLE pgn_reader;
INSERT INTO mine VALUES (1);
RESET ROLE;
SELECT is((SELECT string_agg(who, ',') FROM witness), 'pgn_reader', 'a condition runs with the rights of who writes');

-- An archive is a table of the topic's owner, who can put anything into it
SELECT topic_view AS archive FROM pigeon.topics WHERE topic = 'ordered' \gset
SET ROLE pgn_victim;
SELECT pigeon.alter_topic('ordered', archive_retention => '1 day');
SELECT pigeon.create_queue('ordered', fifo => true), pigeon.create_queue('unordered');
SELECT pigeon.subscribe('ordered', 'ordered') AS ordered, pigeon.subscribe('ordered', 'unordered') AS unordered \gset
SELECT pigeon.publish('ordered', 'good', group_id => 'a');
SELECT pigeon.purge_queue('ordered'), pigeon.purge_queue('unordered');
CREATE FUNCTION pg_temp.forge(archive text, subscription bigint, columns text, forged text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE format('INSERT INTO %s_0 (body, group_id, deduplication_id, subject, attributes, message_id, published_at, publisher) VALUES (%s)', archive, forged);
	PERFORM pigeon.replay(subscription, '-infinity', 'infinity');
	SELECT status || coalesce(' ' || failure_reason, '') INTO result FROM pigeon.replay_tasks ORDER BY task_id DESC LIMIT 1;
	RAISE EXCEPTION USING ERRCODE = 'OK000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'OK000' THEN result ELSE SQLSTATE END;
END $$;
SELECT is(pg_temp.forge(:'archive', subscription, '', forged), expected, forged || ' to a queue that is ' || what)
FROM (VALUES (:ordered, 'ordered'), (:unordered, 'not')) AS subscriptions (subscription, what),
	(VALUES
		($$'x', NULL, NULL, NULL, NULL, 1000, now(), 'x'$$, 'FAILED message 1000 was archived without a message group'),
		($$'x', '', NULL, NULL, NULL, 1000, now(), 'x'$$, 'FAILED message 1000 was archived without a message group'),
		($$'x', repeat('g', 1000), NULL, NULL, NULL, 1000, now(), 'x'$$, 'FAILED message 1000 was archived without a message group'),
		($$'', 'g', '', '', '{}', -1, '-infinity', ''$$, 'COMPLETED'),
		($$'x', 'g', '', E'\n', '{"a": {"b": 1}}', 1000, 'infinity', ''$$, '22023'),
		($$'x', 'g', '', '', '1', 1000, now(), ''$$, '22023'),
		($$repeat('x', 10000000), 'g', '', '', NULL, 1000, now(), ''$$, 'COMPLETED')) AS rows (forged, expected);
RESET ROLE;

-- Event triggers of superusers see what we do, and may refuse it
CREATE TABLE seen (tag text, identity text);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.seen SELECT command_tag, object_identity FROM pg_event_trigger_ddl_commands();
END $$;
CREATE EVENT TRIGGER see ON ddl_command_end EXECUTE FUNCTION see();
SELECT is(attempt('pgn_victim', $$SELECT pigeon.create_queue('watched', fifo => true), pigeon.alter_queue('watched', delay => '1 s'), pigeon.grant_access('watched', 'pgn_eve', '{send}'),
	pigeon.drop_queue('watched')$$), 'OK', 'with an event trigger that writes');
SELECT ok((SELECT count(*) FROM seen WHERE tag = 'CREATE TABLE') = 3, 'it sees the tables of a queue');
DROP EVENT TRIGGER see;
CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no' USING ERRCODE = 'P0042'; END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_end EXECUTE FUNCTION refuse();
SELECT is(attempt('pgn_victim', command), 'P0042', 'refused: ' || command)
FROM unnest(ARRAY[$$SELECT pigeon.create_queue('new')$$, $$SELECT pigeon.create_topic('new')$$, $$SELECT pigeon.grant_access('orders', 'pgn_eve', '{send}')$$,
	$$SELECT pigeon.alter_topic('sales', archive_retention => '0')$$]) AS command;
DROP EVENT TRIGGER refuse;
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = 'new'), 0::bigint, 'and nothing is left');

-- What a former reader can still do: read what he could read then, by the keys that he kept
SET ROLE pgn_victim;
SELECT pigeon.create_queue('kept');
SELECT pigeon.send('kept', 'then');
SELECT pigeon.grant_access('kept', 'pgn_eve', '{peek}');
SET ROLE pgn_eve;
SELECT queue_table AS kept FROM pigeon.queues WHERE queue = 'kept' \gset
CREATE TABLE eve.keys AS SELECT * FROM :kept;
SET ROLE pgn_victim;
SELECT pigeon.revoke_access('kept', 'pgn_eve', '{peek}');
SELECT pigeon.send('kept', 'now');
SET ROLE pgn_eve;
SELECT format('INSERT INTO %s SELECT * FROM eve.keys', :'eve') \gexec
SELECT format('INSERT INTO %s SELECT message_id + 1, log_key, enqueued_at, home, log_block, segment, log_offset, lane, due_at, received_at, lease, receive_count, visible_at, group_key, subscription, source, first_received_at, queue_receive_count FROM eve.keys', :'eve') \gexec
SELECT is((SELECT string_agg(body, ',') FROM pigeon.receive('eve', 10)), 'then', 'a kept key opens the message that it was for, and no other');
RESET ROLE;
SELECT * FROM finish();

DROP SCHEMA eve CASCADE;
DROP OWNED BY pgn_victim, pgn_eve, pgn_reader CASCADE;
DROP ROLE pgn_victim, pgn_eve, pgn_reader;
SELECT format('DROP OWNED BY %1$I; DROP ROLE %1$I', substr(name, 1, 20)) FROM nasty \gexec
