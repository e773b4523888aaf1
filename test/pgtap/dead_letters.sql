-- Order of what comes back, dead letters and redrive.
BEGIN;
SELECT plan(65);
CREATE FUNCTION received(queue text, n integer DEFAULT 1, timeout interval DEFAULT '0') RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(body, ' ' ORDER BY ordinality) FROM pigeon.receive(queue, n, timeout) WITH ORDINALITY $$;

-- What comes back once or twice is served first, in the order of its timeouts; the third time it goes to the back
SELECT pigeon.create_queue('order');
SELECT pigeon.send('order', 'a');
SELECT pigeon.send('order', 'b');
SELECT pigeon.send('order', 'c');
SELECT is(received('order'), 'a', 'the first message');
SELECT is(received('order'), 'a', 'comes back before the backlog');
SELECT is(received('order'), 'a', 'a second time');
SELECT is(received('order'), 'b', 'but not a third');
SELECT is(received('order', 3), 'b c a', 'what failed three times is behind the backlog');

-- The attempt after the last allowed one moves the message
SELECT pigeon.create_queue('third');
SELECT pigeon.create_queue('second', dead_letter_queue => 'third', max_receive_count => 1);
SELECT pigeon.create_queue('first', dead_letter_queue => 'second', max_receive_count => 2);
SELECT pigeon.send('first', 'poison', '{"n": 1}', group_id => 'g');
SELECT pigeon.send('first', 'good');
CREATE TEMP TABLE original AS SELECT message_id, sent_at FROM pigeon.peek('first') WHERE body = 'poison';
SELECT is(received('first'), 'poison', 'first receive');
SELECT is(received('first'), 'poison', 'second receive');
SELECT is((SELECT count(*) FROM pigeon.peek('first')), 2::bigint, 'the last allowed receive moves nothing');
SELECT is(received('first'), 'good', 'the next attempt skips the message');
SELECT results_eq($$SELECT message_id, body, attributes, group_id, receive_count, sent_at, dead_letter_source FROM pigeon.peek('second')$$,
	$$SELECT message_id, 'poison', '{"n": 1}'::jsonb, 'g', 2, sent_at, 'first' FROM original$$, 'and moves it with all it has');
SELECT results_eq($$SELECT receive_count FROM pigeon.receive('second', 1, '0')$$, 'VALUES (3)', 'the count goes on');
SELECT is(received('second'), NULL, 'a dead-letter queue has one of its own');
SELECT results_eq($$SELECT body, receive_count, dead_letter_source, sent_at FROM pigeon.peek('third')$$,
	$$SELECT 'poison', 3, 'second', sent_at FROM original$$, 'and names the last source');

-- Receipts of the source are void after the move
CREATE TEMP TABLE got (receipt pigeon.receipt);
SELECT pigeon.pop('first', 10);
SELECT pigeon.send('first', 'moves');
INSERT INTO got SELECT receipt FROM pigeon.receive('first', 1, '0');
SELECT is(received('first'), 'moves', 'received twice');
SELECT is(received('first'), NULL, 'and moved');
SELECT is((SELECT array_agg(pigeon.delete('first', receipt)) FROM got), '{f}', 'its old receipt deletes nothing');
SELECT is((SELECT array_agg(pigeon.change_visibility('first', receipt, '1 h')) FROM got), '{f}', 'nor hides anything');
SELECT throws_ok(format('SELECT pigeon.delete(%L, %L)', 'second', receipt), '22023', NULL, 'and is not of the dead-letter queue') FROM got;

-- maintain() moves what came back from its last receive though nobody polls
SELECT pigeon.purge_queue('second');
SELECT pigeon.send('first', 'unattended');
SELECT received('first'), received('first');
CALL pigeon.maintain();
SELECT is((SELECT body FROM pigeon.peek('second')), 'unattended', 'maintain() moves dead letters');

-- A missing dead-letter queue: messages stay, go on, and do not get in the way
SELECT pigeon.drop_queue('second');
SELECT pigeon.send('first', 'stays');
SELECT is(received('first') || received('first') || received('first'), 'staysstaysstays', 'without its dead-letter queue a message stays');
SELECT pigeon.send('first', 'healthy');
SELECT is(received('first') || ' ' || received('first'), 'stays healthy', 'but not for ever before the others');
SELECT pigeon.create_queue('second');
SELECT is(received('first', 2, '1 h'), 'healthy', 'when the queue is there again');
SELECT is((SELECT body FROM pigeon.peek('second')), 'stays', 'the message moves');

-- Changing the limit
SELECT pigeon.create_queue('limit', dead_letter_queue => 'second', max_receive_count => 1);
SELECT pigeon.send('limit', 'x');
SELECT is(received('limit'), 'x', 'its last receive');
SELECT pigeon.alter_queue('limit', max_receive_count => 3);
SELECT is(received('limit'), 'x', 'is not the last if the limit is raised');
SELECT pigeon.alter_queue('limit', max_receive_count => 1);
SELECT is(received('limit'), NULL, 'and was if it is lowered');
SELECT pigeon.send('limit', 'y');
SELECT is(received('limit'), 'y', 'its last receive');
SELECT pigeon.alter_queue('limit', dead_letter_queue => '');
SELECT is(received('limit'), 'y', 'no dead-letter queue, no limit');

