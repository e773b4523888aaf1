-- CREATE EXTENSION does not look into the bodies of functions; plpgsql_check does.
CREATE EXTENSION plpgsql_check;
SELECT plan(1);
SELECT pigeon.create_queue('q');

SELECT is_empty($$
	SELECT p.oid::regprocedure, message
	FROM pg_extension e
	JOIN pg_depend d ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND deptype = 'e'
	JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	JOIN pg_language l ON l.oid = prolang,
		plpgsql_check_function_tb(p.oid, CASE WHEN prorettype = 'trigger'::regtype THEN (SELECT queue_table FROM pigeon.queues) ELSE 0 END,
			fatal_errors => false)
	WHERE extname = 'pigeon' AND lanname = 'plpgsql'
	-- Schedules use pg_cron, which is not here.
	AND message !~ '"cron(\.job)?" does not exist'
	$$, 'plpgsql_check finds nothing');

SELECT * FROM finish();
