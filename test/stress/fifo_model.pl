# Concurrent clients of a FIFO queue that commit, roll back, prepare, let leases
# expire and are killed; what they saw is checked against a model.  See
# fifo_model.py, which says more about each check, and takes --seconds for a
# longer run and --seed for another one.

use strict;
use warnings;

use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'max_connections = 50', 'max_prepared_transactions = 30',
	'log_min_messages = panic');
$node->safe_psql('postgres', 'CREATE EXTENSION pigeon');

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
my ($stdout, $stderr) = run_command([ debian_python(), dirname(__FILE__) . '/fifo_model.py', '--seconds', 12 ]);

diag($stdout) unless $stdout =~ / 0 failed$/;
is($stderr, '', 'the model checker ran');
like($stdout, qr/^[1-9]\d* passed, 0 failed$/m, 'the history of a FIFO queue is one that the model allows');

done_testing();
