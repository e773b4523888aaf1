-- A message whose body is not in the message log, as after a dump that was taken in the wrong moment: it is reported, stands in
-- nobody's way, and can be removed.
SELECT plan(18);
SET client_min_messages = error;
SELECT pigeon.create_queue('q', visibility_timeout => '0'), pigeon.create_queue('f', visibility_timeout => '0', fifo => true, content_based_deduplication => true);
SELECT count(pigeon.send(queue, 'body ' || n, group_id => 'g' || n)) FROM unnest('{q,f}'::text[]) AS queue, generate_series(1, 4) AS n;
-- The bodies of the first and third message of each.
SELECT format('DELETE FROM pigeon.log_%s WHERE body IN (%L, %L)', n, 'body 1', 'body 3') FROM generate_series(0, 7) AS n \gexec
SELECT format('VACUUM pigeon.log_%s', n) FROM generate_series(0, 7) AS n \gexec

SELECT is((SELECT count(*) FROM pigeon.check() WHERE problem ~ '^message [0-9]+ .* is not in the message log$'), 4::bigint, 'check reports all of them');
SELECT is((SELECT count(*) FROM pigeon.check()), 4::bigint, 'and nothing else');
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.receive(queue, 10)), 'body 2,body 4', 'the others are received from ' || queue) FROM unnest('{q,f}'::text[]) AS queue;
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.peek(queue, 10)), 'body 2,body 4', 'and shown') FROM unnest('{q,f}'::text[]) AS queue;
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.receive(queue, 10)), 'body 2,body 4', 'again and again') FROM unnest('{q,f}'::text[]) AS queue;
SELECT is((SELECT visible + in_flight FROM pigeon.exact_queue_metrics(queue)), 4::bigint, 'all are in the queue') FROM unnest('{q,f}'::text[]) AS queue;

-- Who receives nothing else has changed something, though: he keeps the queue locked, and does not wait
SELECT pigeon.create_queue('lost'), pigeon.create_queue('lost f', fifo => true, content_based_deduplication => true);
SELECT pigeon.send(queue, 'body ' || queue, group_id => 'g') FROM unnest('{lost,lost f}'::text[]) AS queue;
SELECT format('DELETE FROM pigeon.log_%s WHERE body LIKE %L', n, 'body lost%') FROM generate_series(0, 7) AS n \gexec
SELECT format('VACUUM pigeon.log_%s', n) FROM generate_series(0, 7) AS n \gexec
SELECT id AS lost FROM pigeon.queue WHERE name = 'lost' \gset
SELECT id AS lost_f FROM pigeon.queue WHERE name = 'lost f' \gset
BEGIN;
SELECT is_empty(format($$SELECT FROM pigeon.receive(%L, visibility_timeout => '0', wait_time => '1 min')$$, queue), 'of ' || queue || ' there is nothing to return') FROM unnest('{lost,lost f}'::text[]) AS queue;
SELECT is((SELECT count(*) FROM pg_locks WHERE relation = format('pigeon.q_%s', id)::regclass AND mode = 'RowExclusiveLock'), 1::bigint, 'which stays locked') FROM (VALUES (:lost), (:lost_f)) AS ids (id);
ROLLBACK;
SELECT pigeon.drop_queue('lost'), pigeon.drop_queue('lost f');

-- pop removes them
SELECT pg_sleep(0.01);
SELECT is((SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.pop('q', 10)), 'body 2,body 4', 'pop returns the others');
SELECT is((SELECT visible + in_flight FROM pigeon.exact_queue_metrics('q')), 0::bigint, 'and removes all');
-- So does purge_queue
SELECT pigeon.purge_queue('f');
SELECT is((SELECT visible + in_flight FROM pigeon.exact_queue_metrics('f')), 0::bigint, 'purge_queue removes them');
SELECT is_empty('SELECT * FROM pigeon.check()', 'all is well');
SELECT * FROM finish();
