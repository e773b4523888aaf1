-- Topics and subscriptions: the registry, publishing in every way, delivery forms.
BEGIN;
SELECT plan(99);

-- Registry
SELECT lives_ok($$SELECT pigeon.create_topic('news', tags => '{"team": "desk"}')$$, 'create_topic');
SELECT throws_ok($$SELECT pigeon.create_topic('news')$$, '42710', 'topic "news" already exists', 'twice');
SELECT lives_ok($$SELECT pigeon.create_topic('news', fifo => false, tags => '{"team": "desk"}', if_not_exists => true)$$, 'if_not_exists, the same');
SELECT throws_ok($$SELECT pigeon.create_topic('news', max_message_size => 2048, if_not_exists => true)$$, '42710',
	'topic "news" already exists with another max_message_size', 'if_not_exists, another attribute');
SELECT throws_ok($$SELECT pigeon.create_topic('news', tags => '{}', if_not_exists => true)$$, '42710',
	'topic "news" already exists with another tags', 'if_not_exists, other tags');
SELECT throws_ok($$SELECT pigeon.create_topic(NULL)$$, '22023', NULL, 'a topic needs a name');
SELECT throws_ok($$SELECT pigeon.create_topic('')$$, '22023', 'a topic''s name must have 1 to 80 characters', 'an empty name');
SELECT throws_ok($$SELECT pigeon.create_topic(repeat('x', 81))$$, '22023', NULL, 'a long name');
SELECT lives_ok($$SELECT pigeon.create_topic(repeat('ü', 80))$$, 'the longest name');
SELECT lives_ok($$SELECT pigeon.create_topic('a"b''c; DROP TABLE x --')$$, 'a name of all characters');
SELECT throws_ok($$SELECT pigeon.create_topic('x', content_based_deduplication => true)$$, '22023', NULL, 'deduplication is for FIFO topics');
SELECT throws_ok($$SELECT pigeon.create_topic('x', archive_retention => '59 s')$$, '22023', NULL, 'an archive for less than a minute');
SELECT throws_ok($$SELECT pigeon.create_topic('x', max_message_size => 1023)$$, '22023', NULL, 'messages of less than 1 kB');
SELECT throws_ok($$SELECT pigeon.create_topic('x', tags => '{"a": 1}')$$, '22023', NULL, 'tags are strings');
SELECT lives_ok($$SELECT pigeon.alter_topic('news', max_message_size => 2000, tags => '{"team": "night"}')$$, 'alter_topic');
SELECT results_eq($$SELECT topic COLLATE "default", fifo, max_message_size, archive_retention, tags, owner FROM pigeon.topics WHERE topic = 'news'$$,
	$$VALUES ('news', false, 2000, NULL::interval, '{"team": "night"}'::jsonb, current_user::name)$$, 'view topics');
SELECT throws_ok($$SELECT pigeon.alter_topic('nothing')$$, '42704', 'topic "nothing" does not exist', 'alter what is not there');
SELECT throws_ok($$SELECT pigeon.drop_topic('nothing')$$, '42704', NULL, 'drop what is not there');
SELECT is(pigeon.drop_topic('nothing', if_exists => true), false, 'drop if it exists');
SELECT is(pigeon.drop_topic('a"b''c; DROP TABLE x --'), true, 'drop_topic');

-- Subscriptions
SELECT pigeon.create_queue('a'), pigeon.create_queue('b'), pigeon.create_queue('dead'), pigeon.create_queue('f', fifo => true);
CREATE TEMP TABLE s AS SELECT pigeon.subscribe('news', 'a') AS a, pigeon.subscribe('news', 'b', raw_delivery => false) AS b;
SELECT is(pigeon.subscribe('news', 'a'), a, 'subscribing again gives the same id') FROM s;
SELECT is(pigeon.subscribe('news', 'a', '{}', 'attributes', true, ''), a, 'so it does with all the defaults given') FROM s;
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'a', raw_delivery => false)$$, '42710',
	'subscription of queue "a" to topic "news" already exists with another raw_delivery', 'but not with another attribute');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'a', '{"k": ["v"]}')$$, '42710', NULL, 'nor another policy');
