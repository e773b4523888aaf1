-- FIFO queues: deduplication, dead letters, redrive, retention, purge and drop.
BEGIN;
SELECT plan(89);

CREATE FUNCTION queue_id(name text) RETURNS integer LANGUAGE sql AS $$ SELECT id FROM pigeon.queue q WHERE q.name = queue_id.name $$;
CREATE FUNCTION bodies(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(body, ' '), '') FROM pigeon.receive(queue, 10, '0') $$;
-- Makes what is remembered of a queue's messages older.
CREATE FUNCTION age_keys(queue text, age interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE pigeon.d_%s SET expires_at = expires_at - $1', queue_id(queue)) USING age;
END $$;

-- Attributes
SELECT lives_ok($$SELECT pigeon.create_queue('ids', fifo => true)$$, 'a FIFO queue');
SELECT is((SELECT (fifo, content_based_deduplication, deduplication_scope, deduplication_window)::text FROM pigeon.queues WHERE queue = 'ids'),
	'(t,f,queue,00:05:00)', 'with the defaults of SQS');
SELECT throws_ok($$SELECT pigeon.create_queue('x', deduplication_window => '1 min')$$, '22023', NULL, 'only FIFO queues have a deduplication_window');
SELECT throws_ok($$SELECT pigeon.create_queue('x', content_based_deduplication => true)$$, '22023', NULL, 'only FIFO queues deduplicate by content');
SELECT throws_ok($$SELECT pigeon.create_queue('x', fifo => true, deduplication_window => '0')$$, '22023', NULL, 'the window is not empty');
SELECT throws_ok($$SELECT pigeon.alter_queue('ids', deduplication_scope => 'message_group')$$, '22023', NULL, 'the scope is fixed');
SELECT throws_ok($$SELECT pigeon.create_queue('ids', fifo => false, if_not_exists => true)$$, '42710', NULL, 'the kind is fixed');
SELECT lives_ok($$SELECT pigeon.create_queue('content', fifo => true, content_based_deduplication => true)$$, 'deduplication by content');
SELECT lives_ok($$SELECT pigeon.create_queue('groups', fifo => true, deduplication_scope => 'message_group')$$, 'deduplication by group');

-- Deduplication ids
CREATE TEMP TABLE first AS SELECT pigeon.send('ids', 'one', group_id => 'a', deduplication_id => '1') AS id;
SELECT is(pigeon.send('ids', 'two', group_id => 'a', deduplication_id => '1'), (SELECT id FROM first), 'a duplicate returns the first message_id');
SELECT is(pigeon.send('ids', 'three', group_id => 'b', deduplication_id => '1'), (SELECT id FROM first), 'in another group too');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('ids')), 'one', 'and is not stored');
SELECT isnt(pigeon.send('ids', 'one', group_id => 'a', deduplication_id => '2'), (SELECT id FROM first), 'the body does not count');
SELECT is((SELECT count(DISTINCT id) FROM pigeon.send_batch('ids', '{x,y,z}'::text[], group_ids => '{a,a,b}', deduplication_ids => '{3,3,3}') AS id), 1::bigint,
	'duplicates within a batch');
SELECT is((SELECT array_agg(id = (SELECT id FROM first)) FROM pigeon.send_batch('ids', '{n,o,p}'::text[], group_ids => '{a,a,a}', deduplication_ids => '{4,1,5}') AS id),
	'{f,t,f}', 'answers are in the order of the batch');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.pop('ids', 100)), 'one one x n p', 'each is stored once');
SELECT is(pigeon.send('ids', 'again', group_id => 'a', deduplication_id => '1'), (SELECT id FROM first), 'the memory survives delete');
SELECT age_keys('ids', '290 s');
SELECT is(pigeon.send('ids', 'again', group_id => 'a', deduplication_id => '1'), (SELECT id FROM first), 'for five minutes');
SELECT age_keys('ids', '11 s');
SELECT isnt(pigeon.send('ids', 'again', group_id => 'a', deduplication_id => '1'), (SELECT id FROM first), 'and no longer');
SELECT is((SELECT count(*) FROM pigeon.pop('ids', 100)), 1::bigint, 'then it is stored');
SELECT pigeon.alter_queue('ids', deduplication_window => '1 day');
SELECT pigeon.send('ids', 'long', group_id => 'a', deduplication_id => 'long');
SELECT age_keys('ids', '23 h');
SELECT pigeon.send('ids', 'long', group_id => 'a', deduplication_id => 'long');
SELECT is((SELECT count(*) FROM pigeon.peek('ids')), 1::bigint, 'the window is an attribute');
SELECT pigeon.purge_queue('ids');
SELECT pigeon.send('ids', 'long', group_id => 'a', deduplication_id => 'long');
SELECT is(bodies('ids'), 'long', 'purge clears the memory');
SAVEPOINT s;
SELECT pigeon.send('ids', 'undone', group_id => 'b', deduplication_id => 'undone');
ROLLBACK TO s;
SELECT pigeon.send('ids', 'done', group_id => 'b', deduplication_id => 'undone');
SELECT is(bodies('ids'), 'long done', 'what was rolled back is no duplicate');

