\echo
\echo '4. A feed of earthquakes for four workers at once, of which one dies at work'
\echo
SELECT pigeon.create_queue('earthquakes') \gset

-- What the workers record; nothing here would hide a loss or a double.
CREATE TABLE shop.earthquakes (worker integer NOT NULL, feature jsonb NOT NULL);
CREATE TABLE shop.feed (line integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, feature jsonb NOT NULL);
CREATE TABLE shop.feed_end (sent integer NOT NULL);

-- Sends the feed, a hundred messages in a transaction.
CREATE PROCEDURE shop.send_feed() LANGUAGE plpgsql AS $$
DECLARE
	features jsonb[];
	sent integer := 0;
BEGIN
	LOOP
		features := ARRAY(SELECT feature FROM shop.feed ORDER BY line OFFSET sent LIMIT 100);
		EXIT WHEN cardinality(features) = 0;
		sent := sent + (SELECT count(*) FROM pigeon.send_batch('earthquakes', features));
		COMMIT;
	END LOOP;
	INSERT INTO shop.feed_end VALUES (sent);
END $$;

-- Records messages until the feed has ended and the queue is empty.  Recording
-- and deleting commit together.  A worker told to die does so in its third
-- transaction, when both are done but not committed.
CREATE PROCEDURE shop.record_earthquakes(worker integer, dies boolean) LANGUAGE plpgsql AS $$
DECLARE
	messages pigeon.message[];
BEGIN
	FOR batch IN 1 .. 1000000000 LOOP
		messages := ARRAY(SELECT m FROM pigeon.receive('earthquakes', 20, wait_time => '1 s') AS m);
		INSERT INTO shop.earthquakes SELECT worker, body::jsonb FROM unnest(messages);
		PERFORM pigeon.delete('earthquakes', ARRAY(SELECT receipt FROM unnest(messages)));
		IF dies AND batch = 3 THEN
			PERFORM pg_terminate_backend(pg_backend_pid());
		END IF;
		COMMIT;
		EXIT WHEN EXISTS (SELECT FROM shop.feed_end)
			AND NOT EXISTS (SELECT FROM pigeon.peek('earthquakes', 1));
		COMMIT;
	END LOOP;
END $$;

-- One JSON document a line: no character of it quotes or separates anything.
\copy shop.feed (feature) FROM 'data/earthquakes.ndjson' (FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02')
SELECT format('   Sending %s earthquakes, while the workers record them ...', count(*)) FROM shop.feed
\g (tuples_only=on format=unaligned)
