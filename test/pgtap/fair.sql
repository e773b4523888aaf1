-- Fair queues: the group_id of a message in a standard queue is its tenant.
-- Who is noisy is known from shared memory; without it all are served alike.
SELECT current_setting('shared_preload_libraries') LIKE '%pigeon%' AS preloaded \gset
BEGIN;
SELECT plan(11);
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
SELECT is(take(100), 'loud 100', 'and with all that is left, those of the noisy tenant');
SELECT is((SELECT array_agg(body ORDER BY message_id) FROM pigeon.receive('fair', 3)), '{loud101,loud102,loud103}', 'in their order');
SELECT is((SELECT min(receive_count) FROM pigeon.receive('fair', 10000, '0')), 1, 'all are served when nobody else waits');
SELECT send('quiet', 5);
SELECT is(take(5), 'quiet 5', 'what came back of a noisy tenant does not overtake others');
SELECT pigeon.purge_queue('fair');
SELECT send('one', 30), send('two', 30), send('three', 30);
SELECT is(take(1000), 'one 30, three 30, two 30', 'purge leaves nothing of the noisy tenant, and the others are served');
\else
SELECT skip('fair queues need shared memory', 11);
\endif
SELECT * FROM finish();
ROLLBACK;
