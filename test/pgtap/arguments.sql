-- Every argument of every function with NULL, empty, huge, negative and otherwise bad values: alone with the others good, and
-- at random together. The calls come from the catalog, so a new function is tried as well. Each call succeeds or fails with an
-- error that says what is wrong with an argument, never with an internal one, and it takes no time worth speaking of.
SELECT * FROM no_plan();
SET client_min_messages = error;
SET statement_timeout = '300 s';
SET pigeon.poll_interval = 1;

SELECT pigeon.create_queue('dead'), pigeon.create_queue('dead fifo', fifo => true);
SELECT pigeon.create_queue('q', dead_letter_queue => 'dead'), pigeon.create_queue('fifo', fifo => true, dead_letter_queue => 'dead fifo', content_based_deduplication => true);
SELECT pigeon.create_topic('t', archive_retention => '1 day'), pigeon.create_topic('fifo', fifo => true, archive_retention => '1 day');
SELECT pigeon.subscribe('t', 'q'), pigeon.subscribe('fifo', 'fifo');
SELECT count(pigeon.send('q', 'x')), count(pigeon.send('fifo', 'x ' || n, group_id => 'g')) FROM generate_series(1, 50) AS n;
SELECT pigeon.publish('t', 'x'), pigeon.publish('fifo', 'x', group_id => 'g', deduplication_id => 'd');
CREATE TABLE source (a integer PRIMARY KEY, b text);
CREATE VIEW seen AS SELECT 1 AS a;

