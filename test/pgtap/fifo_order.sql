-- FIFO queues: order and blocking of message groups, leases, receive attempts.
BEGIN;
SELECT plan(112);

CREATE TEMP TABLE got (body text, receipt pigeon.receipt);

-- Receives, remembers the receipts, and returns the bodies in order.
CREATE FUNCTION take(max_messages integer DEFAULT 10, visibility_timeout interval DEFAULT '1 h') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	bodies text;
BEGIN
	WITH received AS MATERIALIZED (SELECT body, receipt FROM pigeon.receive('f', max_messages, visibility_timeout)),
		remembered AS (INSERT INTO got SELECT * FROM received)
	SELECT string_agg(body, ' ') INTO bodies FROM received;
	RETURN coalesce(bodies, '');
END $$;
-- Sends messages called like their group and a number.
CREATE FUNCTION put(VARIADIC bodies text[]) RETURNS SETOF bigint LANGUAGE sql AS $$
	SELECT pigeon.send_batch('f', bodies, group_ids => (SELECT array_agg(left(b, 1) ORDER BY n) FROM unnest(bodies) WITH ORDINALITY u (b, n)),
		deduplication_ids => (SELECT array_agg(gen_random_uuid()::text) FROM unnest(bodies))) $$;
-- The last receipt of a message.
CREATE FUNCTION receipt_of(message text) RETURNS pigeon.receipt LANGUAGE sql AS $$
	SELECT receipt FROM got WHERE body = message ORDER BY ctid DESC LIMIT 1 $$;
CREATE FUNCTION gone(VARIADIC bodies text[]) RETURNS boolean[] LANGUAGE sql AS $$
	SELECT pigeon.delete('f', (SELECT array_agg(receipt_of(b)) FROM unnest(bodies) b)) $$;
CREATE FUNCTION extend(message text, visibility_timeout interval) RETURNS boolean LANGUAGE sql AS $$
	SELECT pigeon.change_visibility('f', receipt_of(message), visibility_timeout) $$;
-- An empty queue.
CREATE FUNCTION clear() RETURNS void LANGUAGE sql AS $$ SELECT pigeon.purge_queue('f'); DELETE FROM got $$;

SELECT pigeon.create_queue('f', fifo => true);
SELECT pigeon.create_queue('standard');

-- What a message needs
SELECT throws_ok($$SELECT pigeon.send('f', 'x', deduplication_id => '1')$$, '22023', 'queue "f" is a FIFO queue and needs a group_id', 'a group_id');
SELECT throws_ok($$SELECT pigeon.send('f', 'x', group_id => 'g')$$, '22023', 'queue "f" needs a deduplication_id', 'a deduplication_id');
SELECT throws_ok($$SELECT pigeon.send_batch('f', '{x,y}'::text[], group_ids => '{g,NULL}', deduplication_ids => '{1,2}')$$, '22023', NULL, 'each of a batch');
SELECT is((SELECT count(*) FROM pigeon.peek('f')), 0::bigint, 'or the batch is refused whole');
SELECT throws_ok($$SELECT pigeon.send('f', 'x', delay => '1 s', group_id => 'g', deduplication_id => '1')$$, '22023',
	'messages of FIFO queue "f" cannot have a delay of their own', 'no delay of its own');
SELECT lives_ok($$SELECT pigeon.send('f', 'x', delay => '0', group_id => 'g', deduplication_id => '1')$$, 'but 0');
SELECT throws_ok(format('SELECT pigeon.send(%L, %L, group_id => %L, deduplication_id => %L)', 'f', 'x', id, '2'), '22023', 'invalid group_id', 'group_id ' || left(id, 5))
FROM (VALUES (''), ('a b'), (repeat('x', 129)), ('ä')) AS v (id);
SELECT lives_ok(format('SELECT pigeon.send(%L, %L, group_id => %L, deduplication_id => %L)', 'f', 'x', repeat('~', 128), repeat('!', 128)), 'ids of 128 characters');
SELECT throws_ok(format('SELECT pigeon.send(%L, %L, group_id => %L, deduplication_id => %L)', 'f', 'x', 'g', id), '22023', 'invalid deduplication_id',
	'deduplication_id ' || left(id, 5)) FROM (VALUES (''), ('a b'), (repeat('x', 129)), ('ä')) AS v (id);
