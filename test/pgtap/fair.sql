-- Fair queues: the group_id of a message in a standard queue is its tenant.
-- Who is noisy is known from shared memory; without it all are served alike.
SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%' AS preloaded \gset
BEGIN;
SELECT plan(14);
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
SELECT pigeon.create_queue('fifo', fifo => true);
SELECT is((SELECT (noisy_groups, visible_in_quiet_groups, oldest_message_age_in_quiet_groups)::text FROM pigeon.queue_metrics WHERE queue = 'fifo'), '(,,)', 'FIFO queues have no such metrics');
\else
SELECT skip('fair queues need shared memory', 14);
\endif
SELECT * FROM finish();
ROLLBACK;
