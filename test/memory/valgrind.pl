# No call reads or writes memory that is not there, was freed, or was never
# filled.  Runs on a server that tells Valgrind of its memory contexts, under
# Valgrind, with reports in the directory PIGEON_VALGRIND; see scripts/test.

use strict;
use warnings;

use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rounds = $ENV{PIGEON_TEST_LONG} ? 100 : 10;
my $reports = $ENV{PIGEON_VALGRIND};
my $node = new_server('main', 'log_statement = none', 'log_min_error_statement = panic', 'restart_after_crash = off',
	'shared_buffers = 32MB', 'jit = off');

$node->safe_psql('postgres', slurp_file(dirname(__FILE__) . '/calls.sql'));
my @kinds = split /\n/, $node->safe_psql('postgres', 'SELECT kind FROM calls GROUP BY kind ORDER BY min(id)');
foreach my $kind (@kinds)
{
	# One alone, and two that meet each other.
	$node->safe_psql('postgres', "CALL make_calls('$kind', 1, $rounds)");
	my @sessions = map { $node->background_psql('postgres') } 1 .. 2;
	$sessions[$_]->query_until(qr/begun/, "\\echo begun\nCALL make_calls('$kind', $_ * 1000, $_ * 1000 + $rounds);\n") foreach 0, 1;
	$_->quit foreach @sessions;
	is(join(' ', map { basename($_) } grep { -s } glob("$reports/*")), '', "nothing to report: $kind");
}
all_is_well($node, 'postgres', 'all is well');
$node->stop;
my @files = glob("$reports/*");
cmp_ok(scalar @files, '>', 3 * @kinds, 'Valgrind has watched all processes');
foreach (grep { -s } @files)
{
	fail('what Valgrind has to say');
	diag(slurp_file($_));
}

done_testing();
