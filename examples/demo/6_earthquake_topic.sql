\echo
\echo '6. The earthquakes go to a topic; who comes late is brought up to date'
\echo
SELECT pigeon.create_topic('quakes', archive_retention => '1 year'),
	   pigeon.create_queue('strong'), pigeon.create_queue('tsunami'), pigeon.create_queue('north'), pigeon.create_queue('late') \gset
SELECT pigeon.subscribe('quakes', 'strong', '{"properties": {"mag": [{"numeric": [">=", 5]}]}}', 'body') AS strong,
	   pigeon.subscribe('quakes', 'tsunami', '{"properties": {"tsunami": [1]}}', 'body') AS tsunami,
	   pigeon.subscribe('quakes', 'north', '{"properties": {"net": [{"prefix": "n"}]}}', 'body') AS north \gset

-- A topic's view takes what a query gives.
SELECT topic_view FROM pigeon.topics WHERE topic = 'quakes' \gset
INSERT INTO :topic_view (body, subject)
SELECT feature, left(feature->'properties'->>'title', 100) FROM shop.feed ORDER BY line;

-- One that nobody had thought of: Alaska, all that was published until now.
SELECT pigeon.subscribe('quakes', 'late', '{"properties": {"net": ["ak"]}}', 'body') AS late \gset
SELECT pigeon.replay(:late, '-infinity') AS task \gset
DO $$
BEGIN
	WHILE EXISTS (SELECT FROM pigeon.replay_tasks WHERE status = 'RUNNING') LOOP
		COMMIT;
		PERFORM pg_sleep(0.1);
	END LOOP;
END $$;
SELECT status, replayed, filtered_out FROM pigeon.replay_tasks WHERE task_id = :task;

CREATE TABLE shop.alerts AS
SELECT queue, m.body::jsonb AS feature, m.replayed_message_id
FROM unnest('{strong,tsunami,north,late}'::text[]) AS queue, pigeon.pop(queue, 10000) AS m;
CREATE VIEW shop.expected_alerts AS
SELECT 'strong' AS queue, feature FROM shop.feed WHERE (feature->'properties'->>'mag')::numeric >= 5
UNION ALL SELECT 'tsunami', feature FROM shop.feed WHERE feature->'properties'->>'tsunami' = '1'
UNION ALL SELECT 'north', feature FROM shop.feed WHERE feature->'properties'->>'net' LIKE 'n%'
UNION ALL SELECT 'late', feature FROM shop.feed WHERE feature->'properties'->>'net' = 'ak';

SELECT queue, count(*) AS received, (SELECT count(*) FROM shop.expected_alerts e WHERE e.queue = a.queue) AS by_plain_sql
FROM shop.alerts a GROUP BY queue ORDER BY queue;
SELECT shop.check('every queue has what plain SQL over the same data finds',
	NOT EXISTS (SELECT queue, feature FROM shop.alerts EXCEPT ALL SELECT * FROM shop.expected_alerts)
	AND NOT EXISTS (SELECT * FROM shop.expected_alerts EXCEPT ALL SELECT queue, feature FROM shop.alerts))
\g (tuples_only=on format=unaligned)
SELECT shop.check('what was replayed is marked',
	(SELECT bool_and((replayed_message_id IS NOT NULL) = (queue = 'late')) FROM shop.alerts))
\g (tuples_only=on format=unaligned)
SELECT shop.check('the archive has the whole feed', (SELECT count(*) FROM :topic_view) = (SELECT count(*) FROM shop.feed))
\g (tuples_only=on format=unaligned)
