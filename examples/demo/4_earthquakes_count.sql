\echo
SELECT worker, count(*) AS messages,
	   CASE worker WHEN :dying THEN 'died; what it held went to the others' ELSE '' END AS note
FROM shop.earthquakes GROUP BY worker ORDER BY worker;

SELECT (SELECT count(*) FROM shop.feed) AS in_file, (SELECT sent FROM shop.feed_end) AS sent,
	   count(*) AS recorded, count(DISTINCT feature->>'id') AS distinct_ids
FROM shop.earthquakes;

SELECT shop.check('nothing is lost', NOT EXISTS
	(SELECT feature FROM shop.feed EXCEPT ALL SELECT feature FROM shop.earthquakes))
\g (tuples_only=on format=unaligned)
SELECT shop.check('nothing is doubled or altered', NOT EXISTS
	(SELECT feature FROM shop.earthquakes EXCEPT ALL SELECT feature FROM shop.feed))
\g (tuples_only=on format=unaligned)
SELECT shop.check('every line of the file was sent, and the queue is empty',
	(SELECT count(*) FROM shop.feed) = (SELECT sent FROM shop.feed_end) AND
	NOT EXISTS (SELECT FROM pigeon.peek('earthquakes')))
\g (tuples_only=on format=unaligned)
SELECT shop.check('pigeon finds nothing wrong in its tables', NOT EXISTS (SELECT FROM pigeon.check()))
\g (tuples_only=on format=unaligned)