SELECT throws_ok($$SELECT pigeon.subscribe('nothing', 'a')$$, '42704', 'topic "nothing" does not exist', 'an unknown topic');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'nothing')$$, '42704', 'queue "nothing" does not exist', 'an unknown queue');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'f')$$, '22023', 'a FIFO queue cannot subscribe to a standard topic', 'a FIFO queue');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'dead', dead_letter_queue => 'dead')$$, '22023', NULL, 'dead letters into itself');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'dead', dead_letter_queue => 'f')$$, '22023', NULL, 'dead letters into a queue of another kind');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'dead', '{"k": [{"like": "x"}]}')$$, '22023', 'invalid filter policy at $.k[0].like', 'a bad policy');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'dead', '[]')$$, '22023', NULL, 'a policy that is no object');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'dead', filter_scope => 'header')$$, '22023', NULL, 'a bad scope');
SELECT results_eq($$SELECT format('%s %s %s %s %s %s %s', topic, queue, filter_policy, filter_scope, raw_delivery, dead_letter_queue, owner) FROM pigeon.subscriptions ORDER BY 1$$,
	$$VALUES ('news a  attributes t  ' || current_user), ('news b  attributes f  ' || current_user)$$,
	'view subscriptions');

-- Publishing
SELECT is((SELECT count(*) FROM pigeon.peek('a')), 0::bigint, 'nothing was published');
CREATE TEMP TABLE p AS SELECT pigeon.publish('news', 'one', 'a subject', '{"k": "v"}', group_id => 'g') AS one, pigeon.publish('news', '{"n": 2}'::jsonb) AS two;
SELECT results_eq($$SELECT message_id, body, attributes, topic, subject, group_id, sender FROM pigeon.receive('a', 10)$$,
	$$SELECT one, 'one', '{"k": "v"}'::jsonb, 'news', 'a subject', 'g', current_user::name FROM p
	UNION ALL SELECT two, '{"n": 2}', NULL, 'news', NULL, NULL, current_user FROM p$$, 'raw delivery keeps everything');
SELECT results_eq($$SELECT message_id, body::jsonb - 'Timestamp', attributes, topic, subject FROM pigeon.receive('b', 10)$$,
	$$SELECT one, jsonb_build_object('Type', 'Notification', 'MessageId', one::text, 'TopicArn', 'news', 'Subject', 'a subject', 'Message', 'one',
		'MessageAttributes', '{"k": {"Type": "String", "Value": "v"}}'::jsonb), NULL::jsonb, 'news', 'a subject' FROM p
	UNION ALL SELECT two, jsonb_build_object('Type', 'Notification', 'MessageId', two::text, 'TopicArn', 'news', 'Message', '{"n": 2}'), NULL, 'news', NULL FROM p$$,
	'an envelope for who wants one');
SELECT is((SELECT count(*) FROM pigeon.log_0 WHERE message_id = one), 1::bigint, 'the body is stored once') FROM p;
SELECT pigeon.publish('news', 'x', attributes => '{"b": {"binary": "AQID"}, "l": ["a", 1]}');
SELECT is((SELECT body::jsonb->'MessageAttributes' FROM pigeon.peek('b') WHERE attributes IS NULL AND body ~ 'AQID'),
	'{"b": {"Type": "Binary", "Value": "AQID"}, "l": {"Type": "String.Array", "Value": "[\"a\", 1]"}}', 'binary and array attributes in an envelope');
SELECT ok((SELECT bool_and(body::jsonb->>'Timestamp' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$'
	AND (body::jsonb->>'Timestamp')::timestamptz = date_trunc('milliseconds', sent_at)) FROM pigeon.peek('b')), 'and the time, in UTC');
SELECT pigeon.pop('a', 10), pigeon.pop('b', 10);
SELECT last_value AS last FROM pigeon.message_id_seq \gset
SELECT results_eq(format($$SELECT id - %s FROM pigeon.publish_batch('news', ARRAY['x', 'y'], subjects => ARRAY['s', NULL], attributes => ARRAY['{"n": 1}', NULL]::jsonb[]) AS id$$, :last + 1),
	$$VALUES (0::bigint), (1)$$, 'publish_batch returns ids in order');