SELECT pigeon.alter_queue('ids', content_based_deduplication => true);
SELECT is(pigeon.send('ids', 'b', group_id => 'a'), pigeon.send('ids', 'b', group_id => 'a'), 'deduplication by content can be turned on');
SELECT pigeon.alter_queue('ids', content_based_deduplication => false);
SELECT throws_ok($$SELECT pigeon.send('ids', 'b', group_id => 'a')$$, '22023', 'queue "ids" needs a deduplication_id', 'and off');

-- Content
CREATE TEMP TABLE content AS SELECT pigeon.send('content', 'body', group_id => 'a') AS id;
SELECT is(pigeon.send('content', 'body', '{"a": 1}', group_id => 'b'), (SELECT id FROM content), 'the body alone counts');
SELECT isnt(pigeon.send('content', 'body', group_id => 'a', deduplication_id => 'mine'), (SELECT id FROM content), 'an explicit id wins');
SELECT is(pigeon.send('content', 'other', group_id => 'a', deduplication_id => encode(sha256('body'), 'hex')), (SELECT id FROM content),
	'an id equal to the hash of an earlier body is a duplicate');
SELECT is(pigeon.send('content', '{"b": 1,   "a": 2}'::jsonb, group_id => 'a'), pigeon.send('content', '{"a": 2, "b": 1}', group_id => 'a'),
	'jsonb counts as it is printed');
SELECT is((SELECT string_agg(DISTINCT CASE deduplication_id WHEN encode(sha256(body::bytea), 'hex') THEN 'hash' ELSE deduplication_id END, ' ') FROM pigeon.peek('content')),
	'hash mine', 'the hash is shown as the deduplication id, or what was given');

SELECT is(pigeon.send('content', 'first by id', group_id => 'a', deduplication_id => encode(sha256('later'), 'hex')), pigeon.send('content', 'later', group_id => 'a'),
	'so is a body whose hash was an id');

-- Scope
SELECT isnt(pigeon.send('groups', 'x', group_id => 'a', deduplication_id => '1'), pigeon.send('groups', 'x', group_id => 'b', deduplication_id => '1'),
	'with scope message_group, the same id in two groups is two messages');
SELECT is(pigeon.send('groups', 'x', group_id => 'c', deduplication_id => '1'), pigeon.send('groups', 'x', group_id => 'c', deduplication_id => '1'),
	'in one group it is one');
SELECT pigeon.create_queue('both', fifo => true, content_based_deduplication => true, deduplication_scope => 'message_group');
SELECT is((SELECT count(DISTINCT id) FROM pigeon.send_batch('both', '{x,x,x}'::text[], group_ids => '{a,b,a}') AS id), 2::bigint,
	'the same body in two groups is two messages');

-- What is remembered is forgotten when its time is over, and not before.
SELECT pigeon.create_queue('keys', fifo => true);
SELECT pigeon.send('keys', 'x', group_id => 'a', deduplication_id => 'old');
SELECT age_keys('keys', '6 min');
CREATE TEMP TABLE kept AS SELECT pigeon.send('keys', 'x', group_id => 'a', deduplication_id => 'new') AS id;
SELECT count(*) FROM pigeon.receive('keys', 1, '0', receive_attempt_id => 'old');
SELECT count(*) FROM pigeon.receive('keys', 1, '0', receive_attempt_id => 'new');
UPDATE pigeon.receive_attempt SET expires_at = clock_timestamp() WHERE attempt_id = 'old';
CALL pigeon.maintain();
SELECT format('SELECT is((SELECT count(*) FROM pigeon.d_%s), 1::bigint, %L)', queue_id('keys'), 'maintenance forgets a key') \gexec
SELECT is(pigeon.send('keys', 'x', group_id => 'a', deduplication_id => 'new'), (SELECT id FROM kept), 'that has expired');
SELECT is((SELECT array_agg(attempt_id) FROM pigeon.receive_attempt), '{new}', 'and an attempt');

