-- Every kind of call, some of which fail, to be made over and over again: by
-- test/stress/memory.pl, which looks whether memory grows, and by
-- test/memory/valgrind.pl, under which no access to memory may be wrong.

CREATE EXTENSION pigeon;
SELECT pigeon.create_queue('dead'), pigeon.create_queue('fifo dead', fifo => true);
SELECT pigeon.create_queue('work', visibility_timeout => '1 h', dead_letter_queue => 'dead', max_receive_count => 1);
SELECT pigeon.create_queue('fifo', fifo => true, visibility_timeout => '1 h', dead_letter_queue => 'fifo dead', max_receive_count => 1,
	deduplication_window => '1 s');
SELECT pigeon.create_queue('short', retention => '1 min');
SELECT pigeon.create_queue('all'), pigeon.create_queue('some'), pigeon.create_queue('bodies'), pigeon.create_queue('small', max_message_size => 1024);
SELECT pigeon.create_topic('topic', archive_retention => '6 days'), pigeon.create_topic('fifo topic', fifo => true, content_based_deduplication => true);
SELECT pigeon.subscribe('topic', 'all'), pigeon.subscribe('fifo topic', 'all'), pigeon.subscribe('fifo topic', 'fifo'),
	pigeon.subscribe('topic', 'some', '{"kind": ["a", {"prefix": "b"}, {"anything-but": ["c", "d"]}], "n": [{"numeric": [">", 1, "<=", 3.5]}]}', raw_delivery => false),
	pigeon.subscribe('topic', 'bodies', '{"a": {"b": [{"wildcard": "x*y"}, {"exists": false}]}}', filter_scope => 'body'),
	pigeon.subscribe('topic', 'small', dead_letter_queue => 'dead');
CREATE TABLE business (id integer PRIMARY KEY, what text, secret text);
CREATE TABLE grouped (id integer PRIMARY KEY, what text);
SELECT pigeon.publish_changes('business', 'topic', columns => '{id,what}', condition => 'NEW.id > 0', events => 'insert,update'),
	pigeon.publish_changes('grouped', 'fifo topic', group_by => 'id');
SELECT topic_view FROM pigeon.topics WHERE topic = 'topic' \gset
SELECT queue_table FROM pigeon.queues WHERE queue = 'short' \gset
CREATE ROLE friend;

