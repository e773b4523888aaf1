-- FIFO topics: groups, deduplication, order, and standard queues as subscribers.
BEGIN;
SELECT plan(38);
SELECT pigeon.create_topic('t', fifo => true), pigeon.create_queue('f', fifo => true), pigeon.create_queue('g', fifo => true),
	pigeon.create_queue('std'), pigeon.create_queue('dead', fifo => true);
SELECT lives_ok($$SELECT pigeon.subscribe('t', 'f'), pigeon.subscribe('t', 'g', raw_delivery => false, dead_letter_queue => 'dead'), pigeon.subscribe('t', 'std')$$,
	'FIFO and standard queues subscribe to a FIFO topic');
SELECT throws_ok($$SELECT pigeon.publish('t', 'x', deduplication_id => '1')$$, '22023', 'topic "t" is a FIFO topic and needs a group_id', 'no group');
SELECT throws_ok($$SELECT pigeon.publish('t', 'x', group_id => 'a')$$, '22023', 'topic "t" needs a deduplication_id', 'no deduplication id');
SELECT throws_ok($$SELECT pigeon.publish('t', 'x', group_id => 'a b', deduplication_id => '1')$$, '22023', 'invalid group_id', 'a bad group');
SELECT throws_ok($$SELECT pigeon.create_topic('t', fifo => false, if_not_exists => true)$$, '42710', NULL, 'the kind is compared');
SELECT throws_ok($$SELECT pigeon.subscribe('t', 'std', dead_letter_queue => 'dead')$$, '22023', NULL, 'dead letters of a standard queue');

-- Deduplication
CREATE TEMP TABLE p AS SELECT pigeon.publish('t', 'a1', group_id => 'a', deduplication_id => '1', attributes => '{"k": "v"}') AS a1;
SELECT is(pigeon.publish('t', 'again', group_id => 'b', deduplication_id => '1'), a1, 'a duplicate gets the first one''s id') FROM p;
SELECT results_eq($$SELECT array_agg(id - a1 ORDER BY n) FROM p, pigeon.publish_batch('t', ARRAY['b1', 'a2', 'b1', 'a1'], group_ids => ARRAY['b', 'a', 'b', 'a'],
	deduplication_ids => ARRAY['2', '3', '2', '1']) WITH ORDINALITY AS ids (id, n)$$, $$VALUES ('{2,3,2,0}'::bigint[])$$, 'also within a batch');
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 't' \gset
WITH i AS (INSERT INTO :view (body, group_id, deduplication_id) VALUES ('a3', 'a', '5'), ('a3', 'a', '5'), ('b2', 'b', '6') RETURNING message_id)
SELECT results_eq(format('SELECT count(*), count(DISTINCT id) FROM unnest(%L::bigint[]) AS id', array_agg(message_id)), $$VALUES (3::bigint, 2::bigint)$$, 'and by INSERT') FROM i;
SELECT pigeon.alter_topic('t', content_based_deduplication => true);
SELECT is(pigeon.publish('t', 'same', group_id => 'a'), pigeon.publish('t', 'same', group_id => 'b'), 'by content');

-- What arrives, in order
SELECT results_eq($$SELECT body, group_id, deduplication_id, sequence_number = message_id, attributes FROM pigeon.receive('f', 100)$$, $$VALUES
	('a1', 'a', '1', true, '{"k": "v"}'::jsonb), ('a2', 'a', '3', true, NULL), ('a3', 'a', '5', true, NULL), ('same', 'a', encode(sha256('same'), 'hex'), true, NULL),
	('b1', 'b', '2', true, NULL), ('b2', 'b', '6', true, NULL)$$, 'a FIFO queue');
SELECT results_eq($$SELECT body::jsonb->>'Message', (body::jsonb->>'SequenceNumber')::bigint = message_id, length(body::jsonb->>'SequenceNumber'), group_id
	FROM pigeon.receive('g', 2)$$, $$VALUES ('a1', true, 20, 'a'), ('a2', true, 20, 'a')$$, 'an envelope has the sequence number');
