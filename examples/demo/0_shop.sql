-- The shop: customers place orders, a consumer ships them.  An order and the
-- message about it are written in one transaction.
CREATE EXTENSION pigeon;
CREATE SCHEMA shop;

CREATE TABLE shop.orders (
	id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	customer text NOT NULL,
	item     text NOT NULL,
	quantity text NOT NULL		-- as the customer typed it
);
CREATE TABLE shop.shipments (
	order_id integer NOT NULL REFERENCES shop.orders,
	parcels  integer NOT NULL,
	shipper  text NOT NULL
);
CREATE TABLE shop.diary (at timestamptz DEFAULT clock_timestamp(), entry text NOT NULL);

SELECT pigeon.create_queue('unshippable');
SELECT pigeon.create_queue('orders', dead_letter_queue => 'unshippable', max_receive_count => 3);

CREATE FUNCTION shop.place_order(customer text, item text, quantity text) RETURNS bigint
LANGUAGE sql BEGIN ATOMIC
	WITH placed AS (
		INSERT INTO shop.orders (customer, item, quantity) VALUES (customer, item, quantity)
		RETURNING *
	)
	SELECT pigeon.send('orders', to_jsonb(placed)) FROM placed;
END;

CREATE FUNCTION shop.ship("order" jsonb, shipper text) RETURNS void
LANGUAGE sql BEGIN ATOMIC
	INSERT INTO shop.shipments
	SELECT ("order"->>'id')::integer, ("order"->>'quantity')::integer, shipper;
END;

-- The consumer: takes orders until there are none.  Shipping and deleting the
-- message commit together; an order that cannot be shipped goes back at once.
CREATE PROCEDURE shop.consume(shipper text) LANGUAGE plpgsql AS $$
DECLARE
	message pigeon.message;
BEGIN
	LOOP
		SELECT * INTO message FROM pigeon.receive('orders');
		EXIT WHEN NOT FOUND;
		BEGIN
			PERFORM shop.ship(message.body::jsonb, shipper);
			PERFORM pigeon.delete('orders', message.receipt);
			INSERT INTO shop.diary (entry) VALUES (format('%s ships order %s',
				shipper, message.body::jsonb->>'id'));
		EXCEPTION WHEN OTHERS THEN
			PERFORM pigeon.change_visibility('orders', message.receipt, '0');
			INSERT INTO shop.diary (entry) VALUES (format('%s fails at order %s, receive %s: %s',
				shipper, message.body::jsonb->>'id', message.receive_count, SQLERRM));
		END;
		COMMIT;
	END LOOP;
END $$;

-- What the consumers did since the last look.
CREATE FUNCTION shop.read_diary() RETURNS SETOF text LANGUAGE sql BEGIN ATOMIC
	WITH page AS (DELETE FROM shop.diary RETURNING *)
	SELECT '   ' || entry FROM page ORDER BY at;
END;

-- Says that something holds, or stops the demo.
CREATE FUNCTION shop.check(fact text, holds boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF holds IS NOT TRUE THEN
		RAISE EXCEPTION 'this does not hold: %', fact;
	END IF;
	RETURN '   ✓ ' || fact;
END $$;