SELECT throws_ok($$SELECT pigeon.send_batch('f', '{x}'::text[], delay => '1 s', group_ids => '{g}', deduplication_ids => '{9}')$$, '22023',
	'messages of FIFO queue "f" cannot have a delay of their own', 'nor has a batch a delay');
SELECT throws_ok($$SELECT pigeon.send('standard', 'x', deduplication_id => '1')$$, '22023', NULL, 'a standard queue takes no deduplication_id');
SELECT clear();

-- One group is drained in order before the next
SELECT put('a1', 'b1', 'a2', 'b2', 'a3');
SELECT is(take(), 'a1 a2 a3 b1 b2', 'a group is drained before the next');
SELECT is(take(), '', 'and all groups are blocked then');
SELECT is((SELECT array_agg(sequence_number = message_id) FROM pigeon.peek('f')), '{t,t,t,t,t}', 'the sequence_number is the message_id');
SELECT clear();
SELECT put('a1', 'b1', 'a2', 'b2', 'a3');
SELECT is(take(2), 'a1 a2', 'as many as asked for');
SELECT is(take(2), 'b1 b2', 'the rest of the group is blocked, other groups are not');
SELECT put('a4', 'c1');
SELECT is(take(), 'c1', 'a new message does not unblock its group');
SELECT is(gone('a1'), '{t}', 'one of two is deleted');
SELECT is(take(), '', 'which does not unblock the group');
SELECT is(gone('a2'), '{t}', 'the other is deleted');
SELECT is(take(), 'a3 a4', 'which does');
SELECT clear();
SELECT put('b1', 'a1');
SELECT put('b2', 'c1');
SELECT is(take(), 'b1 b2 a1 c1', 'groups are served in the order in which they became available');
SELECT gone('b1', 'b2', 'a1', 'c1');
SELECT put('a1', 'a2', 'b1');
SELECT is(take(1), 'a1', 'a group of two');
SELECT gone('a1');
SELECT is(take(1), 'b1', 'goes to the back of the line when it is free again');
SELECT clear();

-- Release and expiry
SELECT put('a1', 'a2', 'a3', 'a4');
SELECT is(take(3), 'a1 a2 a3', 'three are in flight');
SELECT is(extend('a1', '0'), true, 'the first is released');
SELECT is(take(), 'a1', 'and offered again, but nothing past those in flight');
SELECT is(extend('a3', '0'), true, 'the last of them is released');
SELECT is(take(), '', 'but is behind those in flight');
SELECT is(gone('a1', 'a2'), '{t,t}', 'until those are deleted');
SELECT is(take(), 'a3 a4', 'then it is offered, and what follows');
SELECT clear();
SELECT put('a1', 'a2', 'a3', 'a4');
SELECT take(3, '3 s');
SELECT is(extend('a2', '1 h'), true, 'one in the middle is extended');
SELECT pg_sleep(3);
SELECT is(take(), 'a1', 'which hides it and what follows; what came before returns');
SELECT is(gone('a3'), '{t}', 'what follows can be deleted, by the transaction that has received it');
SELECT is(extend('a3', '1 h'), false, 'but not extended then');
SELECT is((SELECT count(*) FROM pigeon.peek('f')), 3::bigint, 'the others are still there');
SELECT clear();
SELECT put('a1', 'a2');
SELECT is(take(1, '0'), 'a1', 'a receive with timeout 0');
SELECT is(take(2, '0'), 'a1 a2', 'leaves the group free');
SELECT is(gone('a1'), '{f}', 'and gives no lease to delete with');
SELECT clear();
SELECT put('a1', 'a2');
SELECT take(1);
SELECT is(extend('a1', '0'), true, 'a message is released');
SELECT is(gone('a1'), '{f}', 'then its receipt has ended');
SELECT is(take(), 'a1 a2', 'and the group is free');
SELECT throws_ok($$SELECT extend('a1', '13 h')$$, '22023', NULL, 'the total is limited');
SELECT clear();