-- Redrive: to the own source, anew; to another queue; at a rate; cancel
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('s1', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT pigeon.create_queue('s2', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT pigeon.create_queue('elsewhere');
SELECT count(*) FROM pigeon.send_batch('s1', ARRAY['1a', '1b']);
SELECT count(*) FROM pigeon.send_batch('s2', ARRAY['2a', '2b']);
SELECT pigeon.send('dead', 'own');
SELECT received(q, 10) FROM unnest('{s1,s2,s1,s2}'::text[]) AS q;
SELECT is((SELECT count(*) FROM pigeon.peek('dead')), 5::bigint, 'four dead letters and one of its own');
SELECT pigeon.redrive('dead');
SELECT results_eq($$SELECT status, moved FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1$$, $$VALUES ('COMPLETED', 4::bigint)$$, 'redrive');
SELECT results_eq($$SELECT body, receive_count, first_received_at IS NULL, dead_letter_source FROM pigeon.peek('s1')$$,
	$$VALUES ('1a', 0, true, NULL), ('1b', 0, true, NULL)$$, 'each to its own source, as new');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('s2')), '2a 2b', 'whichever that is');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.peek('dead')), 'own', 'what has no source stays');
SELECT pigeon.redrive('dead', 'elsewhere');
SELECT is((SELECT body FROM pigeon.peek('elsewhere')), 'own', 'unless a destination is named');
SELECT received('s1', 10);
SELECT received('s1', 10);
SELECT pigeon.redrive('dead', max_per_second => 1);
SELECT results_eq($$SELECT status, moved FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1$$, $$VALUES ('RUNNING', 1::bigint)$$, 'at a rate');
SELECT throws_ok($$SELECT pigeon.redrive('dead')$$, '55000', NULL, 'one task at a time');
SELECT is((SELECT pigeon.cancel_redrive(max(task_id)) FROM pigeon.redrive_tasks), 1::bigint, 'cancel says how many were moved');
SELECT throws_ok($$SELECT pigeon.cancel_redrive(max(task_id)) FROM pigeon.redrive_tasks$$, '55000', NULL, 'only once');
SELECT pigeon.drop_queue('s1');
SELECT pigeon.redrive('dead');
SELECT results_eq($$SELECT status, moved, failure_reason IS NOT NULL FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1$$,
	$$VALUES ('FAILED', 0::bigint, true)$$, 'a source that is gone fails the task');
SELECT is((SELECT count(*) FROM pigeon.peek('dead')), 1::bigint, 'and loses nothing');

-- A receipt from before dead-lettering says nothing of the redriven message
SELECT pigeon.create_queue('dead2');
SELECT pigeon.create_queue('again', dead_letter_queue => 'dead2', max_receive_count => 1);
SELECT pigeon.send('again', 'redriven');
DELETE FROM got;
INSERT INTO got SELECT receipt FROM pigeon.receive('again', 1, '0');
SELECT is(received('again'), NULL, 'a dead letter');
SELECT pigeon.redrive('dead2');
SELECT is((SELECT pigeon.delete('again', receipt) FROM got), false, 'an old receipt does not delete the redriven message');
SELECT is((SELECT pigeon.change_visibility('again', receipt, '1 h') FROM got), false, 'nor hide it');
SELECT is((SELECT pigeon.delete('again', regexp_replace(receipt::text, '[^-]+$', '0')::pigeon.receipt) FROM got), false, 'nor does one that says it was never received');
SELECT is((SELECT count(*) FROM pigeon.peek('again')), 1::bigint, 'which is there');

-- A row with the key of a dead letter, written by hand, in the queue it is to go to
CREATE FUNCTION copy_deliveries(source text, target text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s SELECT * FROM %s', (SELECT queue_table FROM pigeon.queues WHERE queue = target),
		(SELECT queue_table FROM pigeon.queues WHERE queue = source));
END $$;
SELECT copy_deliveries('again', 'dead2');
SELECT is(received('again'), 'redriven', 'its last receive');
SELECT is(received('again'), 'redriven', 'is not, as the dead-letter queue has it already');
SELECT lives_ok('CALL pigeon.maintain()', 'nor can maintain() move it');
SELECT is((SELECT body FROM pigeon.pop('dead2')), 'redriven', 'when that is gone');
SELECT is(received('again'), NULL, 'it is moved');
SELECT copy_deliveries('dead2', 'again');
SET LOCAL client_min_messages = error;
SELECT lives_ok($$SELECT pigeon.redrive('dead2')$$, 'a redrive leaves what is there already');
RESET client_min_messages;
SELECT results_eq($$SELECT status, moved FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1$$, $$VALUES ('COMPLETED', 0::bigint)$$, 'and ends');
SELECT is((SELECT body FROM pigeon.peek('dead2')), 'redriven', 'the message stays');

