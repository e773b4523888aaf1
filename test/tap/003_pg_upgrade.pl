# Queues, messages, leases, receipts and rights survive pg_upgrade.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = new_server('old');
my $new = new_server('new');
my @receipts = fill($old, 'postgres');
my $before = state($old, 'postgres');
my $bindir = $old->config_data('--bindir');

$old->stop;
$new->stop;

# pg_upgrade leaves its files where it runs.
chdir PostgreSQL::Test::Utils::tempdir or die "could not change directory: $!";
command_ok(
	[
		'pg_upgrade', '--old-datadir', $old->data_dir, '--new-datadir', $new->data_dir,
		'--old-bindir', $bindir, '--new-bindir', $bindir,
		'--socketdir', $new->host, '--old-port', $old->port, '--new-port', $new->port
	],
	'pg_upgrade');

$new->start;
is(state($new, 'postgres'), $before, 'nothing changed');
check_filled($new, 'postgres', 'upgraded', @receipts);

done_testing();
