-- Retention and purge.  No transaction around the whole, since maintenance commits.
SELECT plan(19);
SELECT pigeon.create_queue('q', retention => '1 hour', visibility_timeout => '1 hour');
CREATE TEMP TABLE got (body text, receipt pigeon.receipt);

-- Sets all messages back in time.
CREATE PROCEDURE make_older(by interval) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE %s SET enqueued_at = enqueued_at - $1', (SELECT queue_table FROM pigeon.queues WHERE queue = 'q')) USING by;
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
SELECT pigeon.alter_queue('q', retention => '60000 years');
SELECT pigeon.send('q', 'for long');
CALL make_older('5000 years');
SELECT is((SELECT body FROM pigeon.pop('q')), 'for long', 'a retention of 60000 years');

-- Many expired messages in front of a live one
SELECT count(*) FROM pigeon.send_batch('q', (SELECT array_agg('old'::text) FROM generate_series(1, 5000)));
CALL make_older('1 day');
SELECT pigeon.send('q', 'live');
SELECT pigeon.alter_queue('q', retention => '1 hour');
CREATE FUNCTION poll(times integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN
	FOR i IN 1 .. times LOOP
		SELECT coalesce(got, body) INTO got FROM pigeon.receive('q', 10, '0');
	END LOOP;
	RETURN got;
END $$;
SELECT is(poll(6), 'live', 'expired messages do not hide a live one for long');
CALL pigeon.maintain();
SELECT is((SELECT count(*) FROM pigeon.pop('q', 10)), 1::bigint, 'which is there once');

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
