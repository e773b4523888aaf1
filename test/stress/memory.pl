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
# Fewer of those, by this factor.  Tasks remain in their views, which these calls read again and again.
my %slow = (administration => 5, maintenance => 5, tasks => 5);
my $bound = 2048;	# kB; an allocator takes more than it is asked for
my $bound_of_contexts = 256;
# The server's own caches keep something of every table that was dropped.
my $bound_for_administration = 64;	# for each round
my $node = new_server('main', 'log_statement = none', 'log_min_error_statement = panic', 'fsync = off');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# What a process has of memory that it shares with nobody, in kB.
sub memory
{
	return slurp_file("/proc/$_[0]/smaps_rollup") =~ /^Anonymous: *(\d+) kB$/m ? $1 : die;
}

# What a session has in its memory contexts, in kB.
sub contexts
{
	return $_[0]->query('SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts') =~ /(\d+)/ ? $1 : die;
}

# The processes that work in the background, and have done so for a while, by id.
sub helpers
{
	return split /\n/, sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pigeon %' AND backend_start < clock_timestamp() - interval '5 s'});
}

$node->safe_psql('postgres', slurp_file(dirname(__FILE__) . '/../memory/calls.sql'));
my %kinds = map { split /\|/ } split /\n/, sql('SELECT kind, count(*) FROM calls GROUP BY kind');
my %helpers;

# Note what they have now, besides what they had first.  A worker may end at any time.
sub look_at_helpers
{
	foreach my $pid (helpers())
	{
		my $now = eval { memory($pid) } // next;
		$helpers{$pid}{first} //= $now;
		$helpers{$pid}{last} = $now;
	}
	return;
}

foreach my $kind (sort keys %kinds)
{
	my $n = $calls / ($slow{$kind} // 1);
	my $warm = int($n / 10 / $kinds{$kind});
	my $all = int($n / $kinds{$kind});
	my $session = $node->background_psql('postgres');
	my ($pid) = $session->query('SELECT pg_backend_pid()') =~ /(\d+)/;

	$session->query("CALL make_calls('$kind', 1, $warm)");
	my @before = (memory($pid), contexts($session));
	look_at_helpers();
	$session->query("CALL make_calls('$kind', $warm + 1, $all)");
	my @after = (memory($pid), contexts($session));
	look_at_helpers();
	$session->quit;
	my @bounds = $kind eq 'administration' ? ($bound_for_administration * ($all - $warm)) x 2 : ($bound, $bound_of_contexts);
	cmp_ok($after[0] - $before[0], '<', $bounds[0], "$n calls: $kind");
	cmp_ok($after[1] - $before[1], '<', $bounds[1], "memory contexts: $kind");
	note sprintf '%s: from %d to %d kB, contexts from %d to %d kB', $kind, $before[0], $after[0], $before[1], $after[1];
}
foreach (grep { $_->{first} && $_->{last} } values %helpers)
{
	cmp_ok($_->{last} - $_->{first}, '<', $bound, 'meanwhile in the background');
	note sprintf 'from %d to %d kB', $_->{first}, $_->{last};
}
all_is_well($node, 'postgres', 'all is well');

done_testing();
