-- What is counted of topics.  No transaction around the whole, since a commit counts.
SELECT plan(9);
SELECT current_setting('shared_preload_libraries') ~ 'pigeon' AS shared \gset
SELECT pigeon.create_topic('t', max_message_size => 2048), pigeon.create_queue('all'), pigeon.create_queue('some'), pigeon.create_queue('body'),
	pigeon.create_queue('small', max_message_size => 1024), pigeon.create_queue('gone'), pigeon.create_queue('dead', max_message_size => 1500);
SELECT pigeon.subscribe('t', 'all'), pigeon.subscribe('t', 'some', '{"k": ["v"]}'), pigeon.subscribe('t', 'body', '{"n": [1]}', 'body'),
	pigeon.subscribe('t', 'small', dead_letter_queue => 'dead'), pigeon.subscribe('t', 'gone');
SELECT pigeon.drop_queue('gone');
CREATE FUNCTION metrics() RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_strip_nulls(to_jsonb(m) - '{topic,subscriptions,archived_bytes}'::text[]) FROM pigeon.topic_metrics m $$;
CREATE FUNCTION expected(counted jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT CASE WHEN current_setting('shared_preload_libraries') ~ 'pigeon' THEN jsonb_object_agg(key, 0) || counted ELSE '{}' END
	FROM unnest('{published,published_bytes,deduplicated,delivered,filtered_out,filtered_out_message_attributes,filtered_out_message_body,
		filtered_out_no_message_attributes,filtered_out_invalid_attributes,filtered_out_invalid_message_body,failed,dead_lettered,failed_to_dead_letter}'::text[]) AS key $$;
SELECT is((SELECT subscriptions FROM pigeon.topic_metrics), 5::bigint, 'subscriptions are counted in any case');
SELECT is(metrics(), expected('{}'), 'nothing is counted yet');
SELECT pigeon.publish('t', '{"n": 1}', attributes => '{"k": "v"}');
SELECT is(metrics(), expected('{"published": 1, "published_bytes": 16, "delivered": 4, "failed": 1}'), 'a message for all');
BEGIN;
SELECT pigeon.publish('t', '{"n": 1}', attributes => '{"k": "v"}');
ROLLBACK;
SELECT is(metrics(), expected('{"published": 1, "published_bytes": 16, "delivered": 4, "failed": 1}'), 'what is rolled back is not counted');
SELECT pigeon.publish('t', '{"n": 2}', attributes => '{"k": "w"}'), pigeon.publish('t', 'x'), pigeon.publish('t', repeat('x', 1200)), pigeon.publish('t', repeat('x', 1800));
SELECT is(metrics(), expected('{"published": 5, "published_bytes": 3033, "delivered": 10, "filtered_out": 8, "filtered_out_message_attributes": 1,
	"filtered_out_no_message_attributes": 3, "filtered_out_message_body": 1, "filtered_out_invalid_message_body": 3, "failed": 7,
	"dead_lettered": 1, "failed_to_dead_letter": 1}'), 'each reason and each fate');
SELECT pigeon.alter_topic('t', archive_retention => '1 day');
SELECT pigeon.publish('t', 'x');
SELECT ok((SELECT archived_bytes > 0 FROM pigeon.topic_metrics), 'the archive has a size');

-- Duplicates, replays and redrives
SELECT pigeon.drop_topic(topic) FROM (SELECT pigeon.alter_topic('t', archive_retention => '0')) AS a, pigeon.topics WHERE topic = 't';
SELECT pigeon.create_topic('f', fifo => true, archive_retention => '1 day'), pigeon.create_queue('fifo', fifo => true);
SELECT pigeon.subscribe('f', 'fifo') AS subscription \gset
SELECT pigeon.publish('f', 'x', group_id => 'g', deduplication_id => '1') FROM generate_series(1, 3);
SELECT pigeon.replay(:subscription, '-infinity');
SELECT is(metrics(), expected('{"published": 1, "published_bytes": 1, "deduplicated": 2, "delivered": 2}'), 'duplicates, and replays as deliveries');
SELECT pigeon.create_queue('letters'), pigeon.create_queue('source', dead_letter_queue => 'letters', max_receive_count => 1);
SELECT pigeon.send('source', 'x');
SELECT pigeon.receive('source', visibility_timeout => '0');
SELECT pigeon.receive('source');
SELECT pigeon.redrive('letters');
SELECT CASE WHEN :'shared' THEN is((SELECT array_agg((queue, dead_lettered, redriven)::text ORDER BY queue) FROM pigeon.queue_metrics WHERE queue IN ('letters', 'source')),
	'{"(letters,0,1)","(source,1,0)"}', 'and redrives') ELSE pass('without shared memory nothing is counted') END;

-- Plans that run in parallel
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
SELECT lives_ok($$SELECT FROM pigeon.queue_metrics AS q, pigeon.exact_queue_metrics(q.queue); SELECT FROM pigeon.topic_metrics$$, 'metrics do not mind parallel plans');
SELECT * FROM finish();