-- Dead letters
SELECT pigeon.create_queue('dead', fifo => true);
SELECT pigeon.create_queue('source', fifo => true, dead_letter_queue => 'dead', max_receive_count => 2);
SELECT throws_ok($$SELECT pigeon.create_queue('x', dead_letter_queue => 'dead')$$, '22023', NULL, 'a dead-letter queue is of the same kind');
CREATE TEMP TABLE source AS SELECT pigeon.send_batch('source', '{p1,p2,q1}'::text[], group_ids => '{p,p,q}', deduplication_ids => '{1,2,3}') AS id;
SELECT is(bodies('source'), 'p1 p2 q1', 'the first receive');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.receive('source', 1, '0')), 'p1', 'the second of one message');
SELECT is(bodies('source'), 'q1 p2', 'the third moves it and returns the next of its group');
SELECT is((SELECT (body, group_id, receive_count, dead_letter_source, deduplication_id = message_id::text, sequence_number = message_id)::text
	FROM pigeon.peek('dead')), '(p1,p,2,source,t,t)', 'as a dead letter, with the message_id as its deduplication_id');
SELECT is((SELECT message_id FROM pigeon.peek('dead')), (SELECT min(id) FROM source), 'and the same message_id');
SELECT ok((SELECT sent_at > now() AND sent_at > (SELECT min(sent_at) FROM pigeon.peek('source')) FROM pigeon.peek('dead')), 'its retention starts anew');
SELECT is((SELECT receive_count FROM pigeon.receive('dead', 1, '0')), 3, 'the count goes on');
SELECT is(pigeon.send('source', 'p1', group_id => 'p', deduplication_id => '1'), (SELECT min(id) FROM source), 'the memory survives dead-lettering');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.peek('source')), 0::bigint, 'maintenance moves what came back from its last allowed receive');
SELECT is(bodies('dead'), 'p1 p2 q1', 'in order');

-- Redrive
SELECT pigeon.create_queue('plain');
SELECT throws_ok($$SELECT pigeon.redrive('dead', 'plain')$$, '22023', 'destination must be of the same kind as the dead-letter queue', 'redrive to another kind');
SELECT format('UPDATE pigeon.q_%s SET enqueued_at = enqueued_at - interval ''1 h''', queue_id('dead')) \gexec
SELECT pigeon.send('source', 'p3', group_id => 'p', deduplication_id => '4');
SELECT lives_ok($$SELECT pigeon.redrive('dead')$$, 'redrive');
SELECT is((SELECT string_agg(body || ' ' || receive_count || coalesce(dead_letter_source, ' ') || deduplication_id, ', ') FROM pigeon.peek('source')),
	'p1 0 1, p2 0 2, q1 0 3, p3 0 4', 'messages are as new');
SELECT is((SELECT count(*) FROM pigeon.peek('source') WHERE sent_at < now()), 0::bigint, 'their retention begins anew');
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM pigeon.receive('source', 10, '1 h') WHERE group_id = 'p'), 'p1 p2 p3', 'and in their place');
SELECT is((SELECT count(*) FROM pigeon.peek('dead')), 0::bigint, 'none is left behind');
SELECT is(bodies('dead'), '', 'nor returned');

-- A dead letter at the head of its group lets nobody past what is in flight.
SELECT pigeon.create_queue('flight', fifo => true, dead_letter_queue => 'dead', max_receive_count => 1);
SELECT pigeon.send_batch('flight', '{f1,f2,f3}'::text[], group_ids => '{f,f,f}', deduplication_ids => '{1,2,3}');
CREATE TEMP TABLE flight AS SELECT body, receipt FROM pigeon.receive('flight', 2, '1 h');
SELECT is(pigeon.change_visibility('flight', receipt, '0'), true, 'two are in flight, one is released') FROM flight WHERE body = 'f1';
SELECT is((SELECT count(*) FROM pigeon.receive('flight', 10)), 0::bigint, 'nothing comes past the other');
SELECT is((SELECT body FROM pigeon.peek('dead') WHERE group_id = 'f'), 'f1', 'the dead letter is moved');

