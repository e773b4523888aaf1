-- The archive of a topic: what it keeps, for how long, and replay.  No transaction around the whole, since maintenance commits.
SELECT plan(53);
SELECT pigeon.create_queue('q'), pigeon.create_queue('late');
SELECT lives_ok($$SELECT pigeon.create_topic('t', archive_retention => '6 days')$$, 'a topic with an archive');
SELECT topic_view AS view, replace(topic_view::text, 'pigeon.t_', '') AS id FROM pigeon.topics WHERE topic = 't' \gset
SELECT is((SELECT archive_retention FROM pigeon.topics), '6 days', 'view topics');
SELECT pigeon.subscribe('t', 'q') AS q \gset
SELECT pigeon.publish('t', 'one', 's', '{"k": "v"}', group_id => 'g') AS one \gset
WITH i AS (INSERT INTO :view (body, attributes) VALUES ('two', '{"n": 2}'), ('three', '{"n": 3}') RETURNING published_at)
SELECT DISTINCT published_at AS inserted_at FROM i \gset
SELECT is((SELECT array_agg((body, subject, attributes, group_id, publisher) ORDER BY message_id)::text FROM :view),
	format('{"(one,s,\"{\"\"k\"\": \"\"v\"\"}\",g,%1$s)","(two,,\"{\"\"n\"\": 2}\",,%1$s)","(three,,\"{\"\"n\"\": 3}\",,%1$s)"}', current_user), 'the view shows what was published');
SELECT is((SELECT count(*) FROM :view WHERE published_at = :'inserted_at'), 2::bigint, 'at the time that RETURNING told');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 3::bigint, 'subscribers get it at once');
BEGIN;
SELECT pigeon.publish('t', 'never');
ROLLBACK;
SELECT is((SELECT count(*) FROM :view), 3::bigint, 'what is rolled back is not archived');
SELECT throws_ok($$SELECT pigeon.drop_topic('t')$$, '55000', 'topic "t" has an archive', 'a topic with an archive is not dropped');

-- Replay
SELECT pigeon.subscribe('t', 'late', '{"n": [{"numeric": [">", 0]}]}') AS late \gset
SELECT throws_ok(format('SELECT pigeon.replay(%s, now(), now() - interval %L)', :late, '1 day'), '22023', NULL, 'replay from after to');
SELECT throws_ok(format('SELECT pigeon.replay(%s, NULL)', :late), '22023', NULL, 'replay from NULL');
SELECT throws_ok(format('SELECT pigeon.replay(%s, now(), max_per_second => 0)', :late), '22023', NULL, 'replay at no rate');
SELECT throws_ok('SELECT pigeon.replay(999999, now())', '42704', NULL, 'replay to nobody');
SELECT pigeon.replay(:late, '-infinity') AS task \gset
SELECT is((SELECT array_agg((status, replayed, filtered_out, topic, queue, failure_reason IS NULL) ::text) FROM pigeon.replay_tasks WHERE task_id = :task),
	ARRAY['(COMPLETED,2,1,t,late,t)'], 'view replay_tasks');
SELECT is((SELECT array_agg((body, attributes, sender, message_id > replayed_message_id)::text ORDER BY message_id) FROM pigeon.peek('late')),
	ARRAY[format('(two,"{""n"": 2}",%s,t)', current_user), format('(three,"{""n"": 3}",%s,t)', current_user)], 'a late subscriber is brought up to date, through its filter');
SELECT is((SELECT count(*) FROM :view), 3::bigint, 'a replay is not archived');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 3::bigint, 'nor for others');
SELECT pigeon.purge_queue('late');
SELECT pigeon.alter_subscription(:late, filter_policy => '{}', raw_delivery => false);
SELECT pigeon.replay(:late, :'inserted_at', :'inserted_at');
SELECT is((SELECT array_agg((body::jsonb->>'Message', body::jsonb->>'Replayed', (body::jsonb->>'MessageId')::bigint = replayed_message_id)::text ORDER BY message_id)
	FROM pigeon.pop('late', 10)), '{"(two,true,t)","(three,true,t)"}', 'from and to are included; the envelope tells');
SELECT throws_ok(format('SELECT pigeon.cancel_replay(%s)', :task), '55000', NULL, 'cancel what has ended');
SELECT throws_ok('SELECT pigeon.cancel_replay(999999)', '42704', NULL, 'cancel what never was');

