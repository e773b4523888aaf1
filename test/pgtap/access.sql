-- Rights in special cases: dead-letter queues, redrives, roles that are gone; a hostile search_path. Who may call what is in
-- rights.sql, what an attacker may try in attacks.sql.
BEGIN;
SELECT plan(18);
CREATE ROLE pgn_owner;
CREATE ROLE pgn_stranger;
CREATE ROLE pgn_eve;
GRANT CREATE ON SCHEMA pigeon TO pgn_owner, pgn_eve;

-- What a command does as some role: OK or a SQLSTATE.  Nothing of it stays.
CREATE FUNCTION attempt(role name, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE command;
	RAISE EXCEPTION USING ERRCODE = 'OK000';
EXCEPTION WHEN OTHERS THEN
	RETURN CASE SQLSTATE WHEN 'OK000' THEN 'OK' ELSE SQLSTATE END;
END $$;

SET ROLE pgn_owner;
SELECT pigeon.create_queue('dead');
SELECT pigeon.create_queue('q', dead_letter_queue => 'dead');
SELECT pigeon.create_queue('elsewhere');
RESET ROLE;

-- What a query returns to some role
CREATE FUNCTION seen(role name, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
	PERFORM set_config('role', role::text, true);
	EXECUTE query INTO result;
	PERFORM set_config('role', 'none', true);
	RETURN result;
END $$;

-- Naming somebody else's queue as a dead-letter queue, and redriving to it
SELECT is(attempt('pgn_eve', $$SELECT pigeon.create_queue('mine', dead_letter_queue => 'dead')$$), '42501', 'naming the dead-letter queue of another');
SET ROLE pgn_eve;
SELECT pigeon.create_queue('eve dead');
SELECT pigeon.create_queue('eve', dead_letter_queue => 'eve dead');
RESET ROLE;
SELECT is(attempt('pgn_eve', $$SELECT pigeon.redrive('eve dead', 'elsewhere')$$), '42501', 'redriving to a queue of another');
SELECT is(attempt('pgn_owner', $$SELECT pigeon.redrive('eve dead')$$), '42501', 'redriving from a queue of another');

-- Redrive tasks: seen and stopped by who may; a role that is gone does not break the view
SET ROLE pgn_eve;
SELECT pigeon.redrive('eve dead');
RESET ROLE;
SELECT is(seen('pgn_eve', $$SELECT count(*)::text FROM pigeon.redrive_tasks$$), '1', 'the own task is seen');
SELECT is(seen('pgn_stranger', $$SELECT count(*)::text FROM pigeon.redrive_tasks$$), '0', 'that of another is not');
SELECT is(attempt('pgn_stranger', format('SELECT pigeon.cancel_redrive(%s)', task_id)), '42501', 'nor stopped') FROM pigeon.redrive_tasks;
UPDATE pigeon.redrive_task SET started_by = 'a role that is gone';
SELECT is(seen('pgn_stranger', $$SELECT count(*)::text FROM pigeon.redrive_tasks$$), '0', 'a task of a role that is gone is not seen by others');
SELECT is(seen('postgres', $$SELECT count(*)::text FROM pigeon.redrive_tasks$$), '1', 'but by the owner of the queue');
SELECT is(attempt('pgn_eve', format('SELECT pigeon.cancel_redrive(%s)', task_id)), '55000', 'who may stop it, were it running') FROM pigeon.redrive_tasks;

-- A missing dead-letter queue's name is no free lunch for who comes first
SET ROLE pgn_owner;
SELECT pigeon.drop_queue('dead');
RESET ROLE;
SELECT is(attempt('pgn_eve', $$SELECT pigeon.create_queue('dead')$$), '42501', 'the name of a missing dead-letter queue is not for others');
SELECT is(attempt('pgn_owner', $$SELECT pigeon.create_queue('dead')$$), 'OK', 'but for the owner of the source');

-- Code of an attacker runs with no other rights than the attacker's
CREATE TABLE public.witness (who name);
GRANT INSERT ON public.witness TO PUBLIC;
GRANT CREATE ON SCHEMA public TO pgn_eve;
SET ROLE pgn_eve;
CREATE FUNCTION public.evil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES (current_user); RETURN NULL; END $$;
SELECT format('CREATE TRIGGER evil BEFORE TRUNCATE ON %s EXECUTE FUNCTION public.evil()', queue_table) FROM pigeon.queues WHERE queue = 'eve' \gexec
RESET ROLE;
SELECT throws_ok($$SELECT pigeon.purge_queue('eve')$$, '55000', NULL, 'a queue whose table has a trigger is not purged');
SELECT throws_ok($$SELECT pigeon.send('eve', 'x')$$, '55000', NULL, 'nor sent to');
SELECT is((SELECT count(*) FROM public.witness), 0::bigint, 'and the trigger did not run');
SET ROLE pgn_eve;
SELECT format('DROP TRIGGER evil ON %s', queue_table) FROM pigeon.queues WHERE queue = 'eve' \gexec
SELECT format('CREATE TABLE public.child () INHERITS (%s)', queue_table) FROM pigeon.queues WHERE queue = 'eve' \gexec
CREATE TRIGGER evil BEFORE TRUNCATE ON public.child EXECUTE FUNCTION public.evil();
RESET ROLE;
SELECT lives_ok($$SELECT pigeon.purge_queue('eve')$$, 'purging a queue with a child table');
SELECT is((SELECT count(*) FROM public.witness), 0::bigint, 'leaves the child alone');

-- A schema in front with things of the same names
CREATE SCHEMA hostile;

CREATE TABLE hostile.queue (LIKE pigeon.queue);
CREATE TABLE hostile.pg_class (oid oid, relname name);
CREATE FUNCTION hostile.trap(integer, integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('operator'); RETURN false; END $$;
CREATE FUNCTION hostile.trap(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('operator'); RETURN false; END $$;
CREATE FUNCTION hostile.trap(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('operator'); RETURN false; END $$;
CREATE OPERATOR hostile.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = hostile.trap);
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.trap);
CREATE OPERATOR hostile.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = hostile.trap);
CREATE OPERATOR hostile.~ (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.trap);
CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('now'); RETURN NULL; END $$;
CREATE FUNCTION hostile.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('now'); RETURN NULL; END $$;
CREATE FUNCTION hostile.to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('regclass'); RETURN NULL; END $$;
CREATE FUNCTION hostile.pg_relation_size(regclass) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('size'); RETURN 0; END $$;
CREATE FUNCTION hostile.has_table_privilege(oid, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.witness VALUES ('privilege'); RETURN true; END $$;
CREATE DOMAIN hostile.timestamptz AS text;
CREATE DOMAIN hostile.bigint AS text;
CREATE TABLE hostile.results (what text, result text);
SET search_path = hostile, pg_catalog, pigeon, public;
INSERT INTO results SELECT 'create', pigeon.create_queue('h dead')::text;
INSERT INTO results SELECT 'create', pigeon.create_queue('h', dead_letter_queue => 'h dead', max_receive_count => 1)::text;
INSERT INTO results SELECT 'again', pigeon.create_queue('h', if_not_exists => true, tags => '{}')::text;
INSERT INTO results SELECT 'alter', pigeon.alter_queue('h', visibility_timeout => '0')::text;
INSERT INTO results SELECT 'grant', pigeon.grant_access('h', 'pgn_eve', '{send}')::text;
INSERT INTO results SELECT 'send', (pigeon.send('h', 'x', '{"a": 1}') > 0)::text;
INSERT INTO results SELECT 'receive', body FROM pigeon.receive('h');
INSERT INTO results SELECT 'receive', body FROM pigeon.receive('h');
INSERT INTO results SELECT 'dead', body FROM pigeon.peek('h dead');
INSERT INTO results SELECT 'redrive', (pigeon.redrive('h dead') > 0)::text;
CALL pigeon.maintain();
INSERT INTO results SELECT 'pop', body FROM pigeon.pop('h');
INSERT INTO results SELECT 'purge', pigeon.purge_queue('h')::text;
INSERT INTO results SELECT 'queues', count(*)::text FROM pigeon.queues WHERE queue OPERATOR(pg_catalog.~) '^h';
INSERT INTO results SELECT 'drop', pigeon.drop_queue('h')::text;
INSERT INTO results SELECT 'drop', pigeon.drop_queue('h dead')::text;
SET search_path = public;
SELECT is((SELECT string_agg(what || ' ' || result, ', ') FROM hostile.results),
	'create , create , again , alter , grant , send true, receive x, dead x, redrive true, pop x, purge 0, queues 2, drop true, drop true',
	'a hostile schema in front changes nothing');
SELECT is((SELECT count(*) FROM public.witness), 0::bigint, 'and nothing of it is called');
SELECT * FROM finish();
ROLLBACK;