-- Nor does a receive fail because of what its owner did to the dead-letter queue
DO $$ BEGIN EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint, pigeon.queues
	WHERE conrelid = queue_table AND queue = 'dead2' AND contype = 'p'; END $$;
SELECT pigeon.pop('again', 10);
SELECT pigeon.send('again', 'goes on');
SELECT is(received('again') || ', ' || received('again'), 'goes on, goes on', 'a message that its dead-letter queue cannot take goes on');
-- What there is to move is what can be moved: without a destination, what came from another queue
SELECT pigeon.create_queue('counted dead');
SELECT pigeon.create_queue('counted', visibility_timeout => '0', dead_letter_queue => 'counted dead', max_receive_count => 1);
SELECT pigeon.send('counted dead', 'sent here'), pigeon.send('counted', 'dead');
SELECT count(*) FROM pigeon.receive('counted');
SELECT pg_sleep(0.01);
SELECT count(*) FROM pigeon.receive('counted');
SELECT pigeon.redrive('counted dead') AS task \gset
SELECT is((SELECT to_move || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), '1 1', 'messages to move');
SELECT pigeon.redrive('counted dead', 'counted') AS task \gset
SELECT is((SELECT to_move || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), '1 1', 'to a destination, all of them');
-- Who owns the dead-letter queue sends to the sources only where he may
CREATE ROLE keeper;
GRANT CREATE ON SCHEMA pigeon TO keeper;
SET ROLE keeper;
SELECT pigeon.create_queue('kept dead');
RESET ROLE;
SELECT pigeon.create_queue('guarded', dead_letter_queue => 'kept dead', max_receive_count => 1);
SELECT pigeon.send('guarded', 'dead');
SELECT count(*) FROM pigeon.receive('guarded', visibility_timeout => '0');
SELECT pg_sleep(0.01);
SELECT count(*) FROM pigeon.receive('guarded', visibility_timeout => '0');
SET ROLE keeper;
SELECT pigeon.redrive('kept dead') AS task \gset
SELECT is((SELECT status || ': ' || failure_reason FROM pigeon.redrive_tasks WHERE task_id = :task),
	'FAILED: no right to send to queue "guarded"', 'a redrive needs the right to send');
RESET ROLE;
SELECT pigeon.grant_access('guarded', 'keeper', '{send}');
SET ROLE keeper;
SELECT pigeon.redrive('kept dead') AS task \gset
SELECT is((SELECT status || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), 'COMPLETED 1', 'and has it now');
RESET ROLE;
-- The last 100 tasks of each queue are kept, and all that run.
SELECT count(*) AS others FROM pigeon.redrive_tasks WHERE dead_letter_queue <> 'dead' \gset
CREATE TABLE started AS SELECT pigeon.redrive('dead') AS task_id FROM generate_series(1, 105);
SELECT is((SELECT count(*) FROM pigeon.redrive_tasks WHERE dead_letter_queue = 'dead'), 100::bigint, 'of many tasks some are kept');
SELECT is((SELECT array_agg(task_id ORDER BY task_id) FROM pigeon.redrive_tasks WHERE dead_letter_queue = 'dead'),
	(SELECT array_agg(task_id ORDER BY task_id) FROM (SELECT task_id FROM started ORDER BY task_id DESC LIMIT 100) AS last), 'the last ones');
SELECT is((SELECT count(*) FROM pigeon.redrive_tasks WHERE dead_letter_queue <> 'dead'), :others::bigint, 'those of other queues stay');
-- What has expired is not moved.
SELECT pigeon.create_queue('brief dead', retention => '60 s');
SELECT pigeon.create_queue('brief', dead_letter_queue => 'brief dead', max_receive_count => 1);
SELECT pigeon.send('brief dead', 'old');
SELECT queue_table AS table FROM pigeon.queues WHERE queue = 'brief dead' \gset
UPDATE :table SET enqueued_at = enqueued_at - interval '61 s';
SELECT pigeon.redrive('brief dead', 'brief') AS task \gset
SELECT is((SELECT status || ' ' || to_move || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), 'COMPLETED 0 0', 'a redrive passes over what has expired');
-- A rate is not made up for after a pause.
SELECT count(*) FROM pigeon.send_batch('counted dead', array_fill('x'::text, ARRAY[400]));
SELECT pigeon.redrive('counted dead', 'counted', max_per_second => 1) AS task \gset
SELECT is((SELECT status || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), 'RUNNING 1', 'a second''s worth at once');
UPDATE pigeon.redrive_task SET started_at = started_at - interval '1 hour', paid_until = paid_until - interval '1 hour' WHERE id = :task;
CALL pigeon.maintain();
SELECT is((SELECT status || ' ' || moved FROM pigeon.redrive_tasks WHERE task_id = :task), 'RUNNING 61', 'and no more than that of a minute after an hour in which nobody came');
SELECT pigeon.drop_queue('counted dead');
SELECT is((SELECT status || ': ' || failure_reason FROM pigeon.redrive_tasks WHERE task_id = :task), 'FAILED: dead-letter queue does not exist any more', 'a task ends with its queue');
SELECT * FROM finish();
ROLLBACK;
