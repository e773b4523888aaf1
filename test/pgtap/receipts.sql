-- Receipts, delete and change_visibility.
BEGIN;
SELECT plan(43);
SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('other');

CREATE TEMP TABLE got (name text, receipt pigeon.receipt);

SELECT pigeon.send_batch('q', ARRAY['a', 'b', 'c']);
INSERT INTO got SELECT body, receipt FROM pigeon.receive('q', 3);

-- A type like others
SELECT is((SELECT receipt FROM got WHERE name = 'a')::text::pigeon.receipt::text, (SELECT receipt::text FROM got WHERE name = 'a'), 'text in and out');
SELECT ok((SELECT a.receipt OPERATOR(pigeon.=) a.receipt AND NOT a.receipt OPERATOR(pigeon.=) b.receipt FROM got a, got b WHERE a.name = 'a' AND b.name = 'b'), 'equality');
SELECT is((SELECT count(*) FROM (SELECT DISTINCT receipt FROM got, generate_series(1, 2)) d), 3::bigint, 'DISTINCT');
SELECT is((SELECT count(*) FROM got x JOIN got y ON x.receipt OPERATOR(pigeon.=) y.receipt), 3::bigint, 'a join');
SELECT is(encode(pigeon.receipt_send('5-6-7-ffffffff'), 'hex'), '00000005000000000000000600000007ffffffff', 'binary output');
SELECT is((SELECT count(DISTINCT receipt::text) FROM got), 3::bigint, 'each receipt is another');

-- Another queue, unknown messages
SELECT throws_ok(format('SELECT pigeon.delete(%L, %L)', 'other', receipt), '22023', 'receipt is not of queue "other"', 'delete from another queue')
FROM got WHERE name = 'a';
SELECT throws_ok(format('SELECT pigeon.change_visibility(%L, %L, %L)', 'other', receipt, '1 s'), '22023', NULL, 'change_visibility in another queue')
FROM got WHERE name = 'a';
SELECT throws_ok(format('SELECT pigeon.delete(%L, ARRAY[%L, %L]::pigeon.receipt[])', 'q', receipt, '999-1-1-1'), '22023', NULL,
	'one receipt of another queue in an array')
FROM got WHERE name = 'a';
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 3::bigint, 'refuses the whole call');
SELECT is((SELECT pigeon.delete('q', format('%s-9223372036854775807-1-1', split_part(receipt::text, '-', 1))::pigeon.receipt) FROM got WHERE name = 'a'),
	false, 'a message that never was');

-- Visibility: replaced, not added; the receipt stays valid
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '1 hour') FROM got WHERE name = 'a'), 'a longer visibility');
SELECT ok((SELECT visible_at BETWEEN clock_timestamp() + '55 min' AND clock_timestamp() + '60 min' FROM pigeon.peek('q') WHERE body = 'a'), 'starts anew');
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '1 min') FROM got WHERE name = 'a'), 'a shorter one');
SELECT ok((SELECT visible_at < clock_timestamp() + '60 s' FROM pigeon.peek('q') WHERE body = 'a'), 'replaces it');
SELECT throws_ok(format('SELECT pigeon.change_visibility(%L, %L, %L)', 'q', receipt, '12 hours'), '22023', NULL, 'more than 12 hours after the receive')
FROM got WHERE name = 'a';
SELECT ok((SELECT visible_at < clock_timestamp() + '60 s' FROM pigeon.peek('q') WHERE body = 'a'), 'changes nothing');
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '11 hours 59 min') FROM got WHERE name = 'a'), 'just less than 12 hours');
SELECT throws_ok(format('SELECT pigeon.change_visibility(%L, %L, %L)', 'q', receipt, '60000 years'), '22023', NULL, '60000 years')
FROM got WHERE name = 'a';
SELECT set_config('pigeon.max_visibility', '2 d', true);
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '1 day') FROM got WHERE name = 'a'), 'a day, as the setting allows');
SELECT set_config('pigeon.max_visibility', '12 h', true);
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '0') FROM got WHERE name = 'a'), 'none');
SELECT ok((SELECT pigeon.change_visibility('q', receipt, '0') FROM got WHERE name = 'a'), 'a visibility that has ended can be changed until the next receive');

