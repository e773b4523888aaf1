\echo
\echo '1. Orders are accepted while the consumer is down'
\echo
SELECT shop.place_order('Ada', 'tea', '2') AS message_id \gset
SELECT shop.place_order('Bela', 'coffee', '1') AS message_id \gset
SELECT shop.place_order('Chen', 'cocoa', '12') AS message_id \gset

BEGIN;
SELECT shop.place_order('Dora', 'sugar', '3') AS message_id \gset
ROLLBACK;

SELECT message_id, body, receive_count FROM pigeon.peek('orders');
SELECT shop.check('three orders and three messages; the order that was rolled back left neither',
	(SELECT count(*) FROM shop.orders) = 3 AND (SELECT count(*) FROM pigeon.peek('orders')) = 3)
\g (tuples_only=on format=unaligned)

\echo
\echo '   The consumer starts.'
\echo
CALL shop.consume('Ping');
SELECT shop.read_diary() \g (tuples_only=on format=unaligned)
SELECT shop.check('every order is shipped and the queue is empty',
	(SELECT array_agg(order_id ORDER BY order_id) FROM shop.shipments)
		= (SELECT array_agg(id ORDER BY id) FROM shop.orders)
	AND NOT EXISTS (SELECT FROM pigeon.peek('orders')))
\g (tuples_only=on format=unaligned)