SELECT put('a1', 'a2', 'b1');
SELECT take();
SELECT gone('b1');
SELECT is(pigeon.change_visibility('f', (SELECT array_agg(receipt_of(b) ORDER BY n) FROM unnest('{a2,b1,a1}'::text[]) WITH ORDINALITY u (b, n)), '0'),
	'{t,f,t}', 'a batch of releases has its answers in order');
SELECT is(take(), 'a1 a2', 'and frees the group');
SELECT clear();
SELECT put('a1', 'a2');
SELECT is((SELECT string_agg(body, ' ') FROM (SELECT (pigeon.receive('f', 1, '0')).body FROM generate_series(1, 5)) r), 'a1 a1 a1 a1 a1',
	'what fails again and again holds its group');
SELECT clear();

-- pop and peek
SELECT put('a1', 'b1', 'a2', 'a3');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.pop('f', 2)), 'a1 a2', 'pop takes the heads of groups');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('f')), 'b1 a3', 'peek shows the rest in order');
SELECT is(take(), 'b1 a3', 'pop leaves the group free');
SELECT clear();

-- A transaction that receives again need not pass what it has received, but must not miss what comes back
SELECT put('a1', 'b1', 'c1', 'd1');
SELECT is(take(1), 'a1', 'one receive');
SAVEPOINT s;
SELECT take(1) AS b, take(1) AS c \gset
ROLLBACK TO s;
SELECT take(1) AS b_again \gset
RELEASE s;
SELECT is(:'b' || ' ' || :'c' || ' ' || :'b_again', 'b1 c1 b1', 'what a savepoint has received is there again when that is undone');
SELECT is(take(1), 'c1', 'the next');
SELECT is(extend('a1', '0'), true, 'one is released');
SELECT is(take(), 'd1 a1', 'and received again');
SELECT is(take(), '', 'there is nothing more');
SELECT put('e1');
SELECT is(take(), 'e1', 'but something new');
SELECT clear();

-- Delay of the queue
SELECT pigeon.alter_queue('f', delay => '1 h');
SELECT put('a1', 'b1');
SELECT is(take(), '', 'the delay of the queue applies');
SELECT pigeon.alter_queue('f', delay => '0');
SELECT is(take(1), 'a1', 'a shorter one applies to messages already there');
SELECT pigeon.alter_queue('f', delay => '1 h');
SELECT is(take(), '', 'and so does a longer one');
SELECT is(extend('a1', '0'), true, 'what was received');
SELECT is(take(), 'a1', 'is not delayed again');
SELECT pigeon.alter_queue('f', delay => '0');
SELECT clear();

-- A batch of deletes walks over groups; what is not as it was received is told apart
SELECT put('a1', 'b1', 'a2', 'b2', 'a3', 'a4', 'a5', 'a6', 'a7', 'a8', 'a9', 'aa', 'ab', 'ac');
SELECT is(take(20), 'a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac b1 b2', 'two groups are received');
SELECT is(gone('a4'), '{t}', 'one message is deleted');
SELECT is(extend('a6', '0'), true, 'and one is given back');
SELECT is(pigeon.delete('f', (SELECT array_agg(receipt ORDER BY body) FROM got)), '{t,t,t,f,t,f,t,t,t,t,t,t,t,t}', 'all others are deleted');
SELECT is(pigeon.delete('f', (SELECT array_agg(receipt ORDER BY body) FROM got)), '{f,f,f,f,f,f,f,f,f,f,f,f,f,f}', 'a second time nothing is deleted');
SELECT is(take(), 'a6', 'one is left');
SELECT is(gone('a6'), '{t}', 'its new receipt is good');
SELECT put('a1', 'a2', 'a3', 'a4', 'a5', 'a6');
DELETE FROM got;
SELECT is(take(), 'a1 a2 a3 a4 a5 a6', 'the group goes on');
SELECT is((SELECT count(*) FILTER (WHERE gone) FROM pigeon.delete('f', (SELECT array_agg(receipt) FROM (TABLE got UNION ALL TABLE got) twice)) d, unnest(d) gone),
	6::bigint, 'of each receipt that is given twice one deletes');