-- What $1 and $2 are in calls: the number of the round, and the name of a
-- queue of its own.
CREATE TABLE calls (kind text, call text, id integer GENERATED ALWAYS AS IDENTITY);
INSERT INTO calls (kind, call) VALUES
	('standard', $$SELECT pigeon.send('work', repeat('x', 100), '{"a": 1}')$$),
	('standard', $$SELECT pigeon.send('work', '{"a": [1, 2, null]}'::jsonb, group_id => 'tenant')$$),
	('standard', $$SELECT pigeon.send('work', repeat(md5($1::text), 100))$$),
	('standard', $$SELECT count(*) FROM pigeon.send_batch('work', ARRAY['a', 'b', 'c', 'd', 'e'], group_ids => ARRAY['a', NULL, 'b', NULL, 'c'])$$),
	('standard', $$SELECT pigeon.delete('work', receipt) FROM pigeon.receive('work', 3)$$),
	('standard', $$SELECT pigeon.delete('work', array_agg(receipt)) FROM pigeon.receive('work', 5)$$),
	('standard', $$SELECT pigeon.change_visibility('work', receipt, '0') FROM pigeon.receive('work', 1)$$),
	('standard', $$SELECT pigeon.change_visibility('work', array_agg(receipt), '0') FROM pigeon.receive('work', 1)$$),
	('standard', $$SELECT count(*) FROM pigeon.receive('work', 1, '0')$$),
	('standard', $$SELECT count(*) FROM pigeon.peek('work', 2)$$),
	('standard', $$SELECT count(*) FROM pigeon.pop('work', 3)$$),
	('standard', $$SELECT count(*) FROM pigeon.pop('dead', 3)$$),
	('standard', $$SELECT count(*) FROM pigeon.receive('dead', wait_time => '1 ms')$$),
	('standard', $$CALL pigeon.wait_for_message('work', '0')$$),

	('fifo', $$SELECT pigeon.send('fifo', 'x', group_id => 'g' || $1 % 7, deduplication_id => $1::text)$$),
	('fifo', $$SELECT pigeon.send('fifo', 'x', group_id => 'g' || $1 % 7, deduplication_id => $1::text)$$),
	('fifo', $$SELECT count(*) FROM pigeon.send_batch('fifo', ARRAY['a', 'b', 'c'], group_ids => ARRAY['g1', 'g2', 'g1'], deduplication_ids => ARRAY['a' || $1, 'b' || $1, 'a' || $1])$$),
	('fifo', $$SELECT pigeon.delete('fifo', receipt) FROM pigeon.receive('fifo', 1)$$),
	('fifo', $$SELECT pigeon.delete('fifo', array_agg(receipt)) FROM pigeon.receive('fifo', 4)$$),
	('fifo', $$SELECT pigeon.change_visibility('fifo', receipt, '0') FROM pigeon.receive('fifo', 2)$$),
	('fifo', $$SELECT count(*) FROM pigeon.receive('fifo', 1, '0')$$),
	('fifo', $$SELECT count(*) FROM pigeon.receive('fifo', 1, '1 s', receive_attempt_id => 'again')$$),
	('fifo', $$SELECT count(*) FROM pigeon.receive('fifo', 1, '1 s', receive_attempt_id => 'again')$$),
	('fifo', $$SELECT count(*) FROM pigeon.peek('fifo', 3)$$),
	('fifo', $$SELECT count(*) FROM pigeon.pop('fifo', 3)$$),
	('fifo', $$SELECT count(*) FROM pigeon.pop('fifo dead', 3)$$),

	('topics', $$SELECT pigeon.publish('topic', 'x', 'subject', '{"kind": "a", "n": 2}')$$),
	('topics', $$SELECT pigeon.publish('topic', '{"a": [{"b": "xzy"}, {"b": 1}]}', attributes => '{"kind": ["c", "e"]}')$$),
	('topics', $$SELECT pigeon.publish('topic', '{"default": "d", "sqs": "s"}', message_structure => 'json')$$),
	('topics', $$SELECT pigeon.publish('topic', repeat('x', 2000))$$),
	('topics', $$SELECT count(*) FROM pigeon.publish_batch('topic', ARRAY['a', '{"a": {}}', '{'], attributes => ARRAY['{"kind": "bb", "n": 3.5}', '{"kind": "d"}', NULL]::jsonb[])$$),
	('topics', $$SELECT pigeon.publish('fifo topic', $1::text, group_id => 'g' || $1 % 7)$$),
	('topics', $$SELECT count(*) FROM pigeon.publish_batch('fifo topic', ARRAY['a', 'b'], group_ids => ARRAY['g1', 'g2'])$$),
	('topics', format($$INSERT INTO %s (body, attributes) SELECT n::text, '{"kind": "a"}' FROM generate_series(1, 3) AS n$$, :'topic_view')),
	('topics', $$SELECT pigeon.filter_matches('{"a": [{"cidr": "10.0.0.0/8"}, {"suffix": "é"}], "$or": [{"b": [null]}, {"c": [{"equals-ignore-case": "X"}]}]}', 'body', NULL, '{"a": "café", "c": "x"}')$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('all', 20)$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('some', 20)$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('bodies', 20)$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('small', 20)$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('fifo', 20)$$),
	('topics', $$SELECT count(*) FROM pigeon.pop('dead', 20)$$),

	('outbox', $$INSERT INTO business VALUES ($1, 'new', 'x'), (-$1, 'not shown', 'x')$$),
	('outbox', $$UPDATE business SET what = what || '!' WHERE id IN ($1, -$1)$$),
	('outbox', $$UPDATE business SET secret = 'y' WHERE id = $1$$),
	('outbox', $$DELETE FROM business WHERE id IN ($1, -$1)$$),
	('outbox', $$INSERT INTO grouped VALUES ($1, 'new') ON CONFLICT (id) DO UPDATE SET what = 'old'$$),
	('outbox', $$DELETE FROM grouped$$),
	('outbox', $$TRUNCATE grouped$$),
	('outbox', $$SELECT pigeon.mark_processed('all', message_id) FROM pigeon.pop('all', 20)$$),
	('outbox', $$SELECT count(*) FROM pigeon.pop('fifo', 20)$$),
	('outbox', $$SELECT count(*) FROM pigeon.pop('bodies', 20)$$),
	('outbox', $$SELECT count(*) FROM pigeon.pop('small', 20)$$),

	('administration', $$SELECT pigeon.create_queue($2, fifo => $1 % 2 = 0, dead_letter_queue => CASE WHEN $1 % 2 = 1 THEN 'dead' END, max_receive_count => CASE WHEN $1 % 2 = 1 THEN 3 END, tags => '{"a": "b"}')$$),
	('administration', $$SELECT pigeon.create_queue($2, if_not_exists => true)$$),
	('administration', $$SELECT pigeon.alter_queue($2, delay => '1 s', visibility_timeout => '1 min')$$),
	('administration', $$SELECT pigeon.grant_access($2, 'friend', '{send,receive,delete,peek,purge}')$$),
	('administration', $$SELECT pigeon.send($2, 'x', group_id => 'g')$$),
	('administration', $$SELECT pigeon.send($2, 'x', group_id => 'g', deduplication_id => 'd')$$),
	('administration', $$SELECT count(*) FROM pigeon.receive($2)$$),
	('administration', $$SELECT pigeon.create_topic($2, archive_retention => '6 days')$$),
	('administration', $$SELECT pigeon.alter_topic($2, archive_retention => '0')$$),
	('administration', $$SELECT pigeon.subscribe($2, $2, '{"kind": ["a"]}')$$),
	('administration', $$SELECT pigeon.publish($2, 'x', attributes => '{"kind": "a"}')$$),
	('administration', $$SELECT pigeon.alter_subscription(subscription_id, filter_policy => '{"kind": [{"anything-but": "b"}]}') FROM pigeon.subscriptions WHERE topic = $2$$),
	('administration', $$SELECT pigeon.unsubscribe(subscription_id) FROM pigeon.subscriptions WHERE topic = $2$$),
	('administration', $$SELECT pigeon.revoke_access($2, 'friend', '{send}')$$),
	('administration', $$SELECT pigeon.purge_queue($2)$$),
	('administration', $$SELECT pigeon.drop_topic($2)$$),
	('administration', $$SELECT pigeon.drop_queue($2)$$),
	('administration', $$SELECT pigeon.drop_queue($2, if_exists => true)$$),

	('tasks', $$SELECT pigeon.send('work', 'poison')$$),
	('tasks', $$SELECT count(*) FROM pigeon.receive('work', 2, '0')$$),
	('tasks', $$SELECT count(*) FROM pigeon.receive('work', 2, '0')$$),
	('tasks', $$SELECT pigeon.redrive('dead')$$),
	('tasks', $$SELECT pigeon.redrive('dead', 'all', 1)$$),
	('tasks', $$SELECT pigeon.cancel_redrive(max(task_id)) FROM pigeon.redrive_tasks$$),
	('tasks', $$SELECT pigeon.publish('topic', 'x')$$),
	('tasks', $$SELECT pigeon.replay(min(subscription_id), now() - interval '1 s') FROM pigeon.subscriptions$$),
	('tasks', $$SELECT pigeon.replay(min(subscription_id), now() - interval '1 s', max_per_second => 1) FROM pigeon.subscriptions$$),
	('tasks', $$SELECT pigeon.cancel_replay(max(task_id)) FROM pigeon.replay_tasks$$),
	('tasks', $$SELECT count(*) FROM pigeon.pop('work', 20)$$),
	('tasks', $$SELECT count(*) FROM pigeon.pop('all', 20)$$),
	('tasks', $$SELECT count(*) FROM pigeon.pop('bodies', 20)$$),
	('tasks', $$SELECT count(*) FROM pigeon.pop('small', 20)$$),

	('maintenance', $$SELECT pigeon.send('short', 'x')$$),
	('maintenance', format($$UPDATE %s SET enqueued_at = enqueued_at - interval '1 h'$$, :'queue_table')),
	('maintenance', $$SELECT pigeon.send('work', 'x', delay => '1 s')$$),
	('maintenance', $$UPDATE pigeon.log_state SET current_since = '2000-01-01' WHERE $1 % 10 = 0$$),
	('maintenance', $$CALL pigeon.maintain()$$),
	('maintenance', $$SELECT count(*) FROM pigeon.check()$$),
	('maintenance', $$SELECT count(*) FROM pigeon.queue_metrics$$),
	('maintenance', $$SELECT count(*) FROM pigeon.exact_queue_metrics('work')$$),
	('maintenance', $$SELECT count(*) FROM pigeon.topic_metrics$$),
	('maintenance', $$SELECT count(*) FROM pigeon.queues, pigeon.topics, pigeon.subscriptions$$),

	('errors', $$SELECT pigeon.send('nobody', 'x')$$),
	('errors', $$SELECT pigeon.send('work', '')$$),
	('errors', $$SELECT pigeon.send('work', 'x', '{"AWS.no": 1}')$$),
	('errors', $$SELECT pigeon.send('fifo', 'x')$$),
	('errors', $$SELECT pigeon.send('fifo', 'x', group_id => 'g', deduplication_id => 'd', delay => '1 s')$$),
	('errors', $$SELECT pigeon.send_batch('work', ARRAY['good', NULL])$$),
	('errors', $$SELECT pigeon.receive('work', 0)$$),
	('errors', $$SELECT pigeon.delete('work', '9-9-9-9')$$),
	('errors', $$SELECT pigeon.delete('work', 'nonsense')$$),
	('errors', $$SELECT pigeon.change_visibility('work', receipt, '1 year') FROM pigeon.receive('work')$$),
	('errors', $$SELECT pigeon.subscribe('topic', 'work', '{"a": [{"numeric": ["<", "x"]}]}')$$),
	('errors', $$SELECT pigeon.publish('topic', 'x', attributes => '[]')$$),
	('errors', $$SELECT 1 / (count(*) - 3) FROM pigeon.send_batch('work', ARRAY['un', 'do', 'ne'])$$),
	('errors', $$SELECT 1 / (pigeon.publish('topic', 'undone') * 0)$$),
	('errors', $$SELECT 1 / (pigeon.send('fifo', 'undone', group_id => 'g', deduplication_id => $1::text) * 0)$$),
	('errors', $$SELECT 1 / (pigeon.delete('work', receipt)::integer - 1) FROM pigeon.receive('work')$$),
	('errors', $$INSERT INTO business VALUES ($1, 'new', 'x'), ($1, 'twice', 'x')$$);

-- Makes all calls of a kind in each of these rounds, each in a subtransaction
-- of its own, and a savepoint is rolled back around some.
CREATE PROCEDURE make_calls(wanted text, first integer, last integer) LANGUAGE plpgsql AS $$
DECLARE
	statements text[] := (SELECT array_agg(replace(replace(call, '$2', '''queue %1$s'''), '$1', '%1$s') ORDER BY id) FROM calls WHERE kind = wanted);
	statement text;
BEGIN
	FOR round IN first .. last LOOP
		FOREACH statement IN ARRAY statements LOOP
			statement := replace(statement, '%1$s', round::text);
			IF statement LIKE 'CALL pigeon.maintain%' THEN
				CALL pigeon.maintain();
				CONTINUE;
			END IF;
			BEGIN
				EXECUTE statement;
				IF round % 5 = 0 THEN
					EXECUTE statement;
					RAISE division_by_zero;
				END IF;
			EXCEPTION WHEN OTHERS THEN NULL;
			END;
		END LOOP;
		COMMIT;
	END LOOP;
END $$;
