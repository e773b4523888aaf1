# Memory does not grow with the number of calls: neither a backend's, for any
# kind of call, nor that of the worker and the launcher.  With
# PIGEON_TEST_LONG set, ten times as many.

use strict;
use warnings;

use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $calls = $ENV{PIGEON_TEST_LONG} ? 200000 : 20000;	# of each kind
my $bound = 2048;	# kB
# The server's own caches keep something of every table that was dropped.
my $bound_for_administration = 64;	# kB for each round
my $node = new_server('main', 'log_statement = none', 'log_min_error_statement = panic', 'fsync = off');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a process has of memory that it shares with nobody, in kB.
sub memory
{
	return slurp_file("/proc/$_[0]/smaps_rollup") =~ /^Anonymous: *(\d+) kB$/m ? $1 : die;
}

# The processes that work in the background, by id.
sub helpers
{
	return split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pigeon %'});
}

$node->safe_psql('postgres', slurp_file(dirname(__FILE__) . '/../memory/calls.sql'));
my %kinds = map { split /\|/ } split /\n/, sql('SELECT kind, count(*) FROM calls GROUP BY kind');
my %helpers;
foreach my $kind (sort keys %kinds)
{
	my $warm = int($calls / 10 / $kinds{$kind});
	my $all = int($calls / $kinds{$kind});
	my $session = $node->background_psql('postgres');
	my ($pid) = $session->query('SELECT pg_backend_pid()') =~ /(\d+)/;

	$session->query("CALL make_calls('$kind', 1, $warm)");
	my $before = memory($pid);
	foreach (helpers()) { $helpers{$_}{first} //= memory($_) }
	$session->query("CALL make_calls('$kind', $warm + 1, $all)");
	my $after = memory($pid);
	foreach (helpers()) { $helpers{$_}{last} = memory($_) }
	$session->quit;
	cmp_ok($after - $before, '<', $kind eq 'administration' ? $bound_for_administration * ($all - $warm) : $bound, "$calls calls: $kind");
	note sprintf '%s: from %d to %d kB', $kind, $before, $after;
}
foreach (grep { $_->{first} && $_->{last} } values %helpers)
{
	cmp_ok($_->{last} - $_->{first}, '<', $bound, 'meanwhile in the background');
	note sprintf 'from %d to %d kB', $_->{first}, $_->{last};
}
all_is_well($node, 'postgres', 'all is well');

done_testing();