SELECT put('a7');
SELECT is(take(), 'a7', 'and nothing else is deleted');
SELECT clear();

-- Somebody waits, and looks at a group before the lease of its message ends, which was made longer.
SELECT put('z1');
SELECT is(take(1, '3 s'), 'z1', 'a short lease');
SELECT is(extend('z1', '5 s'), true, 'is made longer');
SELECT pg_sleep(3);
SELECT is((SELECT body || ' ' || receive_count FROM pigeon.receive('f', wait_time => '20 s')), 'z1 2', 'is waited for until the end of the longer one');
SELECT clear();

-- Receive attempts
SELECT put('a1', 'a2', 'b1');
CREATE TEMP TABLE attempt AS SELECT * FROM pigeon.receive('f', 3, '10 min', receive_attempt_id => 'try-1');
SELECT is((SELECT string_agg(body, ' ' ORDER BY body) FROM attempt), 'a1 a2 b1', 'a receive with an attempt id');
SELECT is((SELECT string_agg(r.body, ' ' ORDER BY r.body) FROM pigeon.receive('f', 3, '1 h', receive_attempt_id => 'try-1') r JOIN attempt a
	ON r.message_id = a.message_id AND r.receipt OPERATOR(pigeon.=) a.receipt AND r.visible_at > a.visible_at + interval '45 min'), 'a1 a2 b1',
	'repeated returns the same messages with the same receipts and a new timeout');
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, receive_attempt_id => 'try-2')), 0::bigint, 'another attempt is another receive');
SELECT is(pigeon.delete('f', receipt), true, 'the receipt is good') FROM attempt WHERE body = 'b1';
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, receive_attempt_id => 'try-1')), 0::bigint, 'after a delete the attempt cannot be repeated');
SELECT throws_ok($$SELECT pigeon.receive('standard', receive_attempt_id => 'x')$$, '22023', NULL, 'standard queues have no attempts');
SELECT throws_ok($$SELECT pigeon.receive('f', receive_attempt_id => 'a b')$$, '22023', 'invalid receive_attempt_id', 'an attempt id has no blanks');

-- A repeated attempt does not wait for more
SELECT clear();
SELECT put('a1');
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, '10 min', receive_attempt_id => 'try-3')), 1::bigint, 'an attempt');
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, '10 min', wait_time => '2 min', receive_attempt_id => 'try-3')), 1::bigint, 'repeated with a wait_time');

-- What a transaction has received nobody else can have, however long it takes
SELECT clear();
SELECT put('a1', 'a2', 'b1');
SELECT is(take(10, '0.001 s'), 'a1 a2 b1', 'short leases');
SELECT pg_sleep(0.01);
SELECT is(gone('a1'), '{t}', 'one is deleted after its end');
SELECT is(gone('a2', 'b1'), '{t,t}', 'and others together');
SELECT put('a3');
SELECT is(take(1, '0.001 s'), 'a3', 'another one');
SELECT pg_sleep(0.01);
SELECT is(extend('a3', '1 h'), true, 'is extended after its end');

-- Repeating an attempt hides its messages within the limit, does not make the five minutes longer, and ends with the retention.
SELECT clear();
SELECT put('a1');
CREATE TEMP TABLE first AS SELECT visible_at FROM pigeon.receive('f', 3, '10 min', receive_attempt_id => 'try-4');
ALTER TABLE first ADD expires_at timestamptz;
UPDATE first SET expires_at = (SELECT expires_at FROM pigeon.receive_attempt WHERE attempt_id = 'try-4');
SET LOCAL pigeon.max_visibility = '30 min';
SELECT ok((SELECT r.visible_at <= f.visible_at + interval '20 min' FROM pigeon.receive('f', 3, '30 min', receive_attempt_id => 'try-4') r, first f), 'no longer than pigeon.max_visibility');
RESET pigeon.max_visibility;
SELECT is((SELECT expires_at FROM pigeon.receive_attempt WHERE attempt_id = 'try-4'), (SELECT expires_at FROM first), 'the end of the attempt stays');
SELECT queue_table AS table FROM pigeon.queues WHERE queue = 'f' \gset
UPDATE :table SET enqueued_at = enqueued_at - interval '20 days';
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, receive_attempt_id => 'try-4')), 0::bigint, 'what has expired is not returned again');

