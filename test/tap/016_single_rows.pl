# Rows that are changed one at a time: what a standby makes of each of their WAL
# records is compared with the page of the primary, but for hints.

use strict;
use warnings;

use IPC::Run;
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $primary = new_server('primary', q{wal_consistency_checking = 'heap, sequence'}, 'log_statement = none',
	'pigeon.max_workers = 0');
my $sql = sub { $primary->safe_psql('postgres', $_[0]) };

$sql->(q{
	CREATE EXTENSION pigeon;
	CREATE EXTENSION amcheck;
	SELECT pigeon.create_queue('work');
	SELECT pigeon.create_queue('ordered', fifo => true);
	CREATE FUNCTION tables() RETURNS SETOF regclass LANGUAGE sql AS $$
		SELECT queue_table::regclass FROM pigeon.queues
	$$;
});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# Messages that are received and deleted, received and kept for a moment, given
# back; all that in one transaction or in two, and rolled back in part.
my %scripts = (
	send => q{
		SELECT pigeon.send('work', repeat('x', 1 + :client_id));},
	ordered => q{
		SELECT pigeon.send('ordered', 'x', group_id => :client_id::text, deduplication_id => gen_random_uuid()::text);},
	work => q{
		\set found 0
		SELECT 1 AS found, quote_literal(receipt::text) AS receipt FROM pigeon.receive(:queue) \aset
		\if :found
		SELECT pigeon.delete(:queue, :receipt);
		\endif},
	keep => q{
		SELECT count(*) FROM pigeon.receive(:queue, 2, '1 ms');},
	give_back => q{
		SELECT count(pigeon.change_visibility(:queue, receipt, '0')) FROM pigeon.receive(:queue, 2);},
	together => q{
		SELECT count(pigeon.delete(:queue, receipt)) FROM pigeon.receive(:queue, 3);},
	roll_back => q{
		BEGIN;
		SELECT count(*) FROM pigeon.receive(:queue, 2);
		SAVEPOINT s;
		SELECT count(*) FROM pigeon.pop(:queue, 2);
		ROLLBACK TO s;
		SELECT count(pigeon.change_visibility(:queue, receipt, '0')) FROM pigeon.receive(:queue, 1);
		RELEASE s;
		SELECT count(*) FROM pigeon.pop(:queue);
		COMMIT;});
my %files;
foreach my $name (keys %scripts)
{
	foreach my $queue ($scripts{$name} =~ /:queue/ ? ('work', 'ordered') : (''))
	{
		my $file = "$dir/$name$queue.sql";
		(my $script = $scripts{$name}) =~ s/:queue/'$queue'/g;
		append_to_file($file, $script);
		$files{$file} = $name eq 'send' || $name eq 'ordered' ? 6 : 1;
	}
}

sub check
{
	my ($node, $what) = @_;

	is($node->safe_psql('postgres', q{
		SELECT count(bt_index_check(indexrelid, true)) FROM tables() AS name, pg_index WHERE indrelid = name}),
		'4', "$what: every index is complete");
	return;
}

for (1 .. 2)
{
	$primary->command_ok([ 'pgbench', '-n', '-c', 8, '-t', 250,
		(map { ('-f', "$_\@$files{$_}") } sort keys %files), 'postgres' ], 'clients send and receive single messages');
	$sql->('CHECKPOINT');
}
$primary->wait_for_catchup($standby);
check($primary, 'primary');
check($standby, 'standby');
my $all = q{
	SELECT md5(string_agg(q || ':' || m, ',' ORDER BY q, m)) FROM (
		SELECT queue AS q, message_id || ' ' || receive_count || ' ' || coalesce(visible_at::text, '') AS m
		FROM pigeon.queues, pigeon.peek(queue, 100000)) AS messages};
is($standby->safe_psql('postgres', $all), $sql->($all), 'the standby has the same messages');
cmp_ok($sql->(q{SELECT sum((SELECT count(*) FROM pigeon.peek(queue, 100000))) FROM pigeon.queues}), '>', 0, 'there are some');
$primary->stop('immediate');
$primary->start;
check($primary, 'after a crash');

# Indexes on what a receive changes come and go meanwhile: a change that does not
# look for anything in an index must know of them all the same.
append_to_file("$dir/index.sql", q{
	CREATE INDEX CONCURRENTLY more ON pigeon.q_1 (received_at);
	REINDEX INDEX CONCURRENTLY pigeon.more;
	SELECT bt_index_check('pigeon.more', true);
	DROP INDEX CONCURRENTLY pigeon.more;});
my $host = $primary->host;
my $port = $primary->port;
my $clients = IPC::Run::start([ 'pgbench', '-n', '-h', $host, '-p', $port, '-c', 4, '-t', 2000,
	(map { ('-f', "$_\@$files{$_}") } grep { /work|send/ } sort keys %files), 'postgres' ],
	'>', "$dir/clients.log", '2>&1');
$primary->command_ok([ 'pgbench', '-n', '-c', 1, '-t', 8, '-f', "$dir/index.sql", 'postgres' ],
	'an index is built, rebuilt and whole while rows change');
ok($clients->finish, 'clients go on meanwhile') or diag(slurp_file("$dir/clients.log"));
check($primary, 'after that');
all_is_well($primary, 'postgres', 'all is well in the end');

done_testing();