-- In steps
SELECT count(*) FROM pigeon.publish_batch('t', (SELECT array_agg(n::text ORDER BY n) FROM generate_series(1, 3500) AS n));
SELECT pigeon.alter_subscription(:late, raw_delivery => true);
BEGIN;
SELECT pigeon.replay(:late, '-infinity') AS task \gset
SELECT is((SELECT status || ' ' || replayed FROM pigeon.replay_tasks WHERE task_id = :task), 'RUNNING 1000', 'the first step is taken at once');
SELECT throws_ok(format('SELECT pigeon.replay(%s, now())', :late), '55000', NULL, 'one replay at a time');
COMMIT;
CALL pigeon.maintain();
-- A worker may be at it too.
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		EXIT WHEN (SELECT bool_and(status <> 'RUNNING') FROM pigeon.replay_tasks);
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT is((SELECT status || ' ' || replayed FROM pigeon.replay_tasks WHERE task_id = :task), 'COMPLETED 3503', 'maintenance does the rest');
SELECT ok((SELECT array_agg(replayed_message_id) FROM pigeon.pop('late', 10000) WHERE replayed_message_id IS NOT NULL)
	= (SELECT array_agg(message_id ORDER BY published_at, message_id) FROM :view), 'each message once, in the order of publication');
SELECT pigeon.replay(:late, '-infinity', max_per_second => 1) AS task \gset
SELECT is((SELECT status || ' ' || replayed FROM pigeon.replay_tasks WHERE task_id = :task), 'RUNNING 1', 'at a rate');
SELECT ok(pigeon.cancel_replay(:task) >= 1, 'cancel_replay');
SELECT is((SELECT status FROM pigeon.replay_tasks WHERE task_id = :task), 'CANCELLED', 'it is cancelled');
SELECT pigeon.replay(:late, '-infinity', max_per_second => 10) AS task \gset
SELECT pigeon.unsubscribe(:late);
CALL pigeon.maintain();
DO $$
BEGIN
	FOR i IN 1..1000 LOOP
		EXIT WHEN (SELECT bool_and(status <> 'RUNNING') FROM pigeon.replay_tasks);
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT is((SELECT status || ': ' || failure_reason FROM pigeon.replay_tasks WHERE task_id = :task), 'FAILED: subscription does not exist any more', 'it fails when its subscription ends');

-- A replay to a queue that is not there does not seem to succeed
SELECT pigeon.create_queue('gone');
SELECT pigeon.subscribe('t', 'gone') AS gone \gset
SELECT pigeon.drop_queue('gone');
SELECT pigeon.replay(:gone, '-infinity') AS task \gset
CALL pigeon.maintain();
SELECT is((SELECT status || ' ' || replayed || ': ' || failure_reason FROM pigeon.replay_tasks WHERE task_id = :task),
	'FAILED 0: the owner of the subscription cannot get messages to its queue', 'a replay to nowhere fails');
SELECT pigeon.unsubscribe(:gone);

-- Expiry.  A sixth of the retention of 6 days is a day.
CREATE PROCEDURE days_pass(n int) LANGUAGE plpgsql AS $$
DECLARE t regclass;
BEGIN
	FOR t IN SELECT oid::regclass FROM pg_class WHERE relname ~ '^t_\d+_\d+$' AND relkind = 'r' LOOP
		EXECUTE format('UPDATE %s SET published_at = published_at - make_interval(days => $1)', t) USING n;
	END LOOP;
	UPDATE pigeon.topic SET archive_since = archive_since - make_interval(days => n);
END $$;
CREATE FUNCTION state() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text := (SELECT archive_segment FROM pigeon.topic) || ':';
	t regclass;
	n bigint;
BEGIN
	FOR t IN SELECT oid::regclass FROM pg_class WHERE relname ~ '^t_\d+_\d+$' AND relkind = 'r' ORDER BY relname LOOP
		EXECUTE format('SELECT count(*) FROM %s', t) INTO n;
		result := format('%s %s', result, CASE WHEN pg_relation_size(t) = 0 THEN '-' ELSE n::text END);
	END LOOP;
	RETURN result;
END $$;
SELECT is(state(), '0: 3503 - - - - - - -', 'everything is in the first segment');
CALL pigeon.maintain();
SELECT is(state(), '0: 3503 - - - - - - -', 'for a day');
CALL days_pass(1);
CALL pigeon.maintain();
SELECT pigeon.publish('t', 'second day');
SELECT is(state(), '1: 3503 1 - - - - - -', 'then comes the next one');
CALL days_pass(4);
CALL pigeon.maintain();
SELECT is(state(), '2: 3503 1 - - - - - -', 'all is kept for its time');
CALL days_pass(1);
CALL pigeon.maintain();
SELECT is(state(), '3: - 1 - - - - - -', 'a segment that has expired is emptied');
SELECT is((SELECT string_agg(body, ',') FROM :view), 'second day', 'the view shows the rest');
BEGIN;
SELECT pigeon.publish('t', 'x');
CALL days_pass(1);
SELECT lives_ok('CALL pigeon.maintain()', 'maintenance while a publisher is open');
ROLLBACK;
CALL days_pass(1);
CALL pigeon.maintain();
CALL pigeon.maintain();
SELECT is(state(), '4: - - - - - - - -', 'the last message expires too');
SELECT lives_ok($$SELECT pigeon.alter_topic('t', archive_retention => '1 year')$$, 'a longer retention');
SELECT pigeon.publish('t', 'x');
CALL pigeon.maintain();
SELECT is(state(), '4: - - - - 1 - - -', 'holds at once');

