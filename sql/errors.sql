-- Every error that a caller can cause: SQLSTATE, message, detail, hint; and
-- that nothing was written.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pigeon;
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on

-- Run a command, return the error it raised, or its first column.
CREATE FUNCTION outcome(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	m text;
	d text;
	h text;
BEGIN
	EXECUTE command INTO result;
	RETURN 'OK ' || coalesce(result, 'NULL');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS m = MESSAGE_TEXT, d = PG_EXCEPTION_DETAIL, h = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || m || CASE WHEN d <> '' THEN E'\n  detail: ' || d ELSE '' END
		|| CASE WHEN h <> '' THEN E'\n  hint: ' || h ELSE '' END;
END $$;

SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('other');
SELECT pigeon.create_queue('small', max_message_size => 1024);

\echo == queue names
SELECT outcome($$SELECT pigeon.create_queue(NULL)$$);
SELECT outcome($$SELECT pigeon.create_queue('')$$);
SELECT outcome($$SELECT pigeon.create_queue(repeat('x', 81))$$);
SELECT outcome($$SELECT pigeon.create_queue('q')$$);
SELECT outcome($$SELECT pigeon.send('nobody', 'x')$$);
SELECT outcome($$SELECT pigeon.send(repeat('x', 1000), 'x')$$);
SELECT outcome($$SELECT pigeon.send(NULL, 'x'::text)$$);
SELECT outcome($$SELECT pigeon.receive('nobody')$$);
SELECT outcome($$SELECT pigeon.receive(NULL)$$);
SELECT outcome($$SELECT pigeon.pop('nobody')$$);
SELECT outcome($$SELECT pigeon.pop(NULL)$$);
SELECT outcome($$SELECT pigeon.peek('nobody')$$);
SELECT outcome($$SELECT pigeon.peek(NULL)$$);
SELECT outcome($$SELECT pigeon.delete('nobody', '1-1-1-1')$$);
SELECT outcome($$SELECT pigeon.delete(NULL, '1-1-1-1'::pigeon.receipt)$$);
SELECT outcome($$SELECT pigeon.change_visibility('nobody', '1-1-1-1', '1 s')$$);
SELECT outcome($$SELECT pigeon.alter_queue('nobody')$$);
SELECT outcome($$SELECT pigeon.alter_queue(NULL)$$);
SELECT outcome($$SELECT pigeon.drop_queue('nobody')$$);
SELECT outcome($$SELECT pigeon.drop_queue('nobody', if_exists => true)$$);
SELECT outcome($$SELECT pigeon.purge_queue('nobody')$$);
SELECT outcome($$SELECT pigeon.grant_access('nobody', 'postgres', '{send}')$$);
SELECT outcome($$SELECT pigeon.revoke_access('nobody', 'postgres', '{send}')$$);
SELECT outcome($$SELECT pigeon.redrive('nobody')$$);
SELECT outcome($$SELECT pigeon.redrive(NULL)$$);

\echo == attributes of queues
SELECT outcome(format('SELECT pigeon.create_queue(%L, %s)', 'bad', attributes))
FROM unnest(ARRAY[
	'visibility_timeout => ''-1 s''',
	'visibility_timeout => ''12 hours 1 s''',
	'visibility_timeout => ''100000000 years''',
	'delay => ''-1 us''',
	'delay => ''178000000 years''',
	'retention => ''59 s''',
	'retention => ''-1 day''',
	'retention => ''100000 years''',
	'wait_time => ''-1 s''',
	'max_message_size => 1023',
	'max_message_size => 536870913',
	'max_message_size => -1',
	'max_receive_count => 5',
	'dead_letter_queue => ''nobody''',
	'dead_letter_queue => ''bad''',
	'dead_letter_queue => repeat(''x'', 1000)',
	'dead_letter_queue => ''other'', max_receive_count => 0',
	'dead_letter_queue => ''other'', max_receive_count => -1',
	'content_based_deduplication => true',
	'deduplication_scope => ''message_group''',
	'deduplication_scope => ''nonsense''',
	'tags => ''[]''',
	'tags => ''"x"''',
	'tags => ''{"a": 1}''',
	'tags => ''{"a": null}''',
	'tags => ''{"a": {"b": "c"}}''',
	'tags => ''{"": "x"}''',
	'tags => jsonb_build_object(repeat(''k'', 129), ''x'')',
	'tags => jsonb_build_object(''k'', repeat(''x'', 257))',
	'tags => (SELECT jsonb_object_agg(i, ''x'') FROM generate_series(1, 51) i)',
	'redrive_allow_policy => ''{NULL}''',
	'redrive_allow_policy => ''{{a},{b}}'''
]) AS attributes;
SELECT outcome($$SELECT pigeon.create_queue(repeat('x', 57), notify => true)$$);
SELECT outcome($$SELECT pigeon.alter_queue('q', deduplication_scope => 'message_group')$$);
SELECT outcome($$SELECT pigeon.alter_queue('q', dead_letter_queue => 'q')$$);
SELECT outcome($$SELECT pigeon.alter_queue('q', max_receive_count => 3)$$);
SELECT outcome($$SELECT pigeon.alter_queue('q', retention => '1 s')$$);
SELECT outcome($$SELECT pigeon.create_queue('q', if_not_exists => true, delay => '5 s')$$);

\echo == bodies and attributes of messages
SELECT outcome($$SELECT pigeon.send('q', NULL::text)$$);
SELECT outcome($$SELECT pigeon.send('q', NULL::jsonb)$$);
SELECT outcome($$SELECT pigeon.send('q', '')$$);
SELECT outcome($$SELECT pigeon.send('q', E'a\x01')$$);
SELECT outcome($$SELECT pigeon.send('q', E'abcdefghijklmnop\x1fqrstuvwxyz')$$);
SELECT outcome($$SELECT pigeon.send('q', E'\uFFFE')$$);
SELECT outcome($$SELECT pigeon.send('q', E'12345678\uFFFF')$$);
SELECT outcome($$SELECT pigeon.send('small', repeat('x', 1025))$$);
SELECT outcome($$SELECT pigeon.send('small', repeat('x', 1009), '{"name": "value6"}')$$);
SELECT outcome(format('SELECT pigeon.send(%L, %L, %s)', 'q', 'body', attributes))
FROM unnest(ARRAY[
	'''[]''',
	'''"x"''',
	'''null''',
	'(SELECT jsonb_object_agg(i, i) FROM generate_series(1, 11) i)',
	'''{"": 1}''',
	'jsonb_build_object(repeat(''n'', 257), 1)',
	'''{"a b": 1}''',
	'''{"ä": 1}''',
	'''{".a": 1}''',
	'''{"a.": 1}''',
	'''{"a..b": 1}''',
	'''{"aws.x": 1}''',
	'''{"AMAZON.x": 1}''',
	'''{"a": ""}''',
	'''{"a": true}''',
	'''{"a": null}''',
	'''{"a": {}}''',
	'''{"a": {"binary": 1}}''',
	'''{"a": {"binary": ""}}''',
	'''{"a": {"binary": "$$"}}''',
	'''{"a": {"binary": "AAAA", "x": 1}}''',
	'''{"a": [[1]]}''',
	'''{"a": [{"b": 1}]}''',
	'''{"a": 1e127}''',
	'''{"a": 1e-129}''',
	'''{"a": 123456789012345678901234567890123456789}''',
	'jsonb_build_object(''a'', E''\x02'')',
	'jsonb_build_object(''a'', jsonb_build_array(E''\x02''))'
]) AS attributes;
SELECT outcome($$SELECT pigeon.send('q', 'x', delay => '-1 s')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', delay => '178000000 years')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', group_id => '')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', group_id => 'a b')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', group_id => repeat('g', 129))$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', group_id => 'ä')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x', deduplication_id => 'd')$$);

