-- Fair queues: the group_id of a message in a standard queue is its tenant.  Everything here is committed as it goes.
-- Who is noisy is known from shared memory; without it all are served alike.
SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%' AS preloaded \gset
SELECT plan(73);
\if :preloaded

SELECT pigeon.create_queue('fair', visibility_timeout => '1 h');
CREATE FUNCTION send(tenant text, n integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pigeon.send_batch('fair', (SELECT array_agg(tenant || i) FROM generate_series(1, n) i),
		group_ids => (SELECT array_agg(tenant) FROM generate_series(1, n))) $$;
-- How many messages of each tenant a receive returns.
CREATE FUNCTION take(n integer, visibility_timeout interval = NULL) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(group_id || ' ' || count, ', ' ORDER BY group_id) FROM
	(SELECT group_id, count(*) FROM pigeon.receive('fair', n, visibility_timeout) GROUP BY group_id) r $$;

SELECT throws_ok($$SELECT pigeon.send('fair', 'x', group_id => 'a b')$$, '22023', 'invalid group_id', 'a group_id has no blanks');
SELECT is(send('loud', 29), 29::bigint, 'fewer than 30 messages');
SELECT send('quiet', 1);
SELECT is(take(29), 'loud 29', 'do not make a tenant noisy');
SELECT is(take(10), 'quiet 1', 'and none blocks another');
SELECT send('loud', 1000);
SELECT send('quiet', 5);
SELECT pigeon.send('fair', 'no tenant');
SELECT is(take(6), 'quiet 5', 'then the messages of others are served first');
SELECT is_empty('SELECT * FROM pigeon.check()', 'check() knows where they are');
SELECT is((SELECT (visible, in_flight, noisy_groups, visible_in_quiet_groups, in_flight_in_quiet_groups, delayed_in_quiet_groups, approximate)::text
	FROM pigeon.queue_metrics WHERE queue = 'fair'), '(1000,36,1,0,36,0,f)', 'metrics tell the messages of quiet groups apart');
SELECT is((SELECT oldest_sent_at = oldest_sent_at_in_quiet_groups FROM pigeon.queue, pigeon.queue_figures(id) WHERE name = 'fair'), true, 'and their age');
SELECT is(take(100), 'loud 100', 'and with all that is left, those of the noisy tenant');
SELECT is((SELECT array_agg(body ORDER BY message_id) FROM pigeon.receive('fair', 3)), '{loud101,loud102,loud103}', 'in their order');
SELECT is((SELECT min(receive_count) FROM pigeon.receive('fair', 10000, '0')), 1, 'all are served when nobody else waits');
SELECT send('quiet', 5);
SELECT is(take(5), 'quiet 5', 'what came back of a noisy tenant does not overtake others');
SELECT pigeon.purge_queue('fair');
SELECT send('one', 30), send('two', 30), send('three', 30);
SELECT is(take(1000), 'one 30, three 30, two 30', 'purge leaves nothing of the noisy tenant, and the others are served');
-- A noisy tenant gets a tenth of the receives, however much the others send.
CREATE FUNCTION take_singly(n integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	bodies text[];
BEGIN
	FOR i IN 1 .. n LOOP
		bodies := bodies || (SELECT body FROM pigeon.receive('fair'));
		PERFORM count(*) FROM pigeon.receive('elsewhere');
	END LOOP;
	RETURN (SELECT string_agg(body || ' ' || count, ', ' ORDER BY body) FROM
		(SELECT rtrim(body, '0123456789') AS body, count(*) FROM unnest(bodies) AS body GROUP BY 1) b);
END $$;
SELECT pigeon.purge_queue('fair');
SELECT send('loud', 500);
SELECT take(29);
SELECT pigeon.send_batch('fair', array_fill('nobody''s'::text, ARRAY[500]));
SELECT pigeon.create_queue('elsewhere');
SELECT pigeon.send('elsewhere', 'x', group_id => 'x');
SELECT is(take_singly(40), 'loud 4, nobody''s 36', 'a noisy tenant gets on beside a backlog of others');
-- Much is not noisy unless it is more than a tenth of all.
SELECT pigeon.create_queue('share');
SELECT count(*) FROM (SELECT array_agg('tenant' || n % 20) AS tenants FROM generate_series(1, 500) AS n) AS many,
	pigeon.send_batch('share', tenants, group_ids => tenants);
CREATE FUNCTION send_busy(n integer) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pigeon.send_batch('share', array_fill('x'::text, ARRAY[n]), group_ids => array_fill('busy'::text, ARRAY[n])) $$;
SELECT send_busy(40);
SELECT is((SELECT noisy_groups FROM pigeon.queue_metrics WHERE queue = 'share'), 0::bigint, 'forty messages of over five hundred make nobody noisy');
SELECT send_busy(40);
SELECT is((SELECT noisy_groups FROM pigeon.queue_metrics WHERE queue = 'share'), 1::bigint, 'eighty do');
SELECT pigeon.create_queue('fifo', fifo => true);
SELECT is((SELECT (noisy_groups, visible_in_quiet_groups, oldest_message_age_in_quiet_groups)::text FROM pigeon.queue_metrics WHERE queue = 'fifo'), '(,,)', 'FIFO queues have no such metrics');

-- Any queue, and messages of a tenant, or of none (NULL).
CREATE FUNCTION send_to(queue text, tenant text, n integer, delay interval = NULL) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM pigeon.send_batch(queue, array_fill(coalesce(tenant, 'nobody''s'), ARRAY[n]), delay => delay,
		group_ids => array_fill(tenant, ARRAY[n])) $$;
CREATE FUNCTION take_from(queue text, n integer, visibility_timeout interval = NULL) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(body || ' ' || count, ', ' ORDER BY body), 'nothing') FROM
	(SELECT body, count(*) FROM pigeon.receive(queue, n, visibility_timeout) GROUP BY body) r $$;
CREATE FUNCTION noisy(name text) RETURNS bigint LANGUAGE sql AS $$
	SELECT noisy_groups FROM pigeon.queue_metrics WHERE queue = name $$;

-- Among the noisy, who has least in flight is served first.
SELECT pigeon.create_queue('several', visibility_timeout => '1 h');
SELECT send_to('several', 'first', 100), send_to('several', 'second', 100);
CREATE TEMPORARY TABLE several AS SELECT receipt, body FROM pigeon.receive('several', 58);
SELECT is((SELECT string_agg(body || ' ' || n, ', ' ORDER BY body) FROM (SELECT body, count(*) AS n FROM several GROUP BY body) b), 'first 29, second 29',
	'before they are noisy, tenants are served as they send');
SELECT is(take_from('several', 10), 'first 10', 'one noisy tenant is served');
SELECT is(take_from('several', 10), 'second 10', 'then the other');
SELECT is(take_from('several', 10), 'first 10', 'in turns');
SELECT is(take_from('several', 10), 'second 10', 'both');
SELECT is(take_from('several', 10), 'first 10', 'one receive in five goes round');
SELECT is((SELECT count(*) FROM unnest(pigeon.delete('several', (SELECT array_agg(receipt) FROM several WHERE body = 'first'))) AS deleted WHERE deleted), 29::bigint,
	'who has something done');
SELECT is(take_from('several', 10), 'first 10', 'is served first again');
SELECT is(take_from('several', 1000), 'first 31, second 51', 'and what one does not need is left to the other');
SELECT is(send_to('several', 'tenant' || n, 100), 100::bigint, 'a noisy tenant more') FROM generate_series(1, 6) AS n;
SELECT is(take_from('several', 1000), (SELECT string_agg('tenant' || n || ' 100', ', ' ORDER BY n) FROM generate_series(1, 6) AS n),
	'more than there are lanes for');

-- A flood is noticed however many others are busy.
SELECT pigeon.create_queue('crowd', visibility_timeout => '1 h');
SELECT count(send_to('crowd', 'tenant' || n, 3)) FROM generate_series(1, 40) AS n;
SELECT count(*) FROM pigeon.receive('crowd', 120);
SELECT pg_sleep(1.1);
SELECT is(take_from('crowd', 1), 'nothing', 'many have a little in flight');
SELECT send_to('crowd', 'flood', 300);
SELECT is(noisy('crowd'), 1::bigint, 'and one sends much more');

-- They take turns as well if nothing is in flight.
SELECT pigeon.create_queue('popped');
SELECT send_to('popped', 'first', 100), send_to('popped', 'second', 100);
SELECT count(*) FROM pigeon.pop('popped', 58);
CREATE TABLE popped AS SELECT (pigeon.pop('popped', 5)).body FROM generate_series(1, 10);
SELECT is((SELECT min(n) >= 15 AND count(*) = 2 FROM (SELECT count(*) AS n FROM popped GROUP BY body) AS b), true, 'nobody starves where messages are popped');

-- Who has much in flight is noisy, too.
SELECT pigeon.create_queue('slow', visibility_timeout => '1 h');
SELECT send_to('slow', 'slow', 1), send_to('slow', NULL, 400), send_to('slow', 'slow', 34);
CREATE TEMPORARY TABLE receipts AS SELECT receipt, body FROM pigeon.receive('slow', 1000);
SELECT is(noisy('slow'), 0::bigint, 'a tenth of what is in flight makes nobody noisy, nor of what is sent');
SELECT pigeon.delete('slow', (SELECT array_agg(receipt) FROM receipts WHERE body <> 'slow'));
SELECT is(noisy('slow'), 1::bigint, 'more than that does');
SELECT send_to('slow', 'slow', 1), send_to('slow', 'quick', 1), send_to('slow', NULL, 1);
SELECT is(take_from('slow', 2), 'nobody''s 1, quick 1', 'and others are served first');
SELECT count(*) FROM receipts WHERE body = 'slow' AND pigeon.delete('slow', receipt);
SELECT is(noisy('slow'), 0::bigint, 'until it has less in flight');
SELECT is(take_from('slow', 10), 'slow 1', 'what was sent meanwhile is received');

-- What is received again is not more in flight, nor is what is popped, dead or too old.
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('again', visibility_timeout => '1 h', dead_letter_queue => 'dead', max_receive_count => 2, retention => '1 h');
SELECT send_to('again', 'again', 40), send_to('again', NULL, 2000);
SELECT count(*) FROM pigeon.pop('again', 2040);
SELECT send_to('again', 'again', 45);
SELECT is(noisy('again'), 0::bigint, 'what is popped was not in flight');
SELECT take_from('again', 25, '0');
SELECT is(take_from('again', 25, '0'), 'again 25', 'to receive twenty-five of them twice');
SELECT is(noisy('again'), 0::bigint, 'does not make fifty');
SELECT is(take_from('again', 25, '0'), 'again 20', 'twenty more');
SELECT is(noisy('again'), 0::bigint, 'do not count together with dead letters');
SELECT format('UPDATE pigeon.q_%s SET enqueued_at = now() - interval ''2 h''', id) FROM pigeon.queue WHERE name = 'again' \gexec
SELECT is(take_from('again', 100), 'nothing', 'those become too old');
SELECT send_to('again', 'again', 15);
SELECT is(take_from('again', 100), 'again 15', 'and others take their place');
SELECT is(noisy('again'), 0::bigint, 'which are too few alone');
SELECT send_to('again', 'again', 15);
SELECT is(take_from('again', 100), 'again 15', 'with as many again');
SELECT is(noisy('again'), 1::bigint, 'there are enough');

-- What was received and not deleted counts, visible or not; what is redriven from there does not.
SELECT pigeon.create_queue('returned');
SELECT pigeon.create_queue('source', dead_letter_queue => 'returned', max_receive_count => 1);
SELECT send_to('returned', 'returned', 1), send_to('returned', NULL, 400), send_to('returned', 'returned', 34);
SELECT take_from('returned', 1000, '0');
SELECT pigeon.delete('returned', (SELECT array_agg(receipt) FROM pigeon.receive('returned', 1000, '0') WHERE body <> 'returned'));
SELECT is(noisy('returned'), 1::bigint, 'what is visible again counts as in flight');
SELECT pigeon.redrive('returned', 'source');
SELECT is((SELECT count(*) FROM pigeon.peek('source', 100)), 35::bigint, 'it can be redriven');
SELECT is(noisy('returned'), 0::bigint, 'then it is there no more');

-- What was rolled back does not count, nor what is popped when it has come back.
SELECT pigeon.create_queue('undone', visibility_timeout => '1 h');
CREATE FUNCTION try(works boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM count(*) FROM pigeon.receive('undone', 40);
	PERFORM 1 / works::integer;
EXCEPTION
	WHEN division_by_zero THEN NULL;
END $$;
SELECT send_to('undone', 'undone', 1), send_to('undone', NULL, 1000), send_to('undone', 'undone', 79);
SELECT count(*) FROM pigeon.pop('undone', 1000);
SELECT try(false);
SELECT is(noisy('undone'), 0::bigint, 'a receive that is undone does not count');
SELECT try(true);
SELECT is(noisy('undone'), 1::bigint, 'one that is not does');
BEGIN;
SELECT count(pigeon.change_visibility('undone', receipt, '0')) FROM pigeon.receive('undone', 100);
SELECT count(*) FROM pigeon.pop('undone', 100);
ROLLBACK;
SELECT is(noisy('undone'), 1::bigint, 'nor does a pop');
SELECT pigeon.purge_queue('undone');
SELECT send_to('undone', 'undone', 40), send_to('undone', NULL, 1000);
SELECT count(*) FROM pigeon.receive('undone', 1040, '0');
SELECT is(noisy('undone'), 0::bigint, 'forty of many are received');
SELECT count(*) FROM pigeon.pop('undone', 1040);
SELECT send_to('undone', 'undone', 20);
SELECT count(*) FROM pigeon.receive('undone', 20);
SELECT is(noisy('undone'), 0::bigint, 'and gone when they are popped');

-- It ends when there is no backlog, or nothing in the queue.
SELECT pigeon.create_queue('clear');
SELECT send_to('clear', 'loud', 100);
SELECT count(*) FROM pigeon.pop('clear', 90);
SELECT pg_sleep(1.1);
SELECT is(take_from('clear', 1, '0'), 'loud 1', 'with a backlog');
SELECT is(noisy('clear'), 1::bigint, 'a tenant stays noisy');
SELECT count(*) FROM pigeon.pop('clear', 20);
SELECT is(noisy('clear'), 1::bigint, 'nobody knows yet that it is gone');
SELECT is(take_from('clear', 1), 'nothing', 'when a receive finds nothing');
SELECT is(noisy('clear'), 0::bigint, 'it is quiet');
SELECT send_to('clear', 'loud', 100);
SELECT is(noisy('clear'), 1::bigint, 'it can become noisy again');
SELECT pigeon.purge_queue('clear');
SELECT is(noisy('clear'), 0::bigint, 'and a purge ends that');

-- The lanes of the noisy have delays and leases like others.
SELECT send_to('clear', 'loud', 29);
SELECT count(*) FROM pigeon.pop('clear', 29);
SELECT send_to('clear', 'loud', 1, '4 s');
SELECT is(take_from('clear', 10), 'nothing', 'a delay is kept');
SELECT send_to('clear', 'loud', 1);
SELECT is(take_from('clear', 10, '4 s'), 'loud 1', 'what is sent later has none');
SELECT pg_sleep(4.2);
SELECT is(take_from('clear', 10), 'loud 2', 'and both come back');

-- What is redriven is as new.
SELECT pigeon.create_queue('letters');
SELECT pigeon.create_queue('redriven', dead_letter_queue => 'letters', max_receive_count => 1);
SELECT send_to('letters', 'loud', 100);
SELECT pigeon.redrive('letters', 'redriven');
SELECT send_to('redriven', 'quiet', 5);
SELECT is(take_from('redriven', 34), 'loud 29, quiet 5', 'many letters of one tenant make it noisy');
SELECT is(noisy('redriven'), 1::bigint, 'where they go to');

-- More tenants than are watched.
SELECT pigeon.create_queue('many');
SELECT count(*) FROM (SELECT array_agg(CASE WHEN n % 5 = 0 THEN 'loud' ELSE 'tenant' || n END) AS tenants FROM generate_series(1, 1000) AS n) AS many,
	pigeon.send_batch('many', tenants, group_ids => tenants);
SELECT is(noisy('many'), 1::bigint, 'who is noisy among a thousand is found');
SELECT pigeon.send('many', 'last', group_id => 'last');
SELECT is((SELECT count(*) FILTER (WHERE body = 'loud') FROM pigeon.receive('many', 801)), 29::bigint, 'and all the others come first');
\else
SELECT pigeon.create_queue('fair');
SELECT pigeon.send_batch('fair', array_fill('loud'::text, ARRAY[100]), group_ids => array_fill('loud'::text, ARRAY[100]));
SELECT pigeon.send('fair', 'quiet', group_id => 'quiet');
SELECT is((SELECT string_agg(DISTINCT body, ' ') FROM pigeon.receive('fair', 100)), 'loud', 'without shared memory all are served as they come');
SELECT is((SELECT noisy_groups FROM pigeon.queue_metrics WHERE queue = 'fair'), NULL, 'and nobody knows who is noisy');
SELECT skip('fair queues need shared memory', 71);
\endif
SELECT * FROM finish();