SELECT results_eq($$SELECT body, subject, attributes FROM pigeon.pop('a', 10)$$, $$VALUES ('x', 's', '{"n": 1}'::jsonb), ('y', NULL, NULL)$$, 'publish_batch');
SELECT is((SELECT count(*) FROM pigeon.publish_batch('news', ARRAY['1', '{}']::jsonb[])), 2::bigint, 'publish_batch of jsonb');
SELECT is((SELECT count(*) FROM pigeon.publish_batch('news', '{}'::text[])), 0::bigint, 'publish_batch of nothing');
SELECT throws_ok($$SELECT pigeon.publish_batch('news', ARRAY['x', ''])$$, '22023', NULL, 'a batch is refused whole');
SELECT is((SELECT count(*) FROM pigeon.pop('a', 10)), 2::bigint, 'and nothing of it is published');
SELECT throws_ok($$SELECT pigeon.publish_batch('news', ARRAY['x'], subjects => ARRAY['s', 's'])$$, '22023', NULL, 'arrays of different lengths');
SELECT throws_ok($$SELECT pigeon.publish('nothing', 'x')$$, '42704', NULL, 'an unknown topic');
SELECT throws_ok($$SELECT pigeon.publish('news', NULL::text)$$, '22023', NULL, 'no body');
SELECT throws_ok($$SELECT pigeon.publish('news', repeat('x', 2001))$$, '54000', NULL, 'too large');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', subject => '')$$, '22023', 'invalid subject', 'an empty subject');
SELECT throws_ok(format($$SELECT pigeon.publish('news', 'x', subject => %L)$$, 'a' || c), '22023', 'invalid subject', 'a character that a subject must not have')
FROM unnest(ARRAY[E'\n', E'\x7f', U&'\0085', U&'\2028', U&'\2029', U&'\FFFE']) AS c;
SELECT lives_ok($$SELECT pigeon.publish('news', 'x', subject => U&'\00A0\2027\202A\FFFD')$$, 'their neighbours');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', subject => E'a\nb')$$, '22023', NULL, 'a subject with a line break');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', subject => repeat('ü', 101))$$, '22023', NULL, 'a long subject');
SELECT lives_ok($$SELECT pigeon.publish('news', 'x', subject => repeat('ü', 100))$$, 'the longest subject');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', deduplication_id => 'd')$$, '22023', NULL, 'a deduplication id');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', attributes => '{"bad name": 1}')$$, '22023', NULL, 'a bad attribute');
SELECT lives_ok($$SELECT pigeon.publish('news', '{"default": "for all", "sqs": "for queues", "http": 1}', message_structure => 'json'),
	pigeon.publish('news', '{"default": "for all", "sqs": 7}'::jsonb, message_structure => 'json')$$, 'message_structure');
SELECT results_eq($$SELECT body FROM pigeon.pop('a', 10)$$, $$VALUES ('x'), ('x'), ('for queues'), ('for all')$$, 'the text for queues, or else the default');
SELECT pigeon.create_topic('structured'), pigeon.create_queue('is paid');
SELECT pigeon.subscribe('structured', 'is paid', '{"status": ["paid"]}', 'body');
SELECT pigeon.publish_batch('structured', ARRAY['{"default": "x", "sqs": "{\"status\": \"paid\", \"n\": 1}"}', '{"default": "{\"status\": \"new\"}", "status": "paid"}',
	'{"default": "{\"status\": \"paid\", \"n\": 2}"}'], message_structure => 'json');
SELECT results_eq($$SELECT body::jsonb->>'n' FROM pigeon.pop('is paid', 10)$$, $$VALUES ('1'), ('2')$$, 'filters see the text for queues');
-- What the queue says holds for what comes from a topic
SELECT pigeon.create_queue('later', delay => '1 h');
SELECT pigeon.subscribe('structured', 'later');
SELECT pigeon.publish('structured', '{"status": "paid"}');
SELECT is((SELECT (delayed, visible)::text FROM pigeon.exact_queue_metrics('later')), '(1,0)', 'the delay of the subscriber''s queue');
SELECT throws_ok($$SELECT pigeon.publish('news', '{"sqs": "x"}', message_structure => 'json')$$, '22023', 'invalid message structure', 'a structure needs a default');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', message_structure => 'json')$$, '22P02', NULL, 'and is JSON');
SELECT throws_ok($$SELECT pigeon.publish('news', 'x', message_structure => 'xml')$$, '22023', NULL, 'there is one structure');