\echo == batches
SELECT outcome($$SELECT pigeon.send_batch('q', NULL::text[])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', NULL])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', ''])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY[['a'], ['b']])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', 'b'], ARRAY['{}']::jsonb[])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', 'b'], '{}'::jsonb[])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', 'b'], group_ids => '{g}')$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['a', 'b'], deduplication_ids => '{d}')$$);
SELECT outcome($$SELECT pigeon.send_batch('q', ARRAY['1', '"a\u0001"']::jsonb[], ARRAY['{}', '[]']::jsonb[])$$);
SELECT outcome($$SELECT pigeon.send_batch('small', ARRAY['a', repeat('x', 1025)])$$);
SELECT outcome($$SELECT pigeon.send_batch('q', '{}'::text[])$$);

\echo == receiving
SELECT outcome($$SELECT pigeon.receive('q', 0)$$);
SELECT outcome($$SELECT pigeon.receive('q', -1)$$);
SELECT outcome($$SELECT pigeon.receive('q', 100001)$$);
SELECT outcome($$SELECT pigeon.receive('q', 1, '-1 s')$$);
SELECT outcome($$SELECT pigeon.receive('q', 1, '12 hours 1 us')$$);
SELECT outcome($$SELECT pigeon.receive('q', 1, wait_time => '-1 s')$$);
SELECT outcome($$SELECT pigeon.receive('q', 1, wait_time => '1000000 years')$$);
SELECT outcome($$SELECT pigeon.pop('q', 0)$$);
SELECT outcome($$SELECT pigeon.peek('q', 0)$$);