-- A lower limit moves nothing by itself.
SELECT pigeon.create_queue('lower', fifo => true, dead_letter_queue => 'dead', max_receive_count => 3);
SELECT pigeon.send('lower', 'l1', group_id => 'l', deduplication_id => '1');
SELECT count(*) FROM pigeon.receive('lower', 1, '0');
SELECT pigeon.alter_queue('lower', max_receive_count => 1);
CALL pigeon.maintain();
SELECT is((SELECT body FROM pigeon.peek('lower')), 'l1', 'a lower limit moves nothing by itself');
SELECT is(bodies('lower'), '', 'a receive does');

-- A dead-letter queue that is gone
SELECT pigeon.create_queue('gone', fifo => true);
SELECT pigeon.create_queue('keeps', fifo => true, dead_letter_queue => 'gone', max_receive_count => 1);
SELECT pigeon.send_batch('keeps', '{k1,k2}'::text[], group_ids => '{k,k}', deduplication_ids => '{1,2}');
SELECT pigeon.drop_queue('gone', true);
SELECT is((SELECT string_agg(body, ' ') FROM (SELECT (pigeon.receive('keeps', 1, '0')).body FROM generate_series(1, 5)) r), 'k1 k1 k1 k1 k1',
	'without its dead-letter queue a message stays, and before its group');
SELECT pigeon.create_queue('gone', fifo => true);
SELECT is(bodies('keeps'), 'k2', 'when that is there again');
SELECT is((SELECT body FROM pigeon.peek('gone')), 'k1', 'the message moves');

-- One whose schedule was spoiled
DO $$ BEGIN EXECUTE format('DROP INDEX pigeon.g_%s_due', queue_id('gone')); END $$;
SELECT is(bodies('keeps') || ' ' || bodies('keeps'), 'k2 k2', 'nor does a message leave for a dead-letter queue that cannot take it');
DO $$ BEGIN EXECUTE format('CREATE INDEX ON pigeon.g_%s (visible_at)', queue_id('gone')); END $$;
SELECT is(bodies('keeps'), '', 'until it can');

-- A group whose first message was received less often than the next: maintenance finds the dead letter when that is the first.
SELECT pigeon.create_queue('second dead', fifo => true);
SELECT pigeon.create_queue('second', fifo => true, dead_letter_queue => 'second dead', max_receive_count => 2);
SELECT pigeon.send_batch('second', '{s1,s2}'::text[], group_ids => '{s,s}', deduplication_ids => '{1,2}');
SELECT count(*) FROM pigeon.receive('second', 1, '0');
SELECT count(*) FROM pigeon.receive('second', 1, '0');
SELECT is(bodies('second'), 's2', 'a dead letter is moved, and the next received once');
SELECT pigeon.redrive('second dead');
CREATE TEMP TABLE second AS SELECT body, receipt, receive_count FROM pigeon.receive('second', 2, '1 h');
SELECT is((SELECT string_agg(body || ' ' || receive_count, ', ') FROM second), 's1 1, s2 2', 'redriven, it comes before that again');
SELECT is(pigeon.delete('second', receipt), true, 'and is done') FROM second WHERE body = 's1';
SELECT format('SELECT is((SELECT string_agg(final::text, %L) FROM pigeon.g_%s), %L, %L)', ' ', queue_id('second'), 'true', 'the schedule knows of the next') \gexec
SELECT is(pigeon.change_visibility('second', receipt, '0'), true, 'its last lease ends') FROM second WHERE body = 's2';
SELECT pg_sleep(0.01);
CALL pigeon.maintain();
SELECT is((SELECT body FROM pigeon.peek('second dead')), 's2', 'it is moved by maintenance');

