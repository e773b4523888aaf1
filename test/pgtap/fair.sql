-- Fair queues: the group_id of a message in a standard queue is its tenant.
-- Who is noisy is known from shared memory; without it all are served alike.
SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%' AS preloaded \gset
BEGIN;
SELECT plan(17);
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
\else
SELECT skip('fair queues need shared memory', 17);
\endif
SELECT * FROM finish();
ROLLBACK;