-- An attempt can be repeated for five minutes, unless the visibility of one of its messages was changed.
SELECT clear();
SELECT put('a1', 'a2');
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, '1 h', receive_attempt_id => 'try-5')), 2::bigint, 'another attempt');
SELECT ok(expires_at BETWEEN clock_timestamp() + interval '4 min' AND clock_timestamp() + interval '5 min', 'is kept for five minutes')
	FROM pigeon.receive_attempt WHERE attempt_id = 'try-5';
UPDATE pigeon.receive_attempt SET expires_at = clock_timestamp() WHERE attempt_id = 'try-5';
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, receive_attempt_id => 'try-5')), 0::bigint, 'and not longer');
SELECT clear();
SELECT put('a1', 'a2');
CREATE TEMP TABLE sixth AS SELECT * FROM pigeon.receive('f', 3, '1 h', receive_attempt_id => 'try-6');
SELECT is(pigeon.change_visibility('f', receipt, '2 h'), true, 'a message is extended') FROM sixth WHERE body = 'a2';
SELECT is((SELECT count(*) FROM pigeon.receive('f', 3, receive_attempt_id => 'try-6')), 0::bigint, 'after that the attempt cannot be repeated');
SELECT throws_ok(format($$SELECT pigeon.receive('f', receive_attempt_id => %L)$$, repeat('x', 129)), '22023', 'invalid receive_attempt_id', 'an attempt id has 128 characters at the most');

-- A repetition is no other receive until the timeout has ended.
SELECT clear();
SELECT put('a1', 'a2');
CREATE TEMP TABLE seventh AS SELECT * FROM pigeon.receive('f', 3, '3 s', receive_attempt_id => repeat('~', 128));
SELECT is((SELECT string_agg(body || ' ' || receive_count, ', ') FROM pigeon.receive('f', 1, '3 s', receive_attempt_id => repeat('~', 128))), 'a1 1, a2 1',
	'a repetition returns all, in order, and counts no receive');
SELECT pg_sleep(3.1);
SELECT is((SELECT string_agg(r.body || ' ' || r.receive_count || ' ' || (r.receipt OPERATOR(pigeon.=) s.receipt), ', ' ORDER BY r.message_id)
	FROM pigeon.receive('f', 3, receive_attempt_id => repeat('~', 128)) r JOIN seventh s USING (message_id)), 'a1 2 false, a2 2 false',
	'when the timeout has ended it is another receive');

-- Groups are served in the order in which they became available, also by a release.
SELECT clear();
DELETE FROM got;
SELECT put('a1', 'b1', 'c1');
SELECT is(take(), 'a1 b1 c1', 'three groups');
SELECT is(extend('b1', '0') AND extend('c1', '0') AND extend('a1', '0'), true, 'are released in another order');
SELECT is((SELECT string_agg(body, ' ') FROM (SELECT (pigeon.receive('f')).body FROM generate_series(1, 3)) r), 'b1 c1 a1', 'and served in that one');

-- A sender's delay of 0 leaves the queue's as it is; one message without a deduplication id is the end of its batch.
SELECT pigeon.create_queue('slow', fifo => true, delay => '10 min');
SELECT pigeon.send('slow', 'x', group_id => 'g', deduplication_id => '1', delay => '0');
SELECT is((SELECT visible_at >= sent_at + interval '10 min' FROM pigeon.peek('slow')), true, 'a delay of 0 is accepted, and the queue''s applies');
SELECT throws_ok($$SELECT pigeon.send_batch('slow', ARRAY['y', 'z'], group_ids => ARRAY['g', 'g'], deduplication_ids => ARRAY['2', NULL])$$, '22023', NULL,
	'a message without a deduplication id');
SELECT is((SELECT count(*) FROM pigeon.peek('slow')), 1::bigint, 'fails its whole batch');
SELECT * FROM finish();
ROLLBACK;
