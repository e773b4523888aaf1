-- Queues: attributes and their bounds, names, if_not_exists, alter, tags, the redrive allow policy.
BEGIN;
SELECT plan(75);

-- What the view says of a queue, as one row of text.
CREATE FUNCTION attributes(name text) RETURNS text LANGUAGE sql AS $$
	SELECT (fifo, visibility_timeout, delay, retention, wait_time, max_message_size, dead_letter_queue, max_receive_count,
		redrive_allow_policy, content_based_deduplication, deduplication_scope, notify, tags)::text
	FROM pigeon.queues WHERE queue = name $$;

-- Defaults and bounds
SELECT lives_ok($$SELECT pigeon.create_queue('plain')$$, 'a queue is created');
SELECT is(attributes('plain'), '(f,00:00:30,00:00:00,"4 days",00:00:00,1048576,,,{*},f,queue,f,{})', 'with the defaults of SQS');
SELECT lives_ok($$SELECT pigeon.create_queue('null', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)$$,
	'NULL attributes are like none');
SELECT is(attributes('null'), attributes('plain'), 'and mean the defaults');
SELECT lives_ok($$SELECT pigeon.create_queue('least', visibility_timeout => '0', delay => '0', retention => '60 s', wait_time => '0',
	max_message_size => 1024)$$, 'lowest values are taken');
SELECT is(attributes('least'), '(f,00:00:00,00:00:00,00:01:00,00:00:00,1024,,,{*},f,queue,f,{})', 'and kept');
SELECT lives_ok($$SELECT pigeon.create_queue('most', visibility_timeout => '12 hours', delay => '60000 years', retention => '60000 years',
	wait_time => '60000 years', max_message_size => 536870912, dead_letter_queue => 'plain', max_receive_count => 2147483647,
	redrive_allow_policy => '{a,b}', notify => true,
	tags => (SELECT jsonb_object_agg(i || repeat('k', 126), repeat('v', 256)) FROM generate_series(10, 59) i))$$, 'highest values are taken');
SELECT is((SELECT max_receive_count FROM pigeon.queues WHERE queue = 'most'), 2147483647, 'max_receive_count is kept');
SELECT is((SELECT delay FROM pigeon.queues WHERE queue = 'most'), interval '21600000 days', 'a delay of 60000 years is kept');
SELECT is((SELECT count(*) FROM pigeon.queues, jsonb_object_keys(tags) WHERE queue = 'most'), 50::bigint, 'fifty tags are kept');
SELECT lives_ok($$SELECT pigeon.send('most', 'x')$$, 'a delay of 60000 years can be sent with');
SELECT is((SELECT count(*) FROM pigeon.peek('most') WHERE visible_at > '50000-01-01'), 1::bigint, 'and counts');
SELECT lives_ok($$SELECT pigeon.create_queue('month', retention => '1 month')$$, 'a month');
SELECT is((SELECT retention FROM pigeon.queues WHERE queue = 'month'), interval '30 days', 'has 30 days');
SELECT lives_ok($$SELECT pigeon.create_queue('mixed', delay => '1 day -23:59:59')$$, 'an interval of mixed signs');
SELECT is((SELECT delay FROM pigeon.queues WHERE queue = 'mixed'), interval '1 s', 'is its sum');
SELECT throws_ok($$SELECT pigeon.create_queue('less', delay => interval '1000000 days -24000000:00:00.000001')$$, '22023',
	'delay must not be negative', 'a sum that is hardly negative');
SELECT lives_ok($$SELECT pigeon.create_queue('micro', delay => '0.000001 s')$$, 'a microsecond');
SELECT is((SELECT delay FROM pigeon.queues WHERE queue = 'micro'), interval '0.000001 s', 'is kept');

-- Names
SELECT lives_ok(format('SELECT pigeon.create_queue(%L)', name), 'a queue may be called ' || translate(quote_literal(left(name, 12)), E'\n', ' '))
FROM (VALUES (repeat('𝄞', 80)), ('x'), (' '), ('''"; DROP TABLE pigeon.queue; --'), (E'two\nlines\t\\'), ('*'), ('%s%n'), ('q_1'), ('NULL'),
	('Ünïcode'), ('a.fifo')) AS names (name);
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = repeat('𝄞', 80)), 1::bigint, 'eighty characters of four bytes are kept');
SELECT lives_ok($$SELECT pigeon.send(repeat('𝄞', 80), 'x')$$, 'such a queue is sent to');
SELECT is((SELECT body FROM pigeon.pop(repeat('𝄞', 80))), 'x', 'and received from');
SELECT throws_ok($$SELECT pigeon.create_queue(repeat('𝄞', 81))$$, '22023', NULL, 'eighty-one are refused');
SELECT throws_ok($$SELECT pigeon.send(repeat('𝄞', 81), 'x')$$, '42704', NULL, 'and unknown');
SELECT throws_ok($$SELECT pigeon.send('X', 'x')$$, '42704', NULL, 'names are case-sensitive');
SELECT ok(pigeon.drop_queue(queue), 'a queue of any name can be dropped') FROM pigeon.queues WHERE queue IN (' ', '*', E'two\nlines\t\\');
SELECT lives_ok($$SELECT pigeon.create_queue(repeat('x', 56), notify => true)$$, 'notify with the longest channel name');
SELECT throws_ok($$SELECT pigeon.alter_queue(repeat('𝄞', 80), notify => true)$$, '22023', NULL, 'notify needs a short name');

-- if_not_exists compares what is given
SELECT pigeon.create_queue('twice', visibility_timeout => '45 s', dead_letter_queue => 'plain', tags => '{"a": "b"}',
	redrive_allow_policy => '{x}');
SELECT lives_ok($$SELECT pigeon.create_queue('twice', if_not_exists => true)$$, 'if_not_exists without attributes');
SELECT lives_ok($$SELECT pigeon.create_queue('twice', if_not_exists => true, visibility_timeout => '45000 ms', tags => '{"a":"b"}',
	redrive_allow_policy => '{x}', dead_letter_queue => 'plain', max_receive_count => 10, fifo => false, deduplication_scope => 'queue')$$,
	'if_not_exists with the same attributes');
SELECT throws_ok(format('SELECT pigeon.create_queue(%L, if_not_exists => true, %s)', 'twice', argument), '42710',
	format('queue "twice" already exists with another %s', split_part(argument, ' ', 1)), 'if_not_exists names ' || argument)
FROM unnest(ARRAY['visibility_timeout => ''30 s''', 'delay => ''1 s''', 'retention => ''1 day''', 'wait_time => ''1 s''',
	'max_message_size => 2048', 'dead_letter_queue => ''least''', 'max_receive_count => 11', 'notify => true', 'tags => ''{}''',
	'redrive_allow_policy => ''{y}''', 'fifo => true']) AS argument;
