-- Messages: bodies, attributes, sizes, delay, batches, peek and pop.
BEGIN;
SELECT plan(55);
SELECT pigeon.create_queue('q');
SELECT pigeon.create_queue('slow', delay => '1 hour');
SELECT pigeon.create_queue('small', max_message_size => 1024);

-- Does it keep what is sent?
CREATE FUNCTION echo(body text, attributes jsonb DEFAULT NULL) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	sent bigint;
	m pigeon.message;
BEGIN
	sent := pigeon.send('q', echo.body, echo.attributes);
	SELECT * INTO m FROM pigeon.pop('q');
	RETURN m.message_id = sent AND m.body = echo.body AND m.attributes IS NOT DISTINCT FROM echo.attributes;
END $$;

-- Bodies
SELECT ok(echo('x'), 'a short body');
SELECT ok(echo(E'\t\n\r '), 'white space');
SELECT ok(echo(E'\u0020\u007f\u0080\ud7ff\ue000\ufffd\U00010000\U0010ffff'), 'the ends of the ranges of characters');
SELECT ok(echo(repeat(E'\uEFFF', 1000)), 'characters that start like forbidden ones');
SELECT ok(echo(repeat('ä', 524288)), 'the largest body by default');
SELECT throws_ok($$SELECT pigeon.send('q', repeat('ä', 524288) || 'x')$$, '54000', NULL, 'one byte more is refused');
SELECT ok(echo((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 30000) i)), 'a body that does not compress');
SELECT pigeon.alter_queue('q', max_message_size => 20000000);
SELECT ok(echo((SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500000) i)), 'a body of 16 MB');
SELECT throws_ok(format('SELECT pigeon.send(%L, %L)', 'q', repeat('x', n) || c), '22023', NULL, format('U+%s after %s characters', c8, n))
FROM (VALUES (E'\x01', '0001'), (E'\x08', '0008'), (E'\x0b', '000B'), (E'\x1f', '001F'), (E'\uFFFE', 'FFFE'), (E'\uFFFF', 'FFFF')) AS bad (c, c8),
	(VALUES (0), (7)) AS lengths (n);
SELECT pigeon.send('q', '{"b":  1, "a": [true, null, "\u00e4"]}'::jsonb);
SELECT is((SELECT body FROM pigeon.pop('q')), '{"a": [true, null, "ä"], "b": 1}', 'a jsonb body is what PostgreSQL prints');
SELECT pigeon.send('q', 'null'::jsonb);
SELECT is((SELECT body FROM pigeon.pop('q')), 'null', 'a JSON null is a body');

-- Attributes
SELECT ok(echo('x', '{}'), 'no attributes');
SELECT ok(echo('x', '{"s": "ä", "n": 1.50, "e": 1e126, "t": 1e-128, "z": -0.0, "a": ["x", 1, true, null], "b": {"binary": "AAEC"}, "A-_.9": "x"}'),
	'attributes of every type');
SELECT ok(echo('x', (SELECT jsonb_object_agg('n' || i, i) FROM generate_series(1, 10) i)), 'ten attributes');
SELECT ok(echo('x', jsonb_build_object(repeat('n', 256), 'x')), 'a name of 256 characters');
SELECT ok(echo('x', '{"awsx": 1, "amazonx": 1, "AWS": 1}'), 'names that are nearly reserved');
SELECT ok(echo('x', '{"n": 99999999999999999999999999999999999999}'), 'a number of 38 digits');

-- Size: body, names, types, values
SELECT lives_ok(format('SELECT pigeon.send(%L, repeat(%L, %s), %L)', 'small', 'x', 1024 - size, attributes), 'a message of the limit: ' || attributes)
FROM (VALUES ('{}', 0), ('{"ab": "cd"}', 2 + 6 + 2), ('{"ab": "ä"}', 2 + 6 + 2), ('{"n": 12.50}', 1 + 6 + 5),
	('{"b": {"binary": "AAEC"}}', 1 + 6 + 3)) AS sizes (attributes, size);
