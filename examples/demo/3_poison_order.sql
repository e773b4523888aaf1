\echo
\echo '3. A poison order goes to the dead-letter queue, and back after the fix'
\echo
SELECT shop.place_order('Fay', 'lamps', 'a dozen') AS poison \gset
SELECT shop.place_order('Gus', 'bread', '4') AS message_id \gset
CALL shop.consume('Ping');
SELECT shop.read_diary() \g (tuples_only=on format=unaligned)

\echo
\echo '   After three failures it is out of the way, in queue "unshippable":'
\echo
SELECT message_id, body, receive_count, dead_letter_source FROM pigeon.peek('unshippable');
SELECT shop.check('it is the same message as the one sent, and its neighbour was shipped',
	(SELECT array_agg(message_id) FROM pigeon.peek('unshippable')) = ARRAY[:poison::bigint]
	AND EXISTS (SELECT FROM shop.shipments JOIN shop.orders ON orders.id = order_id WHERE customer = 'Gus'))
\g (tuples_only=on format=unaligned)

\echo
\echo '   The shop learns what a dozen is, and redrives.'
\echo
CREATE OR REPLACE FUNCTION shop.ship("order" jsonb, shipper text) RETURNS void
LANGUAGE sql BEGIN ATOMIC
	INSERT INTO shop.shipments
	SELECT ("order"->>'id')::integer, replace("order"->>'quantity', 'a dozen', '12')::integer, shipper;
END;
SELECT pigeon.redrive('unshippable') AS task_id \gset
CALL pigeon.maintain();
SELECT dead_letter_queue, status, moved FROM pigeon.redrive_tasks;
CALL shop.consume('Ping');
SELECT shop.read_diary() \g (tuples_only=on format=unaligned)
SELECT shop.check('every order is shipped once, both queues are empty',
	(SELECT array_agg(order_id ORDER BY order_id) FROM shop.shipments)
		= (SELECT array_agg(id ORDER BY id) FROM shop.orders)
	AND NOT EXISTS (SELECT FROM pigeon.peek('orders'))
	AND NOT EXISTS (SELECT FROM pigeon.peek('unshippable')))
\g (tuples_only=on format=unaligned)