SELECT bag_eq($$SELECT body, group_id, deduplication_id, sequence_number FROM pigeon.receive('std', 100)$$, $$VALUES
	('a1', NULL::text, NULL::text, NULL::bigint), ('a2', NULL, NULL, NULL), ('b1', NULL, NULL, NULL), ('a3', NULL, NULL, NULL), ('b2', NULL, NULL, NULL), ('same', NULL, NULL, NULL)$$,
	'a standard queue learns nothing of groups');
SELECT is_empty($$SELECT FROM pigeon.receive('f')$$, 'groups are blocked while a message is in flight');

-- An id is good again after five minutes; maintenance forgets it, and what a queue has had itself does not keep a replay from it
SELECT id AS topic FROM pigeon.topic WHERE name = 't' \gset
UPDATE pigeon.d_:topic SET expires_at = clock_timestamp();
SELECT isnt(pigeon.publish('t', 'again', group_id => 'z', deduplication_id => '1'), NULL, 'an id of five minutes ago');
SELECT is((SELECT count(*) FROM pigeon.peek('std', 100) WHERE body = 'again'), 1::bigint, 'is no duplicate');
UPDATE pigeon.d_:topic SET expires_at = clock_timestamp();
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.d_:topic), 0::bigint, 'maintenance forgets the ids of a topic');
SELECT pigeon.pop('f', 100), pigeon.pop('g', 100), pigeon.pop('std', 100);

-- A queue has its own memory
SELECT pigeon.send('f', 'direct', group_id => 'c', deduplication_id => 'x');
SELECT pigeon.publish('t', 'by topic', group_id => 'c', deduplication_id => 'x');
SELECT results_eq($$SELECT body FROM pigeon.pop('f', 10)$$, $$VALUES ('direct')$$, 'what was sent to the queue directly is a duplicate there');
SELECT results_eq($$SELECT body::jsonb->>'Message' FROM pigeon.pop('g', 10) WHERE group_id = 'c'$$, $$VALUES ('by topic')$$, 'but not elsewhere');

-- Dead letters
SELECT pigeon.drop_queue('g');
SELECT pigeon.publish('t', 'lost', group_id => 'd', deduplication_id => '7'), pigeon.publish('t', 'lost too', group_id => 'd', deduplication_id => '8');
SELECT results_eq($$SELECT body::jsonb->>'Message', group_id FROM pigeon.pop('dead', 10)$$, $$VALUES ('lost', 'd'), ('lost too', 'd')$$, 'dead letters keep group, order and form');
SELECT pigeon.create_queue('g');
SELECT pigeon.publish('t', 'kind', group_id => 'd', deduplication_id => '9');
SELECT is((SELECT body::jsonb->>'Message' FROM pigeon.pop('g', 10)), 'kind', 'a standard queue in the place of a FIFO queue takes messages');
SELECT pigeon.drop_queue('f');
SELECT pigeon.create_topic('u'), pigeon.create_queue('f');
SELECT pigeon.subscribe('u', 'f');
SELECT pigeon.drop_queue('f');
SELECT pigeon.create_queue('f', fifo => true);
SELECT lives_ok($$SELECT pigeon.publish('u', 'x')$$, 'a FIFO queue in the place of a standard queue is no error for the publisher');
SELECT is_empty($$SELECT FROM pigeon.peek('f')$$, 'but takes no messages of a standard topic');

-- A FIFO queue whose tables somebody has spoiled
SELECT pigeon.create_queue('h', fifo => true), pigeon.create_queue('h2', fifo => true);
SELECT pigeon.subscribe('t', 'h', dead_letter_queue => 'h2');
SELECT format('DROP TABLE %s', replace(queue_table::text, 'q_', 'g_')) FROM pigeon.queues WHERE queue = 'h' \gexec
SELECT lives_ok($$SELECT pigeon.publish('t', 'y', group_id => 'e', deduplication_id => '10')$$, 'a broken queue is no error for the publisher');
SELECT is((SELECT body FROM pigeon.pop('h2')), 'y', 'it is a dead letter');

-- Two subscriptions whose dead letters go to one queue, the later message by the one that comes first
SELECT pigeon.create_topic('two', fifo => true), pigeon.create_queue('one', fifo => true), pigeon.create_queue('other', fifo => true),
	pigeon.create_queue('shared', fifo => true);
