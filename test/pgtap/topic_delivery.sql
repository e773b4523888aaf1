-- Rights on topics and subscriptions, and what becomes of messages that a queue does not take.
BEGIN;
SELECT plan(52);
CREATE ROLE pgn_desk;			-- owns the topic
CREATE ROLE pgn_reader;			-- owns queues and subscribes
CREATE ROLE pgn_writer;			-- publishes
CREATE ROLE pgn_stranger;
GRANT CREATE ON SCHEMA pigeon TO pgn_desk, pgn_reader;

-- What a command does as some role: OK or a SQLSTATE.  Nothing of it stays.
CREATE FUNCTION attempt(role name, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE command;
	RAISE EXCEPTION USING ERRCODE = 'OK000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'OK000' THEN 'OK' ELSE SQLSTATE END;
END $$;
CREATE FUNCTION allowed(command text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(role, ', ' ORDER BY place), 'nobody')
	FROM unnest('{desk,reader,writer,stranger}'::text[]) WITH ORDINALITY AS roles (role, place)
	WHERE attempt('pgn_' || role, command) <> '42501' $$;

SET ROLE pgn_desk;
SELECT pigeon.create_topic('news');
SELECT pigeon.grant_access('news', 'pgn_writer', '{publish}');
SELECT pigeon.grant_access('news', 'pgn_reader', '{subscribe}');
SET ROLE pgn_reader;
SELECT pigeon.create_queue('q'), pigeon.create_queue('q2'), pigeon.create_queue('dead'), pigeon.create_queue('dead2');
CREATE TEMP TABLE s AS SELECT pigeon.subscribe('news', 'q', dead_letter_queue => 'dead') AS q;
GRANT SELECT ON s TO PUBLIC;
RESET ROLE;
SELECT topic_view AS view FROM pigeon.topics WHERE topic = 'news' \gset

-- A subscription is its owner's, whoever changes it.
SELECT pigeon.alter_subscription(q, raw_delivery => false) FROM s;
SELECT is((SELECT owner::text FROM pigeon.subscriptions, s WHERE subscription_id = q), 'pgn_reader', 'a superuser who changes a subscription does not take it over');
SELECT pigeon.alter_subscription(q, raw_delivery => true) FROM s;
SELECT pigeon.create_queue('of a superuser');
SELECT throws_ok($$SELECT pigeon.alter_subscription(q, dead_letter_queue => 'of a superuser') FROM s$$, '42501',
	'the owner of the subscription may not send to queue "of a superuser"', 'nor gives it a dead-letter queue that its owner cannot use');
SELECT pigeon.drop_queue('of a superuser');

SELECT is(allowed(command), expected, command) FROM (VALUES
	($$SELECT pigeon.publish('news', 'x')$$, 'desk, writer'),
	($$SELECT pigeon.publish('news', '1'::jsonb)$$, 'desk, writer'),
	($$SELECT pigeon.publish_batch('news', ARRAY['x'])$$, 'desk, writer'),
	($$SELECT pigeon.publish_batch('news', ARRAY['1']::jsonb[])$$, 'desk, writer'),
	(format($$INSERT INTO %s (body) VALUES ('x')$$, :'view'), 'desk, writer'),
	(format($$SELECT FROM %s$$, :'view'), 'desk'),
	($$SELECT pigeon.subscribe('news', 'q2')$$, 'reader'),
	($$SELECT pigeon.alter_subscription(q, raw_delivery => false) FROM s$$, 'reader'),
	($$SELECT pigeon.unsubscribe(q) FROM s$$, 'desk, reader'),
	($$SELECT pigeon.replay(q, now()) FROM s$$, 'reader'),
	($$SELECT pigeon.alter_topic('news')$$, 'desk'),
	($$SELECT pigeon.drop_topic('news')$$, 'desk'),
	($$SELECT pigeon.grant_access('news', 'pgn_stranger', '{publish}')$$, 'desk'),
	($$SELECT pigeon.revoke_access('news', 'pgn_writer', '{publish}')$$, 'desk'),
	($$SELECT pigeon.create_topic('more')$$, 'desk, reader'),
	($$SELECT pigeon.create_topic('more', archive_retention => '1 day', fifo => true)$$, 'desk, reader'),
	($$INSERT INTO pigeon.topic SELECT * FROM pigeon.topic$$, 'nobody'),
	($$DELETE FROM pigeon.subscription$$, 'nobody'),
	($$SELECT * FROM pigeon.replay_task$$, 'nobody')) AS commands (command, expected);
CREATE FUNCTION visible_to(role name, relation text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE format('SELECT count(*) FROM %s', relation) INTO n;
	PERFORM set_config('role', 'none', true);
	RETURN n;
END $$;
SELECT is((SELECT array_agg(visible_to('pgn_' || role, relation)) FROM unnest('{desk,reader,writer,stranger}'::text[]) role), seen, relation)
FROM (VALUES ('pigeon.topics', '{1,1,1,0}'::bigint[]), ('pigeon.topic_metrics', '{1,1,1,0}'), ('pigeon.subscriptions', '{1,1,0,0}')) AS views (relation, seen);
SELECT throws_ok($$SELECT pigeon.grant_access('news', 'pgn_writer', '{fly}')$$, '22023', NULL, 'an unknown action');
SELECT throws_ok($$SELECT pigeon.grant_access('news', 'pgn_writer', '{publish,send}')$$, '42704', 'queue "news" does not exist', 'send is for queues');

-- A REVOKE takes effect at the next message.
CREATE FUNCTION publish_as_writer(body text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', 'pgn_writer', true);
	PERFORM pigeon.publish('news', body);
	PERFORM set_config('role', 'none', true);
END $$;
CREATE FUNCTION arrived(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(body, ',' ORDER BY message_id), '') FROM pigeon.pop(queue, 100) $$;
SELECT publish_as_writer('1');
SELECT is(arrived('q'), '1', 'it needs no right on the subscribers'' queues to publish');
SELECT pigeon.revoke_access('news', 'pgn_reader', '{subscribe}');
SELECT publish_as_writer('2');
SELECT is(arrived('q') || arrived('dead'), '', 'who may not subscribe any more gets nothing, not even dead letters');
SELECT pigeon.grant_access('news', 'pgn_reader', '{subscribe}');
SELECT queue_table AS q FROM pigeon.queues WHERE queue = 'q' \gset
SELECT format('ALTER TABLE %s OWNER TO pgn_stranger', :'q') \gexec
SELECT publish_as_writer('3');
SELECT is(arrived('q'), '', 'a queue that has passed to another role gets nothing');
SELECT is(arrived('dead'), '3', 'it is a dead letter');
SELECT format('GRANT INSERT ON %s TO pgn_reader', :'q') \gexec
SELECT publish_as_writer('4');
SELECT is(arrived('q'), '4', 'the right to send is enough');
SELECT format('ALTER TABLE %s OWNER TO pgn_reader', :'q') \gexec
ALTER ROLE pgn_reader RENAME TO pgn_reader2;
SELECT publish_as_writer('5');
SELECT is(arrived('q') || arrived('dead'), '', 'a subscription of a role that is gone is of no use');
SELECT is((SELECT owner FROM pigeon.subscriptions), 'pgn_reader'::name, 'but it is shown');
ALTER ROLE pgn_reader2 RENAME TO pgn_reader;
SELECT publish_as_writer('6');
SELECT is(arrived('q'), '6', 'and of use again when the role is there');
SET ROLE pgn_reader;
SELECT pigeon.drop_queue('q');
SELECT publish_as_writer('7');
SELECT is(arrived('dead'), '7', 'a queue that is dropped: dead letter');
SET ROLE pgn_reader;
SELECT pigeon.create_queue('q');
RESET ROLE;
SELECT publish_as_writer('8');
SELECT is(arrived('q'), '8', 'the subscription goes on with a new queue of that name');
RESET ROLE;
SET ROLE pgn_desk;
SELECT pigeon.create_queue('mine');
RESET ROLE;
UPDATE pigeon.subscription SET queue = 'mine';
SELECT pigeon.alter_topic('news');
SELECT publish_as_writer('9');
SELECT is(arrived('dead'), '9', 'a queue of that name of somebody else is not reached');
SET ROLE pgn_desk;
SELECT is(pigeon.subscribe('news', 'mine', raw_delivery => false), q, 'its owner takes the subscription over') FROM s;
SELECT is((SELECT (owner, raw_delivery, dead_letter_queue)::text FROM pigeon.subscriptions), '(pgn_desk,f,)', 'as he wants it');
SELECT throws_ok($$SELECT pigeon.subscribe('news', 'mine')$$, '42710', NULL, 'and after that, alters it');
SELECT pigeon.alter_subscription(q, raw_delivery => true) FROM s;
RESET ROLE;
SELECT publish_as_writer('10');
SELECT is(arrived('mine'), '10', 'and is reached');

-- What a queue does not take
SELECT pigeon.create_topic('all');
SELECT pigeon.create_queue('small', max_message_size => 1024), pigeon.create_queue('letters'), pigeon.create_queue('tiny', max_message_size => 1024);
SELECT pigeon.subscribe('all', 'small', dead_letter_queue => 'letters'), pigeon.subscribe('all', 'tiny', raw_delivery => false, dead_letter_queue => 'letters');
CREATE FUNCTION state() RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(queue || ':' || arrived(queue), ' ' ORDER BY queue) FROM unnest('{small,tiny,letters}'::text[]) AS queue $$;
SELECT pigeon.publish('all', repeat('x', 1025)) AS id \gset
CREATE TEMP TABLE letters AS SELECT * FROM pigeon.receive('letters', 10);
SELECT results_eq($$SELECT message_id, dead_letter_source, left(body, 8) FROM letters ORDER BY 2$$,
	format($$VALUES (%1$s::bigint, 'small', 'xxxxxxxx'), (%1$s, 'tiny', '{"Type":')$$, :id),
	'one message of two subscriptions lies in their dead-letter queue twice, each in its form');
SELECT is((SELECT count(*) FROM pigeon.peek('small')) + (SELECT count(*) FROM pigeon.peek('tiny')), 0::bigint, 'a message that is too large is in no other queue');
SELECT is(pigeon.delete('letters', array_agg(receipt)), '{t,t}', 'each is deleted by its receipt') FROM letters;
SELECT pigeon.publish('all', 'eleven', attributes => (SELECT jsonb_object_agg('k' || n, n) FROM generate_series(1, 11) AS n));
SELECT results_eq($$SELECT body, (SELECT count(*) FROM jsonb_object_keys(attributes)) FROM pigeon.pop('letters', 10)$$, $$VALUES ('eleven', 11::bigint)$$,
	'more than ten attributes do not fit a raw message');
SELECT is((SELECT (body::jsonb)->'MessageAttributes'->'k11' FROM pigeon.pop('tiny')), '{"Type": "Number", "Value": "11"}', 'but an envelope');
SELECT lives_ok($$SELECT pigeon.redrive('letters')$$, 'the dead-letter queue of a subscription can be redriven');
SELECT queue_table AS small FROM pigeon.queues WHERE queue = 'small' \gset
SELECT pigeon.unsubscribe(subscription_id) FROM pigeon.subscriptions WHERE queue = 'tiny';

-- What its owner may do to a queue's table does not fail the publisher.
CREATE FUNCTION trouble(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	EXECUTE command;
	PERFORM pigeon.publish('all', 'm');
	result := (SELECT string_agg(body, ',') FROM pigeon.pop('letters', 10));
	RAISE EXCEPTION USING ERRCODE = 'OK000';
EXCEPTION WHEN SQLSTATE 'OK000' THEN
	RETURN result;
END $$;
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT is(trouble(format(command, :'small')), 'm', 'dead letter: ' || command) FROM (VALUES
	('CREATE TRIGGER t BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION nothing()'),
	('CREATE UNIQUE INDEX ON %s (lane)'),
	('CREATE INDEX ON %s ((lane + 1))'),
	('ALTER TABLE %s ENABLE ROW LEVEL SECURITY'),
	('ALTER TABLE %s ADD extra int')) AS commands (command);
SELECT * FROM finish();
ROLLBACK;