SELECT throws_ok(format('SELECT pigeon.send(%L, repeat(%L, %s), %L)', 'small', 'x', 1025 - size, attributes), '54000', NULL, 'one byte more: ' || attributes)
FROM (VALUES ('{}', 0), ('{"ab": "cd"}', 2 + 6 + 2), ('{"ab": "ä"}', 2 + 6 + 2), ('{"n": 12.50}', 1 + 6 + 5),
	('{"b": {"binary": "AAEC"}}', 1 + 6 + 3)) AS sizes (attributes, size);

-- Delay
SELECT pigeon.send('slow', 'queue');
SELECT pigeon.send('slow', 'none', delay => '0');
SELECT pigeon.send('slow', 'own', delay => '2 hours');
SELECT results_eq($$SELECT body, visible_at - sent_at FROM pigeon.peek('slow')$$,
	$$VALUES ('queue', interval '1 hour'), ('none', interval '0'), ('own', interval '2 hours')$$, 'delay of the queue, an explicit 0, a delay of its own');
SELECT results_eq($$SELECT body FROM pigeon.receive('slow', 10)$$, $$VALUES ('none')$$, 'delayed messages are not received');
SELECT pigeon.alter_queue('slow', delay => '0');
SELECT is((SELECT count(*) FROM pigeon.receive('slow', 10)), 0::bigint, 'another delay of the queue does not touch messages already there');

-- Batches
SELECT is((SELECT array_agg(id ORDER BY ordinality) = array_agg(id ORDER BY id) AND count(DISTINCT id) = 10000
	FROM pigeon.send_batch('q', (SELECT array_agg('body ' || i ORDER BY i) FROM generate_series(1, 10000) i),
		(SELECT array_agg(CASE WHEN i % 2 = 0 THEN jsonb_build_object('n', i) END ORDER BY i) FROM generate_series(1, 10000) i))
		WITH ORDINALITY AS sent (id, ordinality)), true, 'ten thousand messages, ids in order');
SELECT is((SELECT array_agg(body ORDER BY ordinality) = array_agg('body ' || ordinality ORDER BY ordinality)
	AND bool_and(attributes IS NOT DISTINCT FROM CASE WHEN ordinality % 2 = 0 THEN jsonb_build_object('n', ordinality) END) AND count(*) = 10000
	FROM pigeon.receive('q', 10000) WITH ORDINALITY), true, 'are received in the order of the batch, each with its attributes');
SELECT is(pigeon.purge_queue('q'), 10000::bigint, 'purge counts messages in flight');
SELECT is((SELECT count(*) FROM pigeon.send_batch('q', '{}'::text[])), 0::bigint, 'an empty batch is nothing');
SELECT throws_ok($$SELECT pigeon.send_batch('q', ARRAY['good', 'good', E'\x01'])$$, '22023', NULL, 'a batch with one bad body');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 0::bigint, 'is refused whole');
SELECT is((SELECT count(*) FROM pigeon.send_batch('q', ARRAY['1', '{"a": 2}']::jsonb[])), 2::bigint, 'a batch of JSON documents');

-- peek and pop
SELECT is((SELECT count(*) FROM pigeon.receive('q')), 1::bigint, 'one message in flight');
SELECT pigeon.send('q', 'later', delay => '1 hour');
SELECT results_eq($$SELECT body, receipt IS NULL, receive_count, first_received_at IS NULL FROM pigeon.peek('q')$$,
	$$VALUES ('1', true, 1, false), ('{"a": 2}', true, 0, true), ('later', true, 0, true)$$, 'peek shows all, in flight and delayed, without receipts');
SELECT is((SELECT array_agg(body) FROM pigeon.peek('q', 2)), ARRAY['1', '{"a": 2}'], 'peek stops at max_messages');
SELECT results_eq($$SELECT body, receipt IS NULL, receive_count FROM pigeon.pop('q', 10)$$, $$VALUES ('{"a": 2}', true, 1)$$, 'pop takes what is visible');
SELECT is((SELECT count(*) FROM pigeon.peek('q')), 2::bigint, 'and deletes it');
SELECT is((SELECT sender FROM pigeon.peek('q', 1)), current_user::name, 'the sender is shown');
SELECT results_eq($$SELECT pg_typeof(pigeon.send('q', 'x')), (SELECT count(*) FROM pigeon.peek('q'))$$,
	$$VALUES ('bigint'::regtype, 3::bigint)$$, 'a later call in the same statement sees the message');
SELECT * FROM finish();
ROLLBACK;