SELECT pigeon.subscribe('two', 'one', filter_policy => '{"n": ["2"]}', dead_letter_queue => 'shared'),
	pigeon.subscribe('two', 'other', filter_policy => '{"n": ["1"]}', dead_letter_queue => 'shared');
SELECT pigeon.drop_queue('one'), pigeon.drop_queue('other');
SELECT pigeon.publish_batch('two', ARRAY['m1', 'm2'], attributes => ARRAY['{"n": "1"}', '{"n": "2"}']::jsonb[], group_ids => ARRAY['g', 'g'], deduplication_ids => ARRAY['1', '2']);
SELECT is((SELECT body FROM pigeon.pop('shared')), 'm1', 'the first of them');
SELECT is((SELECT body FROM pigeon.pop('shared')), 'm2', 'and the second');
SELECT pigeon.send('shared', 'm3', group_id => 'g', deduplication_id => '3');
SELECT is((SELECT body FROM pigeon.pop('shared')), 'm3', 'the group goes on');
SELECT is_empty($$SELECT FROM pigeon.peek('shared')$$, 'nothing is stuck');

-- Dead letters of several topics, and what was sent, with one id
SELECT pigeon.create_topic('three', fifo => true), pigeon.create_queue('third', fifo => true);
SELECT pigeon.subscribe('three', 'third', dead_letter_queue => 'shared');
SELECT pigeon.drop_queue('third');
SELECT pigeon.send('shared', 'sent', group_id => 'g', deduplication_id => 'same');
SELECT pigeon.publish('two', 'of two', attributes => '{"n": "1"}', group_id => 'g', deduplication_id => 'same');
SELECT pigeon.publish('three', 'of three', group_id => 'g', deduplication_id => 'same');
SELECT is((SELECT array_agg(body ORDER BY message_id) FROM pigeon.peek('shared')), '{sent,of two,of three}', 'no dead letter is taken for a duplicate');
SELECT is((SELECT array_agg(body ORDER BY n) FROM generate_series(1, 3) AS n, pigeon.pop('shared', least(n, 1))), '{sent,of two,of three}', 'and all are received');

-- Outbox, replay and filters
CREATE TABLE orders (id int, customer text);
SELECT throws_ok($$SELECT pigeon.publish_changes('orders', 't')$$, '22023', 'a FIFO topic needs group_by', 'publish_changes needs group_by');
SELECT pigeon.publish_changes('orders', 't', events => 'insert,truncate', group_by => 'customer');
SELECT pigeon.purge_queue('std'), pigeon.purge_queue('f');
INSERT INTO orders VALUES (1, 'anna'), (1, 'anna'), (2, 'Jürgen K.'), (3, NULL);
TRUNCATE orders;
SELECT is((SELECT count(*) FROM pigeon.pop('std', 10)), 5::bigint, 'equal changes are no duplicates');
SELECT count(*) FROM (SELECT array_agg('pigeon-change-' || last_value + 150 + n) AS ids FROM pigeon.message_id_seq, generate_series(1, 200) AS n) AS guesses,
	pigeon.publish_batch('t', array_fill('x'::text, ARRAY[200]), group_ids => array_fill('x'::text, ARRAY[200]), deduplication_ids => ids);
INSERT INTO orders VALUES (5, 'emma');
SELECT is((SELECT count(*) FROM pigeon.pop('std', 1000) WHERE body <> 'x'), 1::bigint, 'nor does a change count as one because somebody has guessed its deduplication id');
SELECT is((SELECT array_agg(DISTINCT group_id ~ '^(anna|null|truncate|[0-9a-f]{16})$') || (count(DISTINCT group_id) = 4) FROM pigeon.pop('f', 1000) WHERE group_id NOT IN ('x', 'emma')), '{t,t}', 'groups of changes');
SELECT throws_ok($$SELECT pigeon.drop_topic('t')$$, '2BP01', 'changes of table "orders" are published to topic "t"', 'drop a topic that a table publishes to');
SELECT pigeon.stop_publishing_changes('orders', 't');
SELECT is(pigeon.drop_topic('t'), true, 'drop a FIFO topic');
SELECT is_empty($$SELECT FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relname = replace(split_part('$$ || :'view' || $$', '.', 2), 't_', 'd_')$$, 'its deduplication keys are gone');
SELECT * FROM finish();
ROLLBACK;
