-- Retention and purge.  No transaction around the whole, since maintenance commits.
SELECT plan(26);
SELECT pigeon.create_queue('q', retention => '1 hour', visibility_timeout => '1 hour');
CREATE TEMP TABLE got (body text, receipt pigeon.receipt);

-- Sets all messages of a queue back in time.
CREATE PROCEDURE make_older(by interval, name text DEFAULT 'q') LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE %s SET enqueued_at = enqueued_at - $1', (SELECT queue_table FROM pigeon.queues WHERE queue = name)) USING by;
END $$;

SELECT count(*) FROM pigeon.send_batch('q', ARRAY['in flight', 'visible']);
SELECT pigeon.send('q', 'delayed', delay => '10 min');
INSERT INTO got SELECT body, receipt FROM pigeon.receive('q');
CALL make_older('59 min');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 3::bigint, 'before the end of retention all is there');
CALL make_older('1 min 1 s');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'after it peek shows nothing');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 10)), 0::bigint, 'nothing is received');
SELECT lives_ok($$SELECT pigeon.delete('q', receipt) FROM got$$, 'deleting what expired is no error');
SELECT pigeon.send('q', 'young');
CALL pigeon.maintain();
SELECT is((SELECT string_agg(body, ',') FROM pigeon.peek('q')), 'young', 'maintain() keeps what has not expired');
SELECT pigeon.alter_queue('q', retention => '2 days');
CALL make_older('1 day');
SELECT is((SELECT body FROM pigeon.peek('q')), 'young', 'a longer retention holds for messages already there');
SELECT pigeon.alter_queue('q', retention => '1 min');
SELECT is((SELECT count(*) FROM pigeon.pop('q')), 0::bigint, 'so does a shorter one');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'it is gone');
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN is((SELECT expired FROM pigeon.queue_metrics WHERE queue = 'q'), 3::bigint, 'what has expired is counted')
	ELSE pass('without shared memory nothing is counted') END;
SELECT pigeon.alter_queue('q', retention => '60000 years');
SELECT pigeon.send('q', 'for long');
CALL make_older('5000 years');
SELECT is((SELECT body FROM pigeon.pop('q')), 'for long', 'a retention of 60000 years');

-- Many expired messages in front of a live one
SELECT count(*) FROM pigeon.send_batch('q', (SELECT array_agg('old'::text) FROM generate_series(1, 5000)));
CALL make_older('1 day');
SELECT pigeon.send('q', 'live');
SELECT pigeon.alter_queue('q', retention => '1 hour');
SELECT is((SELECT body FROM pigeon.receive('q', 10, '0')), 'live', 'expired messages do not hide a live one');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 1::bigint, 'which is there once');
SELECT count(*) FROM pigeon.send_batch('q', (SELECT array_agg('old'::text) FROM generate_series(1, 3000)));
CALL make_older('1 day');
SELECT pigeon.send('q', 'popped');
SELECT is((SELECT body FROM pigeon.pop('q', 10)), 'popped', 'nor from pop');

-- The same in a FIFO queue, and with dead letters
SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true, retention => '1 hour');
SELECT count(pigeon.send('fifo', 'old', group_id => 'g' || i, deduplication_id => i::text)) FROM generate_series(1, 2500) AS i;
CALL make_older('1 day', 'fifo');
SELECT pigeon.send('fifo', 'live', group_id => 'g0');
SELECT is((SELECT body FROM pigeon.receive('fifo', 10)), 'live', 'expired messages of other groups do not hide a live one');
SELECT CASE WHEN current_setting('shared_preload_libraries') LIKE '%pigeon%'
	THEN is((SELECT expired FROM pigeon.queue_metrics WHERE queue = 'fifo'), 2500::bigint, 'and are counted')
	ELSE pass('without shared memory nothing is counted') END;
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('source', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT count(*) FROM pigeon.send_batch('source', (SELECT array_agg('bad'::text) FROM generate_series(1, 2500)));
SELECT count(*) FROM pigeon.receive('source', 2500, '0');
SELECT pigeon.send('source', 'good');
SELECT is((SELECT body FROM pigeon.receive('source', 10)), 'good', 'nor do dead letters');
SELECT is((SELECT count(*) FROM pigeon.peek('dead', 10000)), 2500::bigint, 'which are all moved');

-- Purge
SELECT is(pigeon.purge_queue('q'), 0::bigint, 'purging an empty queue');
SELECT count(*) FROM pigeon.send_batch('q', ARRAY['a', 'b', 'c']);
SELECT pigeon.send('q', 'd', delay => '1 h');
SELECT count(*) FROM pigeon.receive('q', 1);
SELECT is(pigeon.purge_queue('q'), 4::bigint, 'visible, in flight and delayed messages are purged');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'and gone');
SELECT pigeon.send('q', 'survivor');
BEGIN;
SELECT is(pigeon.purge_queue('q'), 1::bigint, 'a purge');
SELECT is((SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND locktype = 'relation'),
	0::bigint, 'in a transaction block locks nobody out');
SELECT is((SELECT count(*) FROM pigeon.receive('q', 1)), 0::bigint, 'leaves nothing to receive');
ROLLBACK;
SELECT is((SELECT body FROM pigeon.receive('q', 1, '0')), 'survivor', 'and is rolled back without hiding what was there');
SELECT is((SELECT body FROM pigeon.pop('q')), 'survivor', 'for anybody');

-- Who finds nothing keeps no lock
BEGIN;
SELECT count(*) FROM pigeon.receive('q', 1);
SELECT is((SELECT count(*) FROM pg_locks, pigeon.queues WHERE pid = pg_backend_pid() AND relation = queue_table), 0::bigint,
	'an empty receive leaves no lock on the queue');
COMMIT;
SELECT * FROM finish();
