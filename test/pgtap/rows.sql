-- Rows of deliveries end where there is nothing more to say, and nulls mean the same (src/delivery.c).
SELECT plan(26);

CREATE EXTENSION pageinspect;

-- The columns that the versions of a queue's rows have, in order of place.
CREATE FUNCTION columns_stored(queue_name text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg((t_infomask2 & 2047)::text, ' ' ORDER BY page, lp)
	FROM pigeon.queues q, generate_series(0, pg_relation_size(queue_table) / 8192 - 1) AS page,
		heap_page_items(get_raw_page(queue_table::text, page::integer))
	WHERE q.queue = queue_name AND t_data IS NOT NULL
$$;
-- What peek shows of receives.
CREATE FUNCTION receives(queue text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(format('%s %s %s', receive_count, first_received_at IS NOT NULL, first_received_at < visible_at), ', ')
	FROM pigeon.peek(queue)
$$;

-- A lease in place, which there is only if the library is preloaded, has its end besides.
CREATE FUNCTION lease_columns() RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN current_setting('shared_preload_libraries') = '' THEN '12' ELSE '13' END
$$;

-- Each kind of row
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('q', visibility_timeout => '0', dead_letter_queue => 'dead', max_receive_count => 3);
SELECT pigeon.send('q', 'a');
SELECT is(columns_stored('q'), '9', 'a row that is sent is short');
SELECT is(receives('q'), '0 f ', 'it was not received');
SELECT count(*) FROM pigeon.receive('q');
SELECT is(columns_stored('q'), '9 ' || lease_columns(), 'one that is received has what a receive says');
SELECT is(receives('q'), '1 t t', 'the first receive is the last');
SELECT is((SELECT first_received_at FROM pigeon.peek('q')), (SELECT received_at FROM pigeon.q_2), 'at the same time');
SELECT is((SELECT format('%s %s %s %s', first_received_at, queue_receive_count, source, group_key) FROM pigeon.q_2), '   ',
	'what is not there is null');
SELECT count(*) FROM pigeon.receive('q');
SELECT is(columns_stored('q'), format('9 %s 18', lease_columns()), 'one that is received again has all columns');
SELECT ok((SELECT r.first_received_at < q.received_at AND r.receive_count = 2 FROM pigeon.peek('q') r, pigeon.q_2 q),
	'the first receive is not forgotten');
SELECT count(*) FROM pigeon.receive('q');
SELECT is((SELECT count(*) FROM pigeon.receive('q')), 0::bigint, 'it is a dead letter after three receives');
SELECT is(columns_stored('dead'), '18', 'which has all columns');
SELECT is((SELECT dead_letter_source || receive_count FROM pigeon.peek('dead')), 'q3', 'and says so');
SELECT pigeon.create_queue('fifo', fifo => true);
SELECT pigeon.send('fifo', 'a', group_id => 'g', deduplication_id => '1');
SELECT is(columns_stored('fifo'), '14', 'a row of a group has its key');
SELECT is((SELECT group_id || receive_count FROM pigeon.receive('fifo')), 'g1', 'and is received');
SELECT pigeon.create_topic('t');
SELECT pigeon.create_queue('subscriber');
SELECT pigeon.subscribe('t', 'subscriber', raw_delivery => false) IS NOT NULL AS subscribed;
SELECT pigeon.publish('t', 'news');
SELECT is(columns_stored('subscriber'), '16', 'a row of a subscription has its number');
SELECT is((SELECT body::json ->> 'Message' FROM pigeon.receive('subscriber')), 'news', 'and is delivered in an envelope');

-- Rows written by other means have nulls, and are whole
SELECT pigeon.create_queue('other', visibility_timeout => '0', max_receive_count => 2, dead_letter_queue => 'dead');
SELECT pigeon.send_batch('other', ARRAY['a', 'b', 'c']);
SELECT count(*) FROM pigeon.receive('other');
CREATE TABLE before AS SELECT message_id, receives('other') FROM pigeon.peek('other');
SELECT queue_table FROM pigeon.queues WHERE queue = 'other' \gset
VACUUM FULL :queue_table;
SELECT is(columns_stored('other'), '18 18 18', 'a rewritten row has all columns');
SELECT is((SELECT count(*) FROM pigeon.peek('other') JOIN before b USING (message_id) WHERE b.receives = receives('other')), 3::bigint,
	'and means the same');
SELECT is((SELECT string_agg(body || receive_count, ' ' ORDER BY body) FROM pigeon.receive('other', 3)), 'a2 b1 c1',
	'it is received');
SELECT is((SELECT string_agg(body, ' ') FROM pigeon.receive('other', 3)), 'b c', 'and counts');
SELECT is((SELECT count(*) FROM pigeon.check()), 0::bigint, 'all is well');
UPDATE :queue_table SET receive_count = 0, queue_receive_count = 0, received_at = '-infinity', first_received_at = '-infinity',
	lease = 0, group_key = 0, subscription = 0, source = 0;
SELECT is(receives('other'), '0 f , 0 f ', 'what is written out means the same as nulls');
UPDATE :queue_table SET receive_count = NULL, queue_receive_count = 1;
SELECT is((SELECT count(*) FROM pigeon.check() WHERE problem LIKE '%impossible receive counts%'), 2::bigint, 'check() knows nulls');
SELECT throws_ok(format('UPDATE %s SET due_at = NULL', :'queue_table'), '23502', NULL, 'what every row has is not null');

-- Pages are filled where messages are received as fast as they are sent
SELECT pigeon.create_queue('fast');
DO $$
BEGIN
	FOR i IN 1 .. 2000 LOOP
		PERFORM pigeon.send('fast', 'x');
		PERFORM pigeon.receive('fast');
	END LOOP;
END $$;
SELECT queue_table FROM pigeon.queues WHERE queue = 'fast' \gset
SELECT cmp_ok(pg_relation_size(:'queue_table'), '<=', 2000 * 176 * 21 / 20::bigint, 'the table has hardly more than the versions');
SELECT pigeon.create_queue('slow');
SELECT count(pigeon.send('slow', 'x')) FROM generate_series(1, 2000);
SELECT queue_table FROM pigeon.queues WHERE queue = 'slow' \gset
CREATE TABLE sent AS SELECT pg_relation_size(:'queue_table') AS size;
SELECT cmp_ok(size, '<=', 2000 * 176 * 21 / 20::bigint, 'what waits has room for its leases and not more') FROM sent;
SELECT count(*) FROM pigeon.receive('slow', 2000);
SELECT is(pg_relation_size(:'queue_table'), size, 'which go there') FROM sent;
SELECT * FROM finish();