-- Values to try for a type, as SQL.
CREATE TABLE value (type text, value text);
INSERT INTO value
	SELECT type, 'NULL' FROM unnest('{text,boolean,integer,bigint,interval,jsonb,name,regclass,"timestamp with time zone",pigeon.receipt,
		text[],jsonb[],name[],integer[],pigeon.receipt[]}'::text[]) AS type
	UNION ALL SELECT 'text', value FROM unnest(ARRAY[$$''$$, $$' '$$, $$'*'$$, $$'q'$$, $$'fifo'$$, $$'t'$$, $$'nothing'$$, $$'json'$$, $$'body'$$, $$'insert'$$, $$repeat('x', 80)$$,
		$$repeat('x', 81)$$, $$repeat('x', 128)$$, $$repeat('x', 129)$$, $$repeat('ü', 80)$$, $$repeat('😀', 81)$$, $$repeat('x', 1100000)$$, $$repeat('[', 10000)$$,
		$$repeat('{"a":', 10000) || '1' || repeat('}', 10000)$$, $$'{"default": "x"}'$$, $$'{"default": 1}'$$, $$E'a\tb\nc'$$, $$E'\x01'$$, $$E'\x7f'$$, $$E'\uFFFE'$$, $$E'\U0010FFFF'$$, $$'%s%n'$$,
		$$'NaN'$$, $$'1-1-1-1'$$, $$'''; --'$$]) AS value
	UNION ALL SELECT 'boolean', value FROM unnest('{true,false}'::text[]) AS value
	UNION ALL SELECT type, value FROM unnest('{integer,bigint}'::text[]) AS type, unnest('{0,1,-1,2,10,1000000,2147483647,-2147483648}'::text[]) AS value
	UNION ALL SELECT 'bigint', value FROM unnest('{2147483648,-2147483649,9223372036854775807,-9223372036854775808}'::text[]) AS value
	UNION ALL SELECT 'interval', format('interval %L', value) FROM unnest('{0,1 us,-1 us,30 s,59.999999 s,60 s,-1 day,1 mon -31 days,1 day -25 hours,178000000 years,-178000000 years,
		2147483647 days,-2147483648 days,2147483647 hours,2147483647 mons 2147483647 days 2147483647 hours}'::text[]) AS value
	UNION ALL SELECT 'interval', $$make_interval(secs => 9223372036854)$$
	UNION ALL SELECT 'jsonb', value || '::jsonb' FROM unnest(ARRAY[$$'null'$$, $$'{}'$$, $$'[]'$$, $$'1'$$, $$'"x"'$$, $$'""'$$, $$'true'$$, $$'{"": 1}'$$, $$'{"a": null}'$$, $$'{"a": 1e131000}'$$,
		$$'{"a": 1e-10000}'$$, $$'{"a": "x"}'$$, $$'{"a": [1]}'$$, $$'{"a": [[[]]]}'$$, $$'{"a": {"binary": "AA=="}}'$$, $$'{"a": {"binary": "!"}}'$$, $$'{"a": [{"prefix": "x"}]}'$$, $$'{"$or": []}'$$,
		$$('{"a": "' || repeat('x', 1100000) || '"}')$$, $$(repeat('[', 2000) || repeat(']', 2000))$$, $$(repeat('{"a":', 2000) || '["x"]' || repeat('}', 2000))$$,
		$$('{' || (SELECT string_agg(format('"%s": "x"', n), ', ') FROM generate_series(1, 60) n) || '}')$$,
		$$('{"$or": [' || (SELECT string_agg(format('{"a": ["%s"], "b": ["%s"]}', n, n), ', ') FROM generate_series(1, 1000) n) || ']}')$$,
		$$('{"a": [' || (SELECT string_agg(format('{"wildcard": "*%s*"}', n), ', ') FROM generate_series(1, 1000) n) || ']}')$$]) AS value
	UNION ALL SELECT 'name', value FROM unnest(ARRAY[$$''$$, $$'public'$$, $$'postgres'$$, $$'nobody'$$, $$'a'$$, $$'ctid'$$, $$repeat('x', 63)$$]) AS value
	UNION ALL SELECT 'regclass', value FROM unnest('{0,1,1259,4294967295,''seen'',''source'',''source_pkey'',''pigeon.queue'',''pigeon.message_id_seq'',''pigeon.q_1'',''pigeon.t_5''}'::text[]) AS value
	UNION ALL SELECT 'timestamp with time zone', format('timestamptz %L', value) FROM unnest('{infinity,-infinity,4713-01-01 BC,294276-12-31,now,epoch}'::text[]) AS value
	UNION ALL SELECT 'pigeon.receipt', format('%L::pigeon.receipt', value) FROM unnest('{0-0-0-0,1-1-1-1,3-1-3-0,4-2-4-1,2147483647-9223372036854775807-2147483647-ffffffff}'::text[]) AS value;
INSERT INTO value
	SELECT a.type || '[]', format(a.form, v.value, a.type)
	FROM (SELECT type, form FROM unnest('{text,jsonb,name,integer,pigeon.receipt}'::text[]) AS type, unnest(ARRAY['ARRAY[%s]::%s[]', 'ARRAY[NULL, %s]::%s[]']) AS form) AS a
	JOIN value v ON v.type = a.type WHERE length(v.value) < 60
	UNION ALL
	SELECT type || '[]', format(form, type)
	FROM unnest('{text,jsonb,name,integer,pigeon.receipt}'::text[]) AS type, unnest(ARRAY['ARRAY[]::%s[]', 'ARRAY[[NULL, NULL], [NULL, NULL]]::%s[]', '''[5:6]={NULL,NULL}''::%s[]', 'array_fill(NULL::%s, ARRAY[20000])']) AS form
	UNION ALL SELECT type, value FROM (VALUES ('text[]', '''[-3:-2]={x,y}''::text[]'), ('text[]', '''{send,publish}''::text[]'), ('text[]', '''{"*"}''::text[]'), ('text[]', '''{{a,b},{c,d}}''::text[]'),
		('text[]', 'array_fill(''x''::text, ARRAY[20000])')) AS arrays (type, value);

-- A value that is good for an argument, if it needs one.
CREATE FUNCTION good(argument text, type text, fifo boolean) RETURNS text LANGUAGE sql AS $$
	SELECT CASE
		WHEN argument IN ('queue', 'destination') THEN CASE WHEN fifo THEN '''fifo''' ELSE '''q''' END
		WHEN argument = 'dead_letter_queue' THEN CASE WHEN fifo THEN '''dead fifo''' ELSE '''dead''' END
		WHEN argument = 'topic' THEN CASE WHEN fifo THEN '''fifo''' ELSE '''t''' END
		WHEN argument = 'queue_or_topic' THEN '''q'''
		WHEN argument = 'body' AND type = 'jsonb' THEN '''{"x": 1}''::jsonb'
		WHEN argument = 'body' THEN '''x'''
		WHEN argument = 'bodies' AND type = 'jsonb[]' THEN '''{1,2}''::jsonb[]'
		WHEN argument = 'bodies' THEN '''{x,y}''::text[]'
		WHEN argument = 'group_id' AND fifo THEN '''g'''
		WHEN argument = 'group_ids' AND fifo THEN '''{g,h}''::text[]'
		WHEN argument = 'group_by' AND fifo THEN '''a'''
		WHEN argument IN ('receipt', 'receipts') THEN format(CASE type WHEN 'pigeon.receipt' THEN '%L::pigeon.receipt' ELSE 'ARRAY[%L]::pigeon.receipt[]' END, CASE WHEN fifo THEN '4-2-4-1' ELSE '3-1-3-1' END)
		WHEN argument = 'subscription_id' THEN CASE WHEN fifo THEN '8' ELSE '7' END
		WHEN argument IN ('task_id', 'message_id', 'queue_id', 'topic_id', 'microseconds', 'max_messages') THEN '1'
		WHEN argument = 'filter_policy' THEN '''{"a": ["b"]}''::jsonb'
		WHEN argument = 'visibility_timeout' THEN '''0 s''::interval'
		WHEN argument IN ('wait_time') THEN '''0 s''::interval'
		WHEN argument = 'grantee' THEN '''public'''
		WHEN argument = 'actions' THEN '''{send}''::text[]'
		WHEN argument = 'source' THEN '''source'''
		WHEN argument = 'events' THEN '''insert'''
		WHEN argument = 'from_time' THEN 'now()'
		WHEN argument IN ('name', 'cron', 'command') THEN '''x'''
		WHEN argument = 'filter_scope' THEN '''body'''
		WHEN argument = '' AND type = 'pigeon.receipt' THEN '''1-1-1-1''::pigeon.receipt'
		ELSE 'NULL' END $$;

-- Every argument that can be passed in SQL.
CREATE TABLE argument AS
	SELECT p.oid::regprocedure AS function, prokind = 'p' AS procedure, proretset AS set, place, coalesce(p.proargnames[place], '') AS name, format_type(type, NULL) AS type
	FROM pg_proc p, unnest(p.proargtypes::oid[]) WITH ORDINALITY AS types (type, place)
	WHERE pronamespace = 'pigeon'::regnamespace
	AND proname NOT IN ('receipt_in', 'receipt_recv');
SELECT is_empty('SELECT DISTINCT type FROM argument WHERE type NOT IN (SELECT type FROM value)', 'there are values for all types of arguments');
CREATE FUNCTION call(function regprocedure, arguments text[]) RETURNS text LANGUAGE sql AS $$
	SELECT format(CASE WHEN prokind = 'p' THEN 'CALL pigeon.%I(%s)' ELSE 'SELECT count(*) FROM pigeon.%I(%s)' END, proname, array_to_string(arguments, ', ')) FROM pg_proc WHERE oid = function $$;
CREATE FUNCTION try(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN '00000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- One bad value each, and 100 calls with random values of each function. Waiting for long is no error, so there is none.
SELECT setseed(0.42);
CREATE TABLE trial AS
	SELECT a.function, call(a.function, array_agg(CASE WHEN b.place = a.place THEN format('%s::%s', v.value, a.type) ELSE format('%s::%s', good(b.name, b.type, fifo), b.type) END ORDER BY b.place)) AS command
	FROM argument a JOIN value v USING (type) JOIN argument b ON b.function = a.function, (VALUES (false), (true)) AS kinds (fifo)
	GROUP BY a.function, a.place, v.value, fifo
	UNION ALL
	SELECT function, call(function, array_agg(value ORDER BY place))
	FROM (SELECT function, round, a.place, format('%s::%s', CASE WHEN random() < 0.5 THEN good(name, a.type, round % 2 = 0)
			ELSE (SELECT value FROM value v WHERE v.type = a.type ORDER BY random(), length(a.name) + round LIMIT 1) END, a.type) AS value
		  FROM argument a, generate_series(1, 100) AS round) AS random
	GROUP BY function, round;
DELETE FROM trial WHERE command ~ 'wait_time' OR command ~ '(receive|wait_for_message)\(.*(30 s|59.9|60 s)';
ALTER TABLE trial ADD COLUMN sqlstate text, ADD COLUMN took interval, ADD COLUMN wrote boolean;

CREATE PROCEDURE run() LANGUAGE plpgsql AS $$
DECLARE
	t record;
	result text;
	start timestamptz;
BEGIN
	FOR t IN SELECT ctid, command FROM trial ORDER BY function::text COLLATE "C", command COLLATE "C" LOOP
		start := clock_timestamp();
		result := try(t.command);
		UPDATE trial SET sqlstate = result, took = clock_timestamp() - start, wrote = pg_current_xact_id_if_assigned() IS NOT NULL WHERE ctid = t.ctid;
		COMMIT;
	END LOOP;
END $$;
CALL run();

-- 22xxx bad value, 2200x null, 42501 no right, 42703 and 42704 unknown, 42710 exists, 42809 wrong kind, 42P01 no such table,
-- 54xxx too much, 55000 wrong state. 42601 is a condition that is no expression, 42804 one that is no boolean.
SELECT is((SELECT string_agg(sqlstate || ' ' || left(command, 300), E'\n') FROM (SELECT * FROM trial WHERE function = f.function
		AND sqlstate !~ '^(00000|22...|42501|42601|42703|42704|42710|42804|42809|42P01|54...|55000)$' LIMIT 5) AS bad), NULL, 'all calls of ' || f.function)
FROM (SELECT DISTINCT function FROM trial) AS f ORDER BY f.function::text COLLATE "C";
SELECT is((SELECT string_agg(took || ' ' || left(command, 300), E'\n') FROM trial WHERE took > '10 s'), NULL, 'no call takes long');
SELECT cmp_ok((SELECT count(*) FROM trial), '>', 8000::bigint, 'a few thousand calls were made');
SELECT is((SELECT string_agg(function::text, ', ') FROM (SELECT function FROM trial WHERE function::text !~ 'schedule_'
	GROUP BY function HAVING NOT bool_or(sqlstate = '00000')) AS never), NULL,
	'every function was called with success at least once, but those that need pg_cron');
-- Publishers are given a transaction id at once; a replay waits for them by it.
SELECT is((SELECT string_agg(DISTINCT function || ' ' || sqlstate, E'\n') FROM trial WHERE sqlstate <> '00000' AND wrote AND function::text !~ '^pigeon.publish(_batch)?\('), NULL,
	'what fails has written nothing');
SELECT is_empty('SELECT * FROM pigeon.check()', 'nothing is damaged');
SELECT * FROM finish();