\echo == receipts
SELECT outcome(format('SELECT %L::pigeon.receipt', receipt))
FROM unnest(ARRAY['', 'x', '1', '1-2', '1-2-3', '1-2-3-', '1-2-3-g', '1-2-3-F', '01-2-3-4', '1-02-3-4',
	'-1-2-3-4', '1--2-3-4', ' 1-2-3-4', '1-2-3-4 ', '1-2-3-4-5', '2147483648-2-3-4',
	'1-9223372036854775808-3-4', '1-2-2147483648-4', '1-2-3-100000000', '1-2-3-00',
	'2147483647-9223372036854775807-2147483647-ffffffff', '0-0-0-0']) AS receipt;
SELECT outcome($$SELECT pigeon.delete('q', NULL::pigeon.receipt)$$);
SELECT outcome($$SELECT pigeon.delete('q', NULL::pigeon.receipt[])$$);
SELECT outcome($$SELECT pigeon.delete('q', '{NULL}'::pigeon.receipt[])$$);
SELECT outcome($$SELECT pigeon.delete('q', '{1-2-3-4,rubbish}'::pigeon.receipt[])$$);
SELECT outcome($$SELECT pigeon.delete('q', '1-2-3-rubbish')$$);
SELECT outcome($$SELECT pigeon.delete('q', '999-1-999-1')$$);
SELECT outcome($$SELECT pigeon.delete('q', '{}'::pigeon.receipt[])$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', NULL::pigeon.receipt, '1 s')$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', '1-2-3-4', NULL)$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', '999-1-999-1', '1 s')$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', '1-1-1-1', '-1 s')$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', '{NULL}'::pigeon.receipt[], '1 s')$$);

\echo == rights and redrive
SELECT outcome($$SELECT pigeon.grant_access('q', 'postgres', '{}')$$);
SELECT outcome($$SELECT pigeon.grant_access('q', 'postgres', '{read}')$$);
SELECT outcome($$SELECT pigeon.grant_access('q', 'postgres', '{NULL}')$$);
SELECT outcome($$SELECT pigeon.grant_access('q', 'nobody of this name', '{send}')$$);
SELECT outcome($$SELECT pigeon.redrive('q')$$);
SELECT outcome($$SELECT pigeon.redrive('q', max_per_second => 0)$$);
SELECT outcome($$SELECT pigeon.redrive('q', 'nobody')$$);
SELECT outcome($$SELECT pigeon.redrive('q', 'q')$$);
SELECT outcome($$SELECT pigeon.cancel_redrive(0)$$);

\echo == where nothing may be written
BEGIN READ ONLY;
SELECT outcome($$SELECT pigeon.create_queue('r')$$);
SELECT outcome($$SELECT pigeon.alter_queue('q')$$);
SELECT outcome($$SELECT pigeon.drop_queue('q')$$);
SELECT outcome($$SELECT pigeon.purge_queue('q')$$);
SELECT outcome($$SELECT pigeon.grant_access('q', 'postgres', '{send}')$$);
SELECT outcome($$SELECT pigeon.send('q', 'x')$$);
SELECT outcome($$SELECT pigeon.send_batch('q', '{x}'::text[])$$);
SELECT outcome($$SELECT pigeon.receive('q')$$);
SELECT outcome($$SELECT pigeon.pop('q')$$);
SELECT outcome($$SELECT pigeon.delete('q', '1-1-1-1')$$);
SELECT outcome($$SELECT pigeon.change_visibility('q', '1-1-1-1', '1 s')$$);
SELECT outcome($$SELECT pigeon.redrive('q')$$);
SELECT outcome($$SELECT pigeon.cancel_redrive(1)$$);
SELECT outcome($$SELECT pigeon.peek('q')$$);
ROLLBACK;

\echo == nothing was written
SELECT queue FROM pigeon.queues ORDER BY queue;
SELECT count(*) FROM pigeon.peek('q');
SELECT count(*) FROM pigeon.log_0;

SELECT pigeon.drop_queue(queue) FROM pigeon.queues;
DROP FUNCTION outcome;