-- The last 100 tasks of each subscription are kept.
CREATE TABLE started AS SELECT pigeon.replay(:q, now(), now()) AS task_id FROM generate_series(1, 105);
SELECT is((SELECT count(*) || ' ' || min(task_id) FROM pigeon.replay_tasks WHERE subscription_id = :q),
	(SELECT '100 ' || max(task_id) - 99 FROM started), 'of many tasks the last are kept');
SELECT ok((SELECT count(*) > 0 FROM pigeon.replay_tasks WHERE subscription_id = :late), 'those of other subscriptions stay');

-- Given up
SELECT lives_ok($$SELECT pigeon.alter_topic('t', archive_retention => '0')$$, 'give the archive up');
SELECT is((SELECT count(*) FROM :view), 0::bigint, 'the view is empty');
SELECT throws_ok(format('SELECT pigeon.replay(%s, now())', :q), '55000', 'topic "t" has no archive', 'no archive, no replay');
SELECT lives_ok($$SELECT pigeon.publish('t', 'x')$$, 'publishing goes on');
SELECT lives_ok($$SELECT pigeon.alter_topic('t', archive_retention => '1 day')$$, 'an archive again');
SELECT pigeon.publish('t', 'y');
SELECT is((SELECT string_agg(body, ',') FROM :view), 'y', 'from now on');
SELECT is(pigeon.drop_topic('t'), true, 'drop it without one') FROM pigeon.alter_topic('t', archive_retention => '0');
-- A replay in one call of maintain() takes no more memory than its steps.
SELECT pigeon.create_topic('long', archive_retention => '1 day');
SELECT pigeon.create_queue('long');
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 'long' \gset
SELECT count(*) FROM generate_series(1, 160) AS n, LATERAL (SELECT pigeon.publish('long', repeat(md5(n::text), 16000))) AS p;
CREATE FUNCTION peak() RETURNS bigint LANGUAGE sql AS $$
	SELECT substring(pg_read_file(format('/proc/%s/status', pg_backend_pid())) FROM 'VmPeak:\s*(\d+)')::bigint / 1024
$$;
SELECT pigeon.subscribe('long', 'long') AS subscription \gset
SELECT pigeon.replay(:subscription, '-infinity') AS task \gset
SELECT peak() AS before \gset
CALL pigeon.maintain();
SELECT is((SELECT status || ' ' || replayed FROM pigeon.replay_tasks WHERE task_id = :task), 'COMPLETED 160', 'eighty megabytes are replayed');
SELECT cmp_ok(peak() - :before, '<', 40::bigint, 'without growing by them');
SELECT pigeon.alter_topic('long', archive_retention => '0');
SELECT pigeon.drop_topic('long'), pigeon.drop_queue('long');
-- An archive that somebody else has turned on belongs to the topic's owner, too.
CREATE ROLE pgn_keeper;
GRANT CREATE ON SCHEMA pigeon TO pgn_keeper;
SET ROLE pgn_keeper;
SELECT pigeon.create_topic('kept');
RESET ROLE;
SELECT pigeon.alter_topic('kept', archive_retention => '1 day');
SELECT pigeon.publish('kept', 'x');
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 'kept' \gset
SET ROLE pgn_keeper;
SELECT is((SELECT string_agg(body, ',') FROM :view), 'x', 'who can read it');
SELECT lives_ok($$SELECT pigeon.alter_topic('kept', archive_retention => '0')$$, 'and give it up');
SELECT pigeon.drop_topic('kept');
RESET ROLE;
REVOKE CREATE ON SCHEMA pigeon FROM pgn_keeper;
DROP ROLE pgn_keeper;
-- A replay repeats what a FIFO queue has had within its window, with the time of the first
SELECT pigeon.create_topic('fifo', fifo => true, archive_retention => '1 day'), pigeon.create_queue('again', fifo => true), pigeon.create_queue('enveloped', fifo => true);
SELECT pigeon.subscribe('fifo', 'again') AS again \gset
SELECT pigeon.subscribe('fifo', 'enveloped', raw_delivery => false) AS enveloped \gset
SELECT pigeon.publish('fifo', n::text, group_id => 'g', deduplication_id => n::text) FROM generate_series(1, 3) AS n;
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.pop('again', 10)), '1 2 3', 'messages of a FIFO topic');
SELECT body::jsonb->>'Timestamp' AS first_time FROM pigeon.pop('enveloped', 10) LIMIT 1 \gset
SELECT pg_sleep(0.01);
SELECT pigeon.replay(:again, '-infinity'), pigeon.replay(:enveloped, '-infinity');
SELECT is((SELECT string_agg(body, ' ' ORDER BY message_id) FROM pigeon.pop('again', 10) WHERE replayed_message_id IS NOT NULL), '1 2 3', 'come again, in order');
SELECT is((SELECT body::jsonb->>'Timestamp' FROM pigeon.pop('enveloped', 10) LIMIT 1), :'first_time', 'with the time of the first');
SELECT * FROM finish();
