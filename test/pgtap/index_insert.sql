-- Entries of a batch go into an index together (src/index_insert.c): every index stays complete and in order.
SELECT plan(50);

CREATE EXTENSION amcheck;

-- Fails if an index of a table is out of order, or lacks an entry.
CREATE FUNCTION check_indexes(name regclass) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(bt_index_parent_check(indexrelid, true, true)) FROM pg_index WHERE indrelid = name
$$;
CREATE FUNCTION queue_table(name text) RETURNS regclass LANGUAGE sql AS $$
	SELECT queue_table FROM pigeon.queues WHERE queue = name
$$;
CREATE FUNCTION bodies(prefix text, n integer) RETURNS text[] LANGUAGE sql AS $$
	SELECT array_agg(prefix || ' ' || i ORDER BY i) FROM generate_series(1, n) AS i
$$;
-- Sends a batch and tells whether all of it is there, in order.
CREATE FUNCTION is_sent(queue text, n integer, delay interval = '0') RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	found bigint[];
BEGIN
	ids := ARRAY(SELECT pigeon.send_batch(queue, bodies('batch', n), delay => delay));
	EXECUTE format('SELECT array_agg(message_id ORDER BY visible_at, message_id) FROM %s WHERE message_id = ANY ($1)', queue_table(queue))
		INTO found USING ids;
	RETURN ids = found;
END $$;

SELECT pigeon.create_queue('q');

-- Batches of all sizes around those where something changes: 4 entries share a record, 128 rows go in at once, a page is
-- full after some hundreds.
SELECT is((SELECT count(*) FILTER (WHERE NOT is_sent('q', n)) FROM generate_series(1, 140) AS n), 0::bigint, 'batches of 1 to 140');
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete');
SELECT ok(is_sent('q', n), 'a batch of ' || n) FROM unnest(ARRAY[256, 1000, 20000]) AS n;
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete after splits');

-- Not at the end of the index: between messages that are due sooner and later.
SELECT pigeon.create_queue('delayed');
SELECT is((SELECT count(*) FILTER (WHERE NOT is_sent('delayed', 30, (n * 37 % 100) * interval '1 minute'))
	FROM generate_series(1, 100) AS n), 0::bigint, 'batches before and between others');
SELECT is(check_indexes(queue_table('delayed')), 2::bigint, 'both indexes are complete after insertions anywhere');

-- Among entries of rows that are gone.
SELECT is((SELECT count(*) FROM pigeon.pop('q', 100000)), 31126::bigint, 'all are taken');
SELECT ok(is_sent('q', 500), 'a batch among dead entries');
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete with dead entries');
SELECT format('VACUUM %s', queue_table('q')) \gexec
SELECT ok(is_sent('q', 500), 'a batch after VACUUM');
SELECT is((SELECT count(*) FROM pigeon.pop('q', 100000)), 1000::bigint, 'all are taken again');
SELECT format('VACUUM %s', queue_table('q')) \gexec
SELECT ok(is_sent('q', 500), 'a batch into indexes without live entries');
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete after VACUUM');

-- In a transaction that is rolled back, and with the entries of that left behind.
BEGIN;
SELECT count(*) FROM pigeon.send_batch('q', bodies('never', 300));
ROLLBACK;
SELECT ok(is_sent('q', 300), 'a batch after one that was rolled back');
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete after a rollback');

-- Message groups are all over the index of a FIFO queue.
SELECT pigeon.create_queue('fifo', fifo => true);
SELECT is((SELECT count(*) FROM generate_series(1, 20) AS batch, pigeon.send_batch('fifo', bodies('fifo', 200),
		group_ids => (SELECT array_agg(md5((batch * i % 97)::text) ORDER BY i) FROM generate_series(1, 200) AS i),
		deduplication_ids => (SELECT array_agg(batch || '-' || i ORDER BY i) FROM generate_series(1, 200) AS i))),
	4000::bigint, 'batches of many groups');
SELECT is(check_indexes(queue_table('fifo')), 2::bigint, 'both indexes of a FIFO queue are complete');

-- Indexes that the owner added: equal keys, descending order, further columns, one without order.
SELECT pigeon.create_queue('owned');
SELECT format('CREATE INDEX ON %s (%s)', queue_table('owned'), columns) FROM unnest(ARRAY['enqueued_at', 'receive_count, lane',
	'message_id DESC', 'visible_at DESC, message_id', 'message_id) INCLUDE (log_key, lane', 'log_key']) AS columns \gexec
SELECT is((SELECT count(*) FILTER (WHERE NOT is_sent('owned', n)) FROM generate_series(1, 140) AS n), 0::bigint, 'batches with further indexes');
SELECT is(check_indexes(queue_table('owned')), 8::bigint, 'all indexes are complete');

