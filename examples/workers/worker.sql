-- A worker in SQL: works inside the database, with nothing but psql.
--
--     psql -v queue=orders -f worker.sql
--
-- It waits in wait_for_message, which holds no snapshot and no lock.  Each
-- message is received, processed and deleted in one transaction: either all of
-- that has happened, or (a crash, Ctrl-C) none of it, and the message is there
-- again at once.  So there is no visibility to extend.  If the work fails, only
-- that is undone: the receive counts, the message comes back when its timeout
-- ends, and goes to the dead-letter queue in the end.  To stop the worker, press
-- Ctrl-C, send SIGINT to psql, or cancel the statement.
--
-- What is done here with a message is to be replaced by what you want to do.

CREATE TABLE IF NOT EXISTS processed (message_id bigint PRIMARY KEY, body text, at timestamptz DEFAULT clock_timestamp());

CREATE OR REPLACE PROCEDURE work(queue text) LANGUAGE plpgsql AS $$
DECLARE
	available boolean;
	message pigeon.message;
BEGIN
	LOOP
		CALL pigeon.wait_for_message(queue, '1 minute', available);
		LOOP
			SELECT * INTO message FROM pigeon.receive(queue);
			EXIT WHEN NOT FOUND;
			BEGIN
				INSERT INTO processed (message_id, body) VALUES (message.message_id, message.body);
				PERFORM pigeon.delete(queue, message.receipt);
			EXCEPTION WHEN OTHERS THEN
				RAISE WARNING 'message % failed: %', message.message_id, SQLERRM;
			END;
			COMMIT;
		END LOOP;
		COMMIT;
	END LOOP;
END
$$;

CALL work(:'queue');
