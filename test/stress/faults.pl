# Everything that can happen to clients and server, at once; see
# faults/__main__.py.  One round, or ten if PIGEON_TEST_LONG is set.

use strict;
use warnings;

use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{PIGEON_TEST_LONG} ? 10 : 1;
my $program = dirname(__FILE__) . '/faults';
my $python = debian_python();

command_ok([ $python, '-B', "$program/test_history.py" ], 'the checks notice what they are there for');

my $node = new_server('main', 'max_connections = 60', 'max_prepared_transactions = 30', 'restart_after_crash = on',
	'deadlock_timeout = 200ms', 'pigeon.log_segment_size = 1MB', 'log_statement = none', 'log_min_messages = panic',
	'log_min_error_statement = panic');
$node->safe_psql('postgres', 'CREATE EXTENSION pigeon');

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres');
my ($stdout, $stderr) = run_command([ $python, '-B', $program, '--data', $node->data_dir, '--rounds', $rounds ]);

diag($stdout);
unlike($stderr, qr/Traceback/, 'the harness ran');	# libpq may say something about lost connections
my $kept = like($stdout, qr/^[1-9]\d* passed, 0 failed$/m, 'queues and topics kept their promises');
my ($crashes, $kills, $messages) = $stdout =~ /^(\d+) crashes, (\d+) killed backends, (\d+) acknowledged messages$/m;
diag(sprintf 'figures: %d crashes, %d killed backends, %d acknowledged messages%s',
	$crashes // 0, $kills // 0, $messages // 0, $kept ? ', none lost, none doubled' : '');
cmp_ok($crashes // 0, '>=', 10 * $rounds, 'crashes');
cmp_ok($kills // 0, '>=', 200 * $rounds, 'killed backends');
cmp_ok($messages // 0, '>=', 200000 * $rounds, 'acknowledged messages');
like($node->safe_psql('postgres', q{
	CREATE EXTENSION amcheck;
	SELECT count(bt_index_check(indexrelid, true)) FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
	WHERE relnamespace = 'pigeon'::regnamespace AND indisvalid}), qr/^[1-9]/, 'every index is complete');

done_testing();
