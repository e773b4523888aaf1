# Queues, messages, leases, receipts and rights survive every way to dump and
# restore a database.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $dumps = PostgreSQL::Test::Utils::tempdir;
my @receipts = fill($node, 'postgres');
my $before = state($node, 'postgres');

# A new database with what a dump holds must look like the old one and work.
sub check_restored
{
	my ($database, $what) = @_;

	is(state($node, $database), $before, "$what: nothing changed");
	check_filled($node, $database, $what, @receipts);
	return;
}

sub psql_file
{
	my ($database, $file) = @_;

	return [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', $file ];
}

$node->command_ok([ 'pg_dump', '-f', "$dumps/plain.sql", 'postgres' ], 'plain: dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok(psql_file('plain', "$dumps/plain.sql"), 'plain: restore');
check_restored('plain', 'plain');

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/custom", 'postgres' ], '-Fc: dump');
$node->safe_psql('postgres', 'CREATE DATABASE custom');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'custom', "$dumps/custom" ], '-Fc: restore');
check_restored('custom', '-Fc');

$node->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dumps/directory", 'postgres' ], '-Fd -j2: dump');
$node->safe_psql('postgres', 'CREATE DATABASE directory');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-j2', '-d', 'directory', "$dumps/directory" ],
	'-Fd -j2: restore');
check_restored('directory', '-Fd -j2');

# Only queues: the schema and, for the registry, the extension.
$node->command_ok(
	[ 'pg_dump', '-Fc', '-n', 'pigeon', '-e', 'pigeon', '-f', "$dumps/schema", 'postgres' ],
	'-n pigeon -e pigeon: dump');
$node->safe_psql('postgres', 'CREATE DATABASE schema');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'schema', "$dumps/schema" ],
	'-n pigeon -e pigeon: restore');
check_restored('schema', '-n pigeon -e pigeon');

# Restored over the same queues, whose messages have changed since.
$node->command_ok([ 'pg_dump', '--clean', '-f', "$dumps/clean.sql", 'postgres' ], '--clean: dump');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/clean", 'postgres' ], '-Fc --clean: dump');
$node->safe_psql('postgres', q{
	SELECT pigeon.purge_queue('orders');
	SELECT pigeon.send('dead', 'since');
	SELECT pigeon.alter_queue('orders', delay => '1 min')});
$node->command_ok([ 'pg_restore', '--exit-on-error', '--clean', '-d', 'postgres', "$dumps/clean" ],
	'-Fc --clean: restore');
is(state($node, 'postgres'), $before, '-Fc --clean: nothing changed');
$node->safe_psql('postgres', q{SELECT pigeon.purge_queue(queue) FROM pigeon.queues});
$node->command_ok(psql_file('postgres', "$dumps/clean.sql"), '--clean: restore');
check_restored('postgres', '--clean');

done_testing();