-- INSERT
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 'news' \gset
PREPARE insert_many AS INSERT INTO :view (body, subject, attributes) SELECT 'row ' || n, 's', jsonb_build_object('n', n) FROM generate_series(1, 2500) AS n;
EXECUTE insert_many;
SELECT results_eq($$SELECT count(*), count(DISTINCT message_id), min(body), min(subject), sum((attributes->>'n')::int) FROM pigeon.pop('a', 10000)$$,
	$$VALUES (2500::bigint, 2500::bigint, 'row 1', 's', 3126250::bigint)$$, 'INSERT ... SELECT publishes every row');
WITH inserted AS (INSERT INTO :view (body) VALUES ('r1'), ('r2') RETURNING message_id, publisher, published_at, body)
SELECT is(array_agg((body, publisher, published_at <= clock_timestamp()) ORDER BY message_id)::text,
	format('{"(r1,%1$s,t)","(r2,%1$s,t)"}', current_user), 'RETURNING') FROM inserted;
SELECT is((SELECT count(*) FROM pigeon.pop('a', 10)), 2::bigint, 'a statement''s rows are there at its end');
CREATE FUNCTION inserted(command text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	EXECUTE command;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
SELECT is(inserted(format($$INSERT INTO %s (body) VALUES ('x'), ('y'), ('z')$$, :'view')), 3::bigint, 'rows are counted');
COPY :view (body, attributes) FROM STDIN;
copied	{"n": 1}
copied too	\N
\.
SELECT throws_ok(format($$INSERT INTO %s (body) VALUES (NULL)$$, :'view'), '22023', NULL, 'INSERT checks: no body');
SELECT throws_ok(format($$INSERT INTO %s (body) SELECT CASE n WHEN 1500 THEN '' ELSE 'x' END FROM generate_series(1, 2000) n$$, :'view'), '22023', NULL, 'INSERT checks: an empty body');
SELECT throws_ok(format($$INSERT INTO %s (body, message_id) VALUES ('x', 1)$$, :'view'), '428C9', NULL, 'message_id is given by the topic');
SELECT throws_ok(format($$INSERT INTO %s (body, publisher) VALUES ('x', 'nobody')$$, :'view'), '428C9', NULL, 'publisher too');
SELECT throws_ok(format($$UPDATE %s SET body = 'x'$$, :'view'), '55000', NULL, 'what is published cannot be changed');
SELECT results_eq($$SELECT body FROM pigeon.pop('a', 10)$$, $$VALUES ('x'), ('y'), ('z'), ('copied'), ('copied too')$$,
	'COPY publishes, and of what was refused nothing is published');

-- Statements within statements, with and without subtransactions that fail
CREATE FUNCTION publish_too(n int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		INSERT INTO v2 (body) VALUES ('lost ' || n);
		RAISE EXCEPTION 'no';
	EXCEPTION WHEN raise_exception THEN
	END;
	INSERT INTO v2 (body) VALUES ('inner ' || n);
	RETURN 'outer ' || n;
END $$;
CREATE TEMP VIEW v2 AS SELECT * FROM :view;
CREATE RULE r AS ON INSERT TO v2 DO INSTEAD INSERT INTO :view (body) VALUES (NEW.body);
INSERT INTO :view (body) SELECT publish_too(n) FROM generate_series(1, 3) n;
SELECT bag_eq($$SELECT body FROM pigeon.pop('a', 10)$$, $$VALUES ('inner 1'), ('inner 2'), ('inner 3'), ('outer 1'), ('outer 2'), ('outer 3')$$,
	'nothing is lost or found when statements nest');
-- Without the trigger that ends a statement
SELECT format('DROP TRIGGER publish_rows ON %s', :'view') \gexec
INSERT INTO :view (body) VALUES ('1'), ('2');
SELECT is((SELECT count(*) FROM pigeon.pop('a', 10)), 2::bigint, 'without its statement trigger each row is published at once');
SELECT format('DROP TRIGGER publish_row ON %s', :'view') \gexec
SELECT throws_ok(format($$INSERT INTO %s (body) VALUES ('x')$$, :'view'), '55000', NULL, 'without its row trigger the view refuses rows');
SELECT lives_ok($$SELECT pigeon.publish('news', 'x')$$, 'but publish() works');
CREATE TABLE other (body text);
SELECT throws_ok($$CREATE TRIGGER t BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION pigeon.publish_rows(); INSERT INTO other VALUES ('x')$$,
	'39P01', NULL, 'the trigger is of no use on another table');

-- Filters
SELECT pigeon.create_topic('orders'), pigeon.create_queue('paid'), pigeon.create_queue('big');
SELECT pigeon.subscribe('orders', 'paid', '{"status": ["paid"]}'), pigeon.subscribe('orders', 'big', '{"total": [{"numeric": [">", 100]}]}', 'body');
SELECT pigeon.publish('orders', jsonb_build_object('total', total), attributes => jsonb_build_object('status', status))
	FROM (VALUES (50, 'new'), (150, 'new'), (60, 'paid'), (160, 'paid')) AS orders (total, status);
SELECT results_eq($$SELECT body FROM pigeon.pop('paid', 10)$$, $$VALUES ('{"total": 60}'), ('{"total": 160}')$$, 'a policy on attributes');
SELECT results_eq($$SELECT body FROM pigeon.pop('big', 10)$$, $$VALUES ('{"total": 150}'), ('{"total": 160}')$$, 'a policy on the body');
SELECT lives_ok($$SELECT pigeon.alter_subscription(subscription_id, filter_policy => '{"status": ["new"]}') FROM pigeon.subscriptions WHERE queue = 'paid'$$, 'change a policy');
SELECT pigeon.publish('orders', 'x', attributes => '{"status": "new"}'), pigeon.publish('orders', 'y', attributes => '{"status": "paid"}');
SELECT results_eq($$SELECT body FROM pigeon.pop('paid', 10)$$, $$VALUES ('x')$$, 'it holds at once');
SELECT lives_ok($$SELECT pigeon.alter_subscription(subscription_id, filter_policy => 'null') FROM pigeon.subscriptions WHERE queue = 'paid'$$, 'remove a policy');
SELECT pigeon.publish('orders', 'z');
SELECT results_eq($$SELECT body FROM pigeon.pop('paid', 10)$$, $$VALUES ('z')$$, 'now everything is delivered');
SELECT throws_ok($$SELECT pigeon.alter_subscription(999999)$$, '42704', NULL, 'alter a subscription that is not there');

-- Rollback, unsubscribe, drop
SAVEPOINT before;
SELECT pigeon.publish('orders', 'never');
ROLLBACK TO before;
SELECT is((SELECT count(*) FROM pigeon.peek('paid')), 0::bigint, 'a publish is rolled back with its transaction');
SELECT is(pigeon.unsubscribe(a), true, 'unsubscribe') FROM s;
SELECT is(pigeon.unsubscribe(a), false, 'unsubscribe again') FROM s;
SELECT is(pigeon.drop_topic('orders'), true, 'drop a topic with subscriptions');
SELECT is_empty($$SELECT FROM pigeon.subscriptions WHERE topic = 'orders'$$, 'they are gone with it');
DROP VIEW v2;
SELECT format('DROP VIEW %s', :'view') \gexec
SELECT is_empty($$SELECT FROM pigeon.topic, pigeon.subscription WHERE topic.name = 'news'$$, 'so they are when the view is dropped by hand');

-- The scope of a policy is gone with it.
SELECT pigeon.create_topic('scoped'), pigeon.create_queue('scoped');
SELECT pigeon.subscribe('scoped', 'scoped', '{"a": ["b"]}', 'body') AS scoped \gset
SELECT pigeon.alter_subscription(:scoped, filter_policy => '{}');
SELECT is(pigeon.subscribe('scoped', 'scoped'), :scoped::bigint, 'a subscription whose policy was removed is as one that never had any');
SELECT pigeon.create_topic('of another kind', fifo => true, content_based_deduplication => true);
SELECT throws_ok($$SELECT pigeon.create_topic('of another kind', fifo => false, content_based_deduplication => true, if_not_exists => true)$$, '42710',
	'topic "of another kind" already exists with another fifo', 'a topic of another kind');
SELECT * FROM finish();
ROLLBACK;
