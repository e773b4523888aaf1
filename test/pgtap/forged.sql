-- What the owner of a queue, or whoever may write to its table, can do by hand: nothing to others.
SELECT plan(33);
CREATE ROLE pgn_forger;
GRANT CREATE ON SCHEMA pigeon TO pgn_forger;
SELECT pigeon.create_queue('victim');
SELECT count(*) FROM pigeon.send_batch('victim', ARRAY['secret one', 'secret two']);
SET ROLE pgn_forger;
SELECT pigeon.create_queue('mine', visibility_timeout => '1 hour');
SELECT pigeon.send('mine', 'honest');
RESET ROLE;
SELECT queue_table AS mine FROM pigeon.queues WHERE queue = 'mine' \gset
SELECT queue_table AS victim FROM pigeon.queues WHERE queue = 'victim' \gset

-- A copy of the honest delivery with some columns changed.
CREATE FUNCTION forge(queue_table regclass, changes jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s SELECT (jsonb_populate_record(d, $1)).* FROM %1$s d ORDER BY message_id DESC LIMIT 1', queue_table) USING changes;
END $$;
GRANT EXECUTE ON FUNCTION forge TO pgn_forger;

-- Deliveries of the messages of others
SELECT message_id AS secret FROM pigeon.peek('victim', 1) \gset
SET ROLE pgn_forger;
SELECT forge(:'mine'::regclass, jsonb_build_object('message_id', :secret, 'home', 50 + segment, 'segment', segment, 'log_key', key))
FROM generate_series(-1, 9) AS segment, (VALUES (0), (-1), (1)) AS keys (key) WHERE segment % 3 = key;
SELECT forge(:'mine'::regclass, jsonb_build_object('message_id', :secret, 'home', home, 'segment', home % 9)) FROM generate_series(100, 118) AS home;
SET client_min_messages = error;
SELECT is((SELECT string_agg(body, ',') FROM pigeon.peek('mine', 1000)), 'honest', 'peek does not show what the key does not open');
SELECT is((SELECT string_agg(body, ',') FROM pigeon.receive('mine', 1000)), 'honest', 'nor does receive');
SELECT is((SELECT count(*) FROM pigeon.pop('mine', 1000)), 0::bigint, 'nor pop');
SELECT ok(pigeon.purge_queue('mine') > 1, 'it can be purged');

-- Rows that no version of pigeon writes
SELECT pigeon.send('mine', 'honest');
SELECT lives_ok(format('SELECT forge(%L, %L)', :'mine', changes), 'a row with ' || changes)
FROM unnest(ARRAY[
	'{"home": 1, "segment": -32768}', '{"home": 22, "segment": 32767}', '{"home": 3, "segment": 8}', '{"home": 4, "segment": 9}',
	'{"home": -1}', '{"home": 2147483647, "source": -1}', '{"home": 5, "source": 2147483647}',
	'{"message_id": -9223372036854775808}', '{"message_id": 9223372036854775807}', '{"message_id": 0}',
	'{"home": 6, "lane": -1}', '{"home": 7, "lane": 32767}', '{"home": 8, "receive_count": 2147483647, "queue_receive_count": 2147483647}',
	'{"home": 9, "visible_at": "infinity"}', '{"home": 10, "visible_at": "-infinity"}', '{"home": 11, "enqueued_at": "infinity"}',
	'{"home": 12, "enqueued_at": "-infinity"}', '{"home": 13, "received_at": "infinity", "first_received_at": "infinity"}',
	'{"home": 14, "visible_at": "294276-12-31"}', '{"home": 15, "enqueued_at": "4713-01-01 BC"}', '{"home": 16, "group_key": -1, "lease": -1}',
	'{"home": 17, "subscription": -1}'
]) AS changes;
SELECT ok((SELECT count(*) FROM pigeon.peek('mine', 1000)) > 1, 'are peeked at');
SELECT ok((SELECT count(*) FROM pigeon.receive('mine', 5, '0')) > 1, 'received');
SELECT lives_ok($$SELECT body, pigeon.change_visibility('mine', receipt, '1 s'), pigeon.delete('mine', receipt) FROM pigeon.receive('mine', 5)$$, 'extended, deleted');
RESET ROLE;
SET client_min_messages = error;
SELECT pigeon.create_queue('dead');
SELECT pigeon.alter_queue('mine', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT lives_ok($$SELECT count(*) FROM pigeon.receive('mine', 1000, '0')$$, 'received by the owner of the server');
SELECT lives_ok($$SELECT count(*) FROM pigeon.receive('mine', 1000, '0')$$, 'and dead-lettered');
SELECT lives_ok($$SELECT pigeon.redrive('dead', 'mine')$$, 'and redriven');
CALL pigeon.maintain();
SELECT is((SELECT string_agg(body, ',') FROM pigeon.pop('victim', 10)), 'secret one,secret two', 'and the messages of others are untouched');
SELECT * FROM finish();
SELECT pigeon.drop_queue(queue) FROM pigeon.queues;
DROP FUNCTION forge;
DROP OWNED BY pgn_forger;
DROP ROLE pgn_forger;
