# Code of users does not run with the rights of others: not what an extension
# brings into our schema, nor what an index of a queue's table calls while the
# worker vacuums it.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'log_statement = none', 'autovacuum = off');
sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a role is told.
sub as_eve
{
	my ($command) = @_;
	my $stderr = '';
	$node->psql('postgres', "SET ROLE eve; $command", stderr => \$stderr);
	return $stderr;
}

sql(q{CREATE EXTENSION pigeon; CREATE ROLE eve; CREATE SCHEMA eve AUTHORIZATION eve;
	GRANT CREATE ON SCHEMA pigeon TO eve; GRANT CREATE ON DATABASE postgres TO eve});

# Extensions that whoever may create something in the database may create.
my $directory = $node->config_data('--sharedir') . '/extension';
my %contents = (
	'pigeon_guest_function' => 'CREATE FUNCTION send(text, text) RETURNS bigint LANGUAGE sql RETURN 1;',
	'pigeon_guest_trusted' => 'CREATE FUNCTION delete(text, integer) RETURNS bigint LANGUAGE sql RETURN 1;',
	'pigeon_guest_type' => 'CREATE TYPE "user" AS (a integer);',
	'pigeon_guest_table' => 'CREATE TABLE guests (a integer);');
SKIP:
{
	skip 'extensions cannot be installed', 11 unless -w $directory;
	foreach my $name (keys %contents)
	{
		my $rights = $name =~ /trusted/ ? 'trusted = true' : 'superuser = false';
		append_to_file("$directory/$name.control", "default_version = '1'\nrelocatable = true\n$rights\n");
		append_to_file("$directory/$name--1.sql", $contents{$name});
	}
	foreach my $name ('pigeon_guest_function', 'pigeon_guest_type')
	{
		like(as_eve("CREATE EXTENSION $name SCHEMA pigeon"), qr/permission denied to create pigeon/, "$name cannot be created in our schema");
		is(as_eve("CREATE EXTENSION $name SCHEMA eve"), '', 'but elsewhere');
		like(as_eve("ALTER EXTENSION $name SET SCHEMA pigeon"), qr/permission denied to create pigeon/, 'and not be moved there');
	}
	like(as_eve('CREATE EXTENSION pigeon_guest_trusted SCHEMA pigeon'), qr/permission denied to create pigeon/, 'nor what a superuser would own there');
	is(as_eve('CREATE EXTENSION pigeon_guest_trusted SCHEMA eve'), '', 'but elsewhere');
	is(sql('ALTER EXTENSION pigeon_guest_trusted SET SCHEMA eve'), '', 'a superuser may do as he likes');
	is(as_eve('CREATE EXTENSION pigeon_guest_table SCHEMA pigeon'), '', 'tables are no danger');
	is(sql('ALTER EXTENSION pigeon_guest_function SET SCHEMA public; DROP EXTENSION pigeon_guest_function'), '', 'the owner may do anything');
	unlink glob "$directory/pigeon_guest_*";
}

# Event triggers that call us while we create tables.
sql(q{SELECT pigeon.create_queue('ddl'); SELECT pigeon.grant_access('ddl', 'public', '{send}');
	CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pigeon.create_queue('ddl', if_not_exists => true);
		PERFORM pigeon.send('ddl', tg_tag);
	END $$;
	CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit()});
is(sql(q{SET SESSION AUTHORIZATION eve; SELECT pigeon.create_queue('audited', fifo => true) \g /dev/null
	SELECT current_user}), 'eve', 'who creates a queue stays who he is');
cmp_ok(sql(q{SELECT count(*) FROM pigeon.pop('ddl', 100)}), '>=', 3, 'and what he did is told');
sql(q{DROP EVENT TRIGGER audit; SELECT pigeon.drop_queue('ddl')});

# What others get by default of what is created.
sql(q{CREATE ROLE app; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app, PUBLIC;
	SET ROLE eve; SELECT pigeon.create_queue('private', fifo => true); SELECT pigeon.create_topic('private', fifo => true)});
is(sql(q{SELECT string_agg(relname, ' ') FROM pg_class WHERE relname ~ '^[gd]_[0-9]+$' AND has_table_privilege('app', oid, 'SELECT, INSERT, DELETE')}),
	'', 'no default privileges on the tables of a queue or topic');
sql(q{ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM app, PUBLIC});

# The tables of a FIFO queue can be dropped whoever uses their types.
is(sql(q{SELECT format('CREATE FUNCTION eve.f(pigeon.g_%s) RETURNS integer LANGUAGE sql RETURN 1', id) FROM pigeon.queue WHERE name = 'private' \gexec
	SELECT pigeon.drop_queue('private')}), 't', 'a queue whose row type somebody uses is dropped');

# Deliveries that a queue's owner has forged with the numbers of messages to come.
sql(q{SELECT pigeon.create_topic('sales'), pigeon.create_queue('good'); SELECT pigeon.grant_access('sales', 'eve', '{subscribe}');
	SELECT pigeon.subscribe('sales', 'good');
	SELECT pigeon.create_queue('victim'); SELECT pigeon.grant_access('victim', 'eve', '{send}');
	SET ROLE eve; SELECT pigeon.create_queue('forger'); SELECT pigeon.subscribe('sales', 'forger');
	SELECT pigeon.create_queue('forged dead'); SELECT pigeon.create_queue('forged source', dead_letter_queue => 'forged dead', max_receive_count => 1)});
