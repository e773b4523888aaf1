\echo
\echo '2. A slow consumer loses its lease, and the message is delivered again'
\echo
SELECT shop.place_order('Emil', 'a piano', '1') AS message_id \gset

SELECT receipt, body FROM pigeon.receive('orders', visibility_timeout => '3 s') \gset slow_
\echo '   Slow receives the order, has three seconds, and falls asleep.'
SELECT shop.check('meanwhile nobody else gets it', NOT EXISTS (SELECT FROM pigeon.receive('orders')))
\g (tuples_only=on format=unaligned)

\echo '   Quick polls for up to a minute ...'
SELECT receipt, body, receive_count FROM pigeon.receive('orders', wait_time => '1 min') \gset quick_
SELECT shop.check('... and gets it when the three seconds are over, as receive ' || :'quick_receive_count',
	:'quick_body' = :'slow_body' AND :quick_receive_count = 2)
\g (tuples_only=on format=unaligned)
SELECT shop.check('Slow wakes up, asks for more time, and learns that the lease is lost',
	NOT pigeon.change_visibility('orders', :'slow_receipt', '1 min'))
\g (tuples_only=on format=unaligned)
SELECT shop.ship(:'quick_body', 'Quick') \gset
SELECT shop.check('Quick ships the order and deletes the message', pigeon.delete('orders', :'quick_receipt'))
\g (tuples_only=on format=unaligned)