-- A redrive that takes several steps keeps the order within a group.
SELECT pigeon.create_queue('steps', fifo => true, dead_letter_queue => 'second dead', max_receive_count => 1);
SELECT pigeon.purge_queue('second dead');
SELECT pigeon.send_batch('steps', ARRAY['t1', 't2', 't3', 't4'], group_ids => '{t,t,t,t}', deduplication_ids => '{1,2,3,4}');
SELECT bodies('steps') FROM generate_series(1, 5);
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('second dead')), 't1 t2 t3 t4', 'letters of one group');
SELECT pigeon.redrive('second dead', max_per_second => 2);
CREATE TEMP TABLE popped AS SELECT body FROM pigeon.pop('steps', 10);
SELECT matches((SELECT string_agg(body, ' ') FROM popped), '^t1 t2', 'the first of them come first');
DO $$ BEGIN
	FOR i IN 1 .. 300 LOOP
		CALL pigeon.maintain();
		INSERT INTO popped SELECT body FROM pigeon.pop('steps', 10);
		EXIT WHEN (SELECT count(*) FROM popped) = 4;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT is((SELECT string_agg(body, ' ') FROM popped), 't1 t2 t3 t4', 'then the others, in order');

-- Retention
SELECT pigeon.create_queue('brief', fifo => true, retention => '60 s');
SELECT pigeon.send_batch('brief', '{a1,a2}'::text[], group_ids => '{a,a}', deduplication_ids => '{1,2}');
SELECT format('UPDATE pigeon.q_%s SET enqueued_at = enqueued_at - interval ''55 s'' WHERE message_id = (SELECT min(message_id) FROM pigeon.peek(''brief''))', queue_id('brief')) \gexec
SELECT is((SELECT body FROM pigeon.receive('brief', 1, '1 h')), 'a1', 'what will expire in flight');
SELECT pg_sleep(5.2);
SELECT is((SELECT body FROM pigeon.receive('brief')), 'a2', 'holds its group no longer than that');
SELECT pigeon.create_queue('short', fifo => true, retention => '60 s');
SELECT pigeon.send_batch('short', '{a1,a2,a3,b1}'::text[], group_ids => '{a,a,a,b}', deduplication_ids => '{1,2,3,4}');
SELECT is((SELECT count(*) FROM pigeon.receive('short', 1, '1 h')), 1::bigint, 'one is in flight');
DO $$ BEGIN EXECUTE format('UPDATE pigeon.q_%s SET enqueued_at = enqueued_at - interval ''61 s'' WHERE message_id IN
	(SELECT message_id FROM pigeon.peek(''short'') WHERE body IN (''a1'', ''a2''))', queue_id('short')); END $$;
CALL pigeon.maintain();
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('short')), 'a3 b1', 'messages expire, in flight or not');
SELECT is(bodies('short'), 'b1 a3', 'and do not block their group');
DO $$ BEGIN EXECUTE format('UPDATE pigeon.q_%s SET enqueued_at = enqueued_at - interval ''61 s'' WHERE message_id IN
	(SELECT message_id FROM pigeon.peek(''short'') WHERE body = ''a3'')', queue_id('short')); END $$;
SELECT is(bodies('short'), 'b1', 'an expired message is not received');

-- Purge and drop
SELECT is(pigeon.purge_queue('groups'), 3::bigint, 'purge');
SELECT is(bodies('groups'), '', 'leaves nothing');
SELECT format('SELECT is((SELECT count(*) FROM pigeon.%s_%s), 0::bigint, %L)', letter, queue_id('groups'), 'nor in ' || letter) FROM unnest('{g,d}'::text[]) letter \gexec
CREATE TEMP TABLE tables AS SELECT letter || queue_id(queue) AS name, queue FROM unnest('{q_,g_,d_}'::text[]) letter, unnest('{groups,content}'::text[]) queue;
SELECT is((SELECT count(*) FROM tables WHERE to_regclass('pigeon.' || name) IS NOT NULL), 6::bigint, 'a FIFO queue has three tables');
SELECT is(pigeon.drop_queue('groups'), true, 'drop_queue');
SELECT is((SELECT count(*) FROM tables WHERE to_regclass('pigeon.' || name) IS NOT NULL), 3::bigint, 'drops them');
DO $$ BEGIN EXECUTE (SELECT 'DROP TABLE pigeon.' || name FROM tables WHERE name LIKE 'q%' AND queue = 'content'); END $$;
SELECT is((SELECT count(*) FROM tables WHERE to_regclass('pigeon.' || name) IS NOT NULL), 0::bigint, 'as does dropping the first by hand');
SELECT is((SELECT count(*) FROM pigeon.queues WHERE queue = 'content'), 0::bigint, 'and the queue is forgotten');

SELECT * FROM finish();
ROLLBACK;