-- Superseded
INSERT INTO got SELECT 'a again', receipt FROM pigeon.receive('q');
SELECT ok((SELECT count(DISTINCT receipt::text) = 2 FROM got WHERE name LIKE 'a%'), 'another receive gives another receipt');
SELECT ok((SELECT NOT pigeon.change_visibility('q', receipt, '0') FROM got WHERE name = 'a'), 'a superseded receipt changes no visibility');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 10)), 0::bigint, 'and disturbs nobody');
SELECT ok((SELECT pigeon.delete('q', receipt) FROM got WHERE name = 'a'), 'but deletes: the work was done');
SELECT ok((SELECT NOT pigeon.delete('q', receipt) FROM got WHERE name = 'a again'), 'deleting again says false');
SELECT ok((SELECT NOT pigeon.change_visibility('q', receipt, '1 s') FROM got WHERE name = 'a again'), 'so does change_visibility');

-- Arrays
SELECT is((SELECT pigeon.delete('q', array_agg(receipt ORDER BY name DESC)) FROM got WHERE name IN ('a', 'b', 'c')), '{t,t,f}'::boolean[],
	'answers are in the order of the receipts');
SELECT is(pigeon.delete('q', '{}'::pigeon.receipt[]), '{}'::boolean[], 'an empty array');
DELETE FROM got;
SELECT pigeon.send('q', 'd');
INSERT INTO got SELECT body, receipt FROM pigeon.receive('q');
SELECT is((SELECT pigeon.change_visibility('q', ARRAY[receipt, receipt], '1 h') FROM got), '{t,t}'::boolean[], 'change_visibility twice in one array');
SELECT is((SELECT pigeon.delete('q', ARRAY[receipt, receipt, receipt]) FROM got), '{t,f,f}'::boolean[], 'delete three times in one array');
SELECT throws_ok($$SELECT pigeon.delete('q', ARRAY[ARRAY['1-2-3-4', '1-2-3-5']]::pigeon.receipt[])$$, '22023', NULL, 'an array of two dimensions is refused');
SELECT is(pigeon.delete('q', (SELECT array_agg(receipt) FROM pigeon.receive('q'))), '{}'::boolean[], 'deleting what an empty receive returned');
SELECT is(pigeon.change_visibility('q', NULL::pigeon.receipt[], '1 s'), '{}'::boolean[], 'no array is an empty one');

-- Visibility timeout 0, received twice in one transaction, literals
SELECT pigeon.send('q', 'e');
SELECT is((SELECT array_agg(receive_count) FROM pigeon.receive('q', 5, '0')), '{1}', 'a timeout of 0 delivers once');
SELECT is((SELECT array_agg(receive_count) FROM pigeon.receive('q', 5, '0')), '{2}', 'and leaves the message visible');
SELECT is((SELECT array_agg(receive_count) FROM pigeon.receive('q', 5)), '{3}', 'for another receive');
SELECT is((SELECT array_agg(receive_count) FROM pigeon.receive('q', 5)), NULL, 'which hides it');
SELECT ok((SELECT first_received_at < visible_at AND sent_at < first_received_at FROM pigeon.peek('q')), 'the times are in order');
SELECT results_eq($$SELECT pigeon.delete('q', (SELECT receipt FROM got)), pigeon.delete('q', (SELECT receipt FROM got))$$, 'VALUES (false, false)', 'gone');
SELECT ok(NOT pigeon.delete('q', format('%s-1-1-1', (SELECT split_part(receipt::text, '-', 1) FROM got))::pigeon.receipt), 'a made-up receipt');

-- Visible at once is never too long.
SELECT pigeon.send('other', 'long in flight');
SELECT receipt FROM pigeon.receive('other') \gset
SELECT queue_table AS table FROM pigeon.queues WHERE queue = 'other' \gset
UPDATE :table SET received_at = received_at - interval '13 hours';
SELECT ok(pigeon.change_visibility('other', :'receipt', '0'), 'a message is given back long after its receive');
SELECT * FROM finish();
ROLLBACK;