-- A unique index of the owner's is obeyed, within the batch and beyond.
SELECT pigeon.create_queue('unique');
SELECT format('CREATE UNIQUE INDEX ON %s (enqueued_at)', queue_table('unique')) \gexec
SELECT throws_ok($$SELECT pigeon.send_batch('unique', bodies('equal', 10))$$, '23505', NULL, 'equal keys in a batch are refused');
SELECT is((SELECT count(*) FROM pigeon.peek('unique')), 0::bigint, 'with all of the batch');
SELECT format('DROP INDEX pigeon.%I; CREATE UNIQUE INDEX ON %s ((1)) WHERE false', relname, indrelid::regclass)
	FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = queue_table('unique') AND relname LIKE '%\_enqueued\_at\_idx' \gexec
SELECT throws_ok($$SELECT pigeon.send_batch('unique', bodies('refused', 10))$$, '55000', NULL, 'indexes on expressions are not served');

-- Serializable: who looked for messages in the table conflicts with who sends some.
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT ok(is_sent('q', 300), 'a batch in a serializable transaction');
COMMIT;
SELECT is(check_indexes(queue_table('q')), 2::bigint, 'both indexes are complete after that');

-- New versions of leased deliveries: their entries go beside those of the old versions in one index, and together to the
-- times at which they fall due in the other; 128 are made at once.
CREATE FUNCTION receive_count(queue text, n integer, visibility_timeout interval = '1 hour') RETURNS bigint LANGUAGE sql AS $$
	SELECT count(DISTINCT message_id) FROM pigeon.receive(queue, n, visibility_timeout)
$$;
SELECT pigeon.create_queue('leased');
SELECT ok(is_sent('leased', 20000), 'messages to be leased');
SELECT is((SELECT count(*) FILTER (WHERE receive_count('leased', n) <> n) FROM generate_series(1, 140) AS n), 0::bigint,
	'leases of 1 to 140');
SELECT is(check_indexes(queue_table('leased')), 2::bigint, 'both indexes are complete');
SELECT is((SELECT count(*) FILTER (WHERE receive_count('leased', 30, (n * 37 % 100) * interval '1 minute') <> 30)
	FROM generate_series(1, 100) AS n), 0::bigint, 'leases that end before and between others');
SELECT is(check_indexes(queue_table('leased')), 2::bigint, 'both indexes are complete after insertions anywhere');
SELECT is(receive_count('leased', 5000), 5000::bigint, 'many leases at once');
SELECT is(check_indexes(queue_table('leased')), 2::bigint, 'both indexes are complete after splits');

-- What is given up leaves versions behind.
BEGIN;
SELECT is(receive_count('leased', 300), 300::bigint, 'leases that are rolled back');
SAVEPOINT before;
SELECT is(receive_count('leased', 300), 300::bigint, 'and some of a subtransaction');
ROLLBACK TO before;
SELECT is(receive_count('leased', 400), 400::bigint, 'and some after it');
ROLLBACK;
SELECT is((SELECT count(*) FROM generate_series(1, 3), receive_count('leased', 100, '0') AS n WHERE n = 100), 3::bigint,
	'leases that end at once');
SELECT is(receive_count('leased', 3000), 2160::bigint, 'all the rest');
SELECT is(check_indexes(queue_table('leased')), 2::bigint, 'both indexes are complete after all that');
SELECT is((SELECT count(*) FROM pigeon.peek('leased', 100000)), 20000::bigint, 'every message is there once');

-- Moved, expired and leased by the same receive
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('mixed', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT is((SELECT count(*) FROM pigeon.send_batch('mixed', bodies('mixed', 900))), 900::bigint, 'messages of several kinds');
SELECT receive_count('mixed', 300, '0');
SELECT format('UPDATE %s SET enqueued_at = ''2000-01-01'' WHERE coalesce(receive_count, 0) = 0 AND message_id %% 2 = 0', queue_table('mixed')) \gexec
SELECT is(receive_count('mixed', 1000), 300::bigint, 'some are leased');
SELECT is((SELECT count(*) FROM pigeon.peek('dead', 1000)), 300::bigint, 'some are moved, and the rest is deleted');
SELECT is(check_indexes(queue_table('mixed')) + check_indexes(queue_table('dead')), 4::bigint, 'all indexes are complete');

-- With further indexes; a unique one on what a lease changes is obeyed.
SELECT is(receive_count('owned', 10000), 9870::bigint, 'leases with further indexes');
SELECT is(check_indexes(queue_table('owned')), 8::bigint, 'all indexes are complete');
SELECT pigeon.create_queue('once');
SELECT ok(is_sent('once', 100), 'messages that fall due one after another');
SELECT format('CREATE UNIQUE INDEX ON %s (received_at)', queue_table('once')) \gexec
SELECT throws_ok($$SELECT pigeon.receive('once', 2)$$, '23505', NULL, 'leases with equal keys are refused');

-- The archive of a topic
SELECT pigeon.create_topic('t', archive_retention => '1 day');
SELECT is((SELECT count(*) FROM generate_series(1, 50) AS n, pigeon.publish_batch('t', bodies('news', n * 7))), 8925::bigint, 'batches are published');
SELECT is((SELECT count(bt_index_parent_check(indexrelid, true, true)) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
	WHERE relname ~ '^t_\d+_\d+$' AND relnamespace = 'pigeon'::regnamespace AND pg_relation_size(indrelid) > 0), 1::bigint, 'the index of the archive is complete');
