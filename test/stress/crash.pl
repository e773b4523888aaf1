# Eight clients send, receive and delete until a backend, or the whole server,
# is killed with SIGKILL, while the message log rotates.  Every acknowledged
# send must then be in the queue or have been deleted, and nothing may be
# delivered twice within its durable lease.
#
# A client is a psql that writes down what it is about to do and what was
# acknowledged; the sums are done over these notes, not over the database.

use strict;
use warnings;

use List::Util 'min';
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { CLIENTS => 8, SECONDS => 2 };

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main', 'log_statement = none',
	'restart_after_crash = on', 'pigeon.log_segment_size = 256kB',
	'pigeon.durable_leases = on');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('work', visibility_timeout => '12 h')});

# Twice as many sends as deletes, so that there is always something to lose.
append_to_file("$dir/client.sql", q{
SELECT 'sent ' || pigeon.send('work', 'one');
SELECT 'sent ' || id FROM pigeon.send_batch('work', ARRAY['two', 'three']) AS id;
SELECT max(message_id) AS id, max(receipt::text) AS receipt FROM pigeon.receive('work') \gset
\if :{?id}
\echo received :id
\echo deleting :id
SELECT 'deleted ' || :id WHERE pigeon.delete('work', :'receipt');
\endif
} x 20000);
append_to_file("$dir/maintain.sql", "CALL pigeon.maintain();\nSELECT pg_sleep(0.05);\n" x 20000);

# Starts psql with a file for input and one for output; returns its process id.
sub start_psql
{
	my ($script, $notes) = @_;
	my $connstr = $node->connstr('postgres');
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	open STDIN, '<', $script or die "could not open $script: $!";
	open STDOUT, '>>', $notes or die "could not open $notes: $!";
	open STDERR, '>', '/dev/null' or die "could not open /dev/null: $!";
	exec 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $connstr or die "could not start psql: $!";
}

# Kills under load, brings the server back, and waits for the clients' end.
sub crash
{
	my ($kill) = @_;
	my @clients = map { start_psql("$dir/client.sql", "$dir/notes.$_") } 1 .. CLIENTS;

	push @clients, start_psql("$dir/maintain.sql", '/dev/null');
	sleep SECONDS;
	$kill->();
	waitpid $_, 0 foreach @clients;
	return;
}

# Everything a note says, as note => {message_id => times}.
sub read_notes
{
	my %notes = map { $_ => {} } qw(sent received deleting deleted);

	foreach my $line (map { split /\n/, slurp_file("$dir/notes.$_") } 1 .. CLIENTS)
	{
		$notes{$1}{$2}++ if $line =~ /^(\w+) (\d+)$/;
	}
	return \%notes;
}

sub check
{
	my ($what, $before) = @_;
	my $notes = read_notes();
	my %present = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', q{
		SELECT format('SELECT message_id FROM %s', queue_table) FROM pigeon.queues \gexec});

	cmp_ok(scalar keys %{ $notes->{deleted} }, '>', $before, "$what: the clients got something done");
	is_deeply([ grep { !$present{$_} && !$notes->{deleting}{$_} } keys %{ $notes->{sent} } ],
		[], "$what: no acknowledged send is lost");
	is_deeply([ grep { $present{$_} } keys %{ $notes->{deleted} } ],
		[], "$what: no acknowledged delete is undone");
	is_deeply([ grep { $notes->{received}{$_} > 1 } keys %{ $notes->{received} } ],
		[], "$what: nothing is delivered twice within its lease");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.peek('work', 100000) WHERE body IN ('one', 'two', 'three')}),
		min(100000, scalar keys %present), "$what: every message has its body");
	all_is_well($node, 'postgres', "$what: all is well");
	return scalar keys %{ $notes->{deleted} };
}

my $deleted = 0;
foreach my $round (1 .. 2)
{
	crash(sub {
		my $victim = $node->safe_psql('postgres', q{
			SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1});
		kill 'KILL', $victim;
	});
	$node->poll_query_until('postgres', 'SELECT true');
	$deleted = check("backend killed, round $round", $deleted);

	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	crash(sub { $node->kill9 });
	sleep 1 while kill 0, $postmaster;
	$node->start;
	$deleted = check("server killed, round $round", $deleted);
}

done_testing();