SELECT throws_ok($$SELECT pigeon.create_queue('twice')$$, '42710', NULL, 'without if_not_exists it is an error');

-- alter_queue
SELECT lives_ok($$SELECT pigeon.alter_queue('twice')$$, 'alter_queue without attributes');
SELECT is(attributes('twice'), '(f,00:00:45,00:00:00,"4 days",00:00:00,1048576,plain,10,{x},f,queue,f,"{""a"": ""b""}")', 'changes nothing');
SELECT pigeon.alter_queue('twice', visibility_timeout => '1 s', delay => '2 s', retention => '3 days', wait_time => '4 s',
	max_message_size => 5000, max_receive_count => 6, notify => true, tags => '{}', redrive_allow_policy => '{}');
SELECT is(attributes('twice'), '(f,00:00:01,00:00:02,"3 days",00:00:04,5000,plain,6,{},f,queue,t,{})', 'alter_queue changes what is given');
SELECT pigeon.alter_queue('twice', dead_letter_queue => '');
SELECT is(attributes('twice'), '(f,00:00:01,00:00:02,"3 days",00:00:04,5000,,,{},f,queue,t,{})', 'an empty dead_letter_queue clears max_receive_count');

-- The redrive allow policy
SELECT throws_ok($$SELECT pigeon.create_queue('source', dead_letter_queue => 'twice')$$, '42501', NULL, 'an empty redrive allow policy allows nobody');
SELECT pigeon.alter_queue('twice', redrive_allow_policy => '{elsewhere,source}');
SELECT lives_ok($$SELECT pigeon.create_queue('source', dead_letter_queue => 'twice')$$, 'who is in the policy may');
SELECT throws_ok($$SELECT pigeon.alter_queue('null', dead_letter_queue => 'twice')$$, '42501', NULL, 'who is not may not');
SELECT lives_ok($$SELECT pigeon.alter_queue('twice', redrive_allow_policy => '{}')$$, 'the policy may change later');
SELECT lives_ok($$SELECT pigeon.alter_queue('source', delay => '1 s')$$, 'which does not touch those who name the queue already');

-- Dropping
SELECT ok(pigeon.drop_queue('source'), 'a queue is dropped');
SELECT ok(NOT pigeon.drop_queue('source', if_exists => true), 'if_exists says that there was none');
SELECT throws_ok($$SELECT pigeon.drop_queue('source')$$, '42704', NULL, 'and without it is an error');
SELECT lives_ok($$SELECT pigeon.create_queue('source')$$, 'the name is free again');
SELECT is((SELECT count(*) FROM pigeon.peek('source')), 0::bigint, 'for an empty queue');
SELECT is((SELECT bool_and(pigeon.drop_queue(queue)) FROM pigeon.queues), true, 'all queues can be dropped in one statement');
-- What a queue has is not checked against a setting of today.
SET LOCAL pigeon.max_visibility = '2 d';
SELECT pigeon.create_queue('hidden long', visibility_timeout => '1 day');
RESET pigeon.max_visibility;
SELECT lives_ok($$SELECT pigeon.alter_queue('hidden long', wait_time => '5 s')$$, 'another attribute is changed');
SELECT lives_ok($$SELECT pigeon.create_queue('hidden long', wait_time => '5 s', if_not_exists => true)$$, 'it exists');
SELECT throws_ok($$SELECT pigeon.alter_queue('hidden long', visibility_timeout => '1 day')$$, '22023', NULL, 'what is asked for is checked');
SELECT pigeon.create_queue('of another kind', fifo => true, content_based_deduplication => true);
SELECT throws_ok($$SELECT pigeon.create_queue('of another kind', fifo => false, if_not_exists => true)$$, '42710', 'queue "of another kind" already exists with another fifo', 'a queue of another kind');
-- NULL is an argument that was not given.
SELECT count(*) FROM pigeon.send_batch('hidden long', ARRAY['one', 'two', 'three', 'four']);
SELECT results_eq($$SELECT (SELECT count(*) FROM pigeon.peek('hidden long', NULL)), (SELECT count(*) FROM pigeon.receive('hidden long', NULL)), (SELECT count(*) FROM pigeon.pop('hidden long', NULL))$$,
	$$VALUES (4::bigint, 1::bigint, 1::bigint)$$, 'max_messages has its default');
SELECT * FROM finish();
ROLLBACK;
