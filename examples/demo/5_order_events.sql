\echo
\echo '5. What happens to sales is published, and fans out to five departments'
\echo
CREATE TABLE shop.sales (
	id       integer PRIMARY KEY,
	customer text NOT NULL,
	item     text NOT NULL,
	amount   numeric NOT NULL,
	status   text NOT NULL DEFAULT 'placed'
);

-- Those who do the work, each with what it wants to know of; the ledger is
-- kept by customer, in order.
SELECT pigeon.create_topic('sales_events', fifo => true),
	   pigeon.create_queue('shipping'), pigeon.create_queue('stock'), pigeon.create_queue('analytics'),
	   pigeon.create_queue('mail'), pigeon.create_queue('ledger', fifo => true) \gset
SELECT pigeon.subscribe('sales_events', 'shipping', '{"operation": ["update"], "new": {"status": ["paid"]}}', 'body') AS shipping,
	   pigeon.subscribe('sales_events', 'stock', '{"new": {"status": ["paid"], "item": [{"anything-but": {"prefix": "voucher"}}]}}', 'body') AS stock,
	   pigeon.subscribe('sales_events', 'analytics') AS analytics,
	   pigeon.subscribe('sales_events', 'mail', '{"new": {"status": ["paid"], "amount": [{"numeric": [">=", 100]}]}}', 'body',
						raw_delivery => false) AS mail,
	   pigeon.subscribe('sales_events', 'ledger') AS ledger \gset

-- The table knows nothing of all that.
SELECT pigeon.publish_changes('shop.sales', 'sales_events', columns => '{id,customer,item,amount,status}', group_by => 'customer') \gset

INSERT INTO shop.sales (id, customer, item, amount)
SELECT n, (ARRAY['Ada', 'Bela', 'Chen', 'Dora'])[1 + n % 4], CASE WHEN n % 5 = 0 THEN 'voucher ' || n ELSE 'tea' END, n * 7 % 200
FROM generate_series(1, 200) AS n;
UPDATE shop.sales SET status = 'paid' WHERE id % 3 = 0;
UPDATE shop.sales SET status = 'cancelled' WHERE id % 10 = 1 AND status = 'placed';
DELETE FROM shop.sales WHERE status = 'cancelled';
BEGIN;
UPDATE shop.sales SET status = 'paid';
ROLLBACK;

-- Standard queues happen to keep the order when nobody else sends or receives.
CREATE TABLE shop.events (queue text, place integer GENERATED ALWAYS AS IDENTITY, body jsonb, group_id text);
INSERT INTO shop.events (queue, body, group_id)
SELECT queue, CASE queue WHEN 'mail' THEN (m.body::jsonb->>'Message')::jsonb ELSE m.body::jsonb END, m.group_id
FROM unnest('{shipping,stock,analytics,mail,ledger}'::text[]) AS queue, pigeon.pop(queue, 10000) AS m;

SELECT queue, count(*) AS messages, count(*) FILTER (WHERE body->>'operation' = 'insert') AS inserts,
	   count(*) FILTER (WHERE body->>'operation' = 'update') AS updates, count(*) FILTER (WHERE body->>'operation' = 'delete') AS deletes
FROM shop.events GROUP BY queue ORDER BY queue;

SELECT shop.check('shipping has every sale that was paid, and nothing else',
	(SELECT array_agg((body->'new'->>'id')::integer ORDER BY 1) FROM shop.events WHERE queue = 'shipping')
		= (SELECT array_agg(id ORDER BY id) FROM shop.sales WHERE status = 'paid'))
\g (tuples_only=on format=unaligned)
SELECT shop.check('stock has those but the vouchers',
	(SELECT array_agg((body->'new'->>'id')::integer ORDER BY 1) FROM shop.events WHERE queue = 'stock')
		= (SELECT array_agg(id ORDER BY id) FROM shop.sales WHERE status = 'paid' AND item !~ '^voucher'))
\g (tuples_only=on format=unaligned)
SELECT shop.check('mail has those of 100 and more, in envelopes',
	(SELECT array_agg((body->'new'->>'id')::integer ORDER BY 1) FROM shop.events WHERE queue = 'mail')
		= (SELECT array_agg(id ORDER BY id) FROM shop.sales WHERE status = 'paid' AND amount >= 100))
\g (tuples_only=on format=unaligned)
SELECT shop.check('analytics has every change: 200 sales, the paid and the cancelled ones, these deleted',
	(SELECT count(*) FROM shop.events WHERE queue = 'analytics')
		= 200 + (SELECT count(*) FROM shop.sales WHERE status = 'paid') + 2 * (200 - (SELECT count(*) FROM shop.sales)))
\g (tuples_only=on format=unaligned)
SELECT shop.check('the ledger has them too, of each customer in the order in which they happened',
	(SELECT array_agg(body - 'time' ORDER BY group_id, place) FROM shop.events WHERE queue = 'ledger')
		= (SELECT array_agg(body - 'time' ORDER BY coalesce(body->'new'->>'customer', body->'old'->>'customer'), place)
		   FROM shop.events WHERE queue = 'analytics'))
\g (tuples_only=on format=unaligned)
