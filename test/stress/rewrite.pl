# While clients send and others move messages on, exactly once, in a database
# whose default isolation is serializable, the tables under them are vacuumed,
# rewritten, clustered and reindexed.  Nobody may fail, nothing may be lost.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant { SENDERS => 3, SENDS => 1000, MOVERS => 3 };

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main', 'max_connections = 50');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE SEQUENCE number;
	SELECT pigeon.create_queue('work', visibility_timeout => '1 h');
	SELECT pigeon.create_queue('done');
	ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'});
my ($work, $done) = split /\n/,
  $node->safe_psql('postgres', q{SELECT queue_table FROM pigeon.queues ORDER BY queue DESC});

append_to_file("$dir/send.sql", q{SELECT pigeon.send('work', nextval('number')::text);});
append_to_file("$dir/move.sql", q{
BEGIN;
SELECT pigeon.send('done', body), pigeon.delete('work', receipt) FROM pigeon.receive('work', 5);
COMMIT;
});

# Starts pgbench; returns its process id.
sub start_pgbench
{
	my ($output, @options) = @_;
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	open STDOUT, '>', $output or die "could not open $output: $!";
	open STDERR, '>&', \*STDOUT or die "could not redirect: $!";
	exec 'pgbench', '-n', @options, $node->connstr('postgres') or die "could not start pgbench: $!";
}

my $senders = start_pgbench("$dir/send.out", '-f', "$dir/send.sql", '-c', SENDERS, '-t', SENDS, '-R', 250);
my $movers = start_pgbench("$dir/move.out", '-f', "$dir/move.sql", '-c', MOVERS, '-T', 15);

# Everything else, over and over, until all is sent.
my @commands;
foreach my $table ($work, $done)
{
	my ($name) = $table =~ /(\w+)$/;

	push @commands, "VACUUM $table", "VACUUM FULL $table", "REINDEX TABLE $table",
	  "REINDEX TABLE CONCURRENTLY $table", "CLUSTER $table USING ${name}_pkey", "ANALYZE $table";
}
push @commands, "VACUUM pigeon.log_$_", "VACUUM FULL pigeon.log_$_", "REINDEX TABLE CONCURRENTLY pigeon.log_$_" foreach 0, 1, 'old';
push @commands,
	'VACUUM FULL pigeon.queue', 'ALTER EXTENSION pigeon UPDATE', 'CALL pigeon.maintain()',
	q{BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE pigeon.log_state SET current_since = '2000-01-01'; COMMIT},
	q{SELECT pigeon.alter_queue('work', visibility_timeout => '2 h')};
my $rounds = 0;
my @failures;
while (waitpid($senders, 1) == 0)
{
	foreach my $command (@commands)
	{
		my ($stdout, $stderr);
		push @failures, "$command: $stderr"
		  if $node->psql('postgres', $command, stdout => \$stdout, stderr => \$stderr) != 0;
	}
	$rounds++;
}
my $send_status = $?;
is($send_status, 0, 'every send succeeded') or diag slurp_file("$dir/send.out");
waitpid $movers, 0;
is($?, 0, 'every move succeeded') or diag slurp_file("$dir/move.out");
cmp_ok($rounds, '>', 0, "the tables were rewritten $rounds times");
is_deeply(\@failures, [], 'no command on the tables failed');

is($node->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT body), min(body::integer), max(body::integer) FROM (
			SELECT body FROM pigeon.peek('work', 100000) UNION ALL SELECT body FROM pigeon.peek('done', 100000)) AS m}),
	join('|', (SENDERS * SENDS) x 2, 1, SENDERS * SENDS), 'every message is there, once');
isnt($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.peek('done', 100000)}), '0', 'and some were moved');
all_is_well($node, 'postgres', 'all is well');

done_testing();