sub forge
{
	my ($queue, $home, $source) = @_;

	my $ids = sql("SELECT id FROM pigeon.queue WHERE name IN ('$queue', '$home') ORDER BY name = '$queue' DESC");
	my ($into, $of) = split /\n/, "$ids\n$ids";
	my $last = sql('SELECT last_value FROM pigeon.message_id_seq');
	is(as_eve("INSERT INTO pigeon.q_$into (message_id, log_key, enqueued_at, home, log_block, segment, log_offset, lane, due_at, source)
		SELECT n, 0, now(), $of, 0, 0, 0, 0, now(), $source FROM generate_series($last + 1, $last + 100) AS n"), '', "$queue is forged");
	return;
}
forge('forger', 'forger', 'NULL');
is(sql(q{SELECT pigeon.publish('sales', 'x') IS NOT NULL FROM generate_series(1, 10)}), join("\n", ('t') x 10), 'nobody fails to publish');
sql(q{SELECT format('ALTER TABLE %1$s DROP CONSTRAINT %2$I; CREATE UNIQUE INDEX ON %1$s (message_id DESC, home)', conrelid::regclass, conname)
	FROM pg_constraint WHERE contype = 'p' AND conrelid = (SELECT queue_table FROM pigeon.queues WHERE queue = 'forger') \gexec});
is(sql(q{SELECT pigeon.publish('sales', 'x') IS NOT NULL FROM generate_series(1, 10)}), join("\n", ('t') x 10), 'be the index another one');
is(sql(q{SELECT count(*) FROM pigeon.pop('good', 100)}), '20', 'and others get all');
forge('forged dead', 'victim', sql(q{SELECT id FROM pigeon.queue WHERE name = 'forged source'}));
like(as_eve(q{SELECT pigeon.redrive('forged dead', 'victim')}), qr/WARNING:  message \d+ is not redriven: no message has this number yet/,
	'a redrive to a queue of somebody else');
is(sql(q{SELECT count(pigeon.send('victim', 'x')) FROM generate_series(1, 10)}), '10', 'who can send as before');

my ($from, $to) = split /\n/, sql(q{SELECT queue_table FROM pigeon.queues WHERE queue LIKE 'forged%' ORDER BY queue DESC});
my $last = sql('SELECT last_value FROM pigeon.message_id_seq');
is(as_eve(qq{INSERT INTO $from (message_id, log_key, enqueued_at, home, log_block, segment, log_offset, lane, due_at, received_at, lease, receive_count,
		visible_at, first_received_at, queue_receive_count)
	SELECT n, 0, now(), 0, 0, 0, 0, 1, now(), now(), 1, 1, now(), now(), 1 FROM (VALUES ($last - 1), ($last + 1000)) AS v (n)}), '', 'dead letters are forged');
sql('CALL pigeon.maintain()');
is(sql("SELECT message_id - $last FROM $to WHERE home = 0"), '-1', 'one with the number of a message to come is not moved');

# An index whose cleaning evaluates an expression.
sql(q{SET ROLE eve;
	SELECT pigeon.create_queue('q', visibility_timeout => '1 h');
	SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20001]));
	CREATE FUNCTION eve.f(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		RAISE LOG 'evaluated by %', (SELECT backend_type FROM pg_stat_get_activity(pg_backend_pid()));
		RETURN $1;
	END $$});
my $table = sql(q{SELECT queue_table FROM pigeon.queues WHERE queue = 'q'});
my $session = $node->background_psql('postgres');
$session->query_safe(q{SET ROLE eve; CREATE TEMP TABLE got AS SELECT message_id, receipt FROM pigeon.receive('q', 19999)});
sql(qq{SET ROLE eve; SET client_min_messages = error;
	CREATE INDEX owners_index ON $table USING brin (eve.f(message_id)) WITH (pages_per_range = 1);
	INSERT INTO $table SELECT message_id + 1000000, log_key, enqueued_at, home, log_block, segment, log_offset, lane, due_at FROM $table LIMIT 1000});
my $offset = -s $node->logfile;
is($session->query_safe(q{SELECT pigeon.delete('q', receipt) FROM got WHERE message_id = (SELECT max(message_id) FROM got)}), 't', 'many changes, by which the worker is called');
$session->quit;
sleep 10;
unlike(slurp_file($node->logfile, $offset), qr/evaluated by (?!client backend)/, 'who has nothing to do with the index');
sql("DROP INDEX pigeon.owners_index; DELETE FROM $table WHERE message_id > 1000000");
$session = $node->background_psql('postgres');
is($session->query_safe(q{SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20001])) \g /dev/null
	SELECT count(*) FROM pigeon.pop('q', 20001)}), '20001', 'without it');
$session->quit;
ok($node->poll_query_until('postgres', qq{SELECT vacuum_count > 0 FROM pg_stat_user_tables WHERE relid = '$table'::regclass}), 'the queue is vacuumed');

done_testing();
