# Code of users does not run with the rights of others: not what an extension
# brings into our schema, nor what an index of a queue's table calls while the
# worker vacuums it.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'log_statement = none');
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
	'pigeon_guest_type' => 'CREATE TYPE "user" AS (a integer);',
	'pigeon_guest_table' => 'CREATE TABLE guests (a integer);');
SKIP:
{
	skip 'extensions cannot be installed', 8 unless -w $directory;
	foreach my $name (keys %contents)
	{
		append_to_file("$directory/$name.control", "default_version = '1'\nrelocatable = true\nsuperuser = false\n");
		append_to_file("$directory/$name--1.sql", $contents{$name});
	}
	foreach my $name ('pigeon_guest_function', 'pigeon_guest_type')
	{
		like(as_eve("CREATE EXTENSION $name SCHEMA pigeon"), qr/permission denied to create pigeon/, "$name cannot be created in our schema");
		is(as_eve("CREATE EXTENSION $name SCHEMA eve"), '', 'but elsewhere');
		like(as_eve("ALTER EXTENSION $name SET SCHEMA pigeon"), qr/permission denied to create pigeon/, 'and not be moved there');
	}
	is(as_eve('CREATE EXTENSION pigeon_guest_table SCHEMA pigeon'), '', 'tables are no danger');
	is(sql('ALTER EXTENSION pigeon_guest_function SET SCHEMA public; DROP EXTENSION pigeon_guest_function'), '', 'the owner may do anything');
	unlink glob "$directory/pigeon_guest_*";
}

# An index whose cleaning evaluates an expression.
sql(q{SET ROLE eve;
	SELECT pigeon.create_queue('q', visibility_timeout => '1 h');
	SELECT count(*) FROM pigeon.send_batch('q', array_fill('x'::text, ARRAY[20001]));
	CREATE FUNCTION eve.f(bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
		RAISE LOG 'evaluated by %', (SELECT backend_type FROM pg_stat_get_activity(pg_backend_pid()));
		RETURN $1;
	END $$});
my $table = sql('SELECT queue_table FROM pigeon.queues');
my $session = $node->background_psql('postgres');
$session->query_safe(q{SET ROLE eve; CREATE TEMP TABLE got AS SELECT message_id, receipt FROM pigeon.receive('q', 19999)});
sql(qq{SET ROLE eve; SET client_min_messages = error;
	CREATE INDEX ON $table USING brin (eve.f(message_id)) WITH (pages_per_range = 1);
	INSERT INTO $table SELECT message_id + 1000000, log_key, enqueued_at, home, log_block, segment, log_offset, lane, due_at FROM $table LIMIT 1000});
my $offset = -s $node->logfile;
is($session->query_safe(q{SELECT pigeon.delete('q', receipt) FROM got WHERE message_id = (SELECT max(message_id) FROM got)}), 't', 'many changes, by which the worker is called');
$session->quit;
sleep 10;
unlike(slurp_file($node->logfile, $offset), qr/evaluated by/, 'who has nothing to do with the index');

done_testing();
