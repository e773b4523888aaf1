# Batches that several clients send and receive at once: their entries in indexes
# survive a crash, and a standby has the same.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $primary = new_server('primary', 'max_connections = 40', 'max_wal_size = 4GB', 'log_statement = none', 'pigeon.max_workers = 0');
my $sql = sub { $primary->safe_psql('postgres', $_[0]) };

$sql->(q{
	CREATE EXTENSION pigeon;
	CREATE EXTENSION amcheck;
	SELECT pigeon.create_queue('work');
	SELECT pigeon.create_queue('ordered', fifo => true);
	CREATE FUNCTION tables() RETURNS SETOF regclass LANGUAGE sql AS $$
		SELECT queue_table::regclass FROM pigeon.queues
	$$;
	CREATE TABLE sent (message_id bigint);
	CREATE TABLE taken (message_id bigint);
});
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

# What a server must be able to say: every index is in order and has an entry
# for each row, and the rows are those of the batches that were acknowledged.
sub check
{
	my ($node, $what) = @_;

	is($node->safe_psql('postgres', q{
		SELECT count(bt_index_check(indexrelid, true)) FROM tables() AS name, pg_index WHERE indrelid = name}),
		'4', "$what: every index is complete");
	is($node->safe_psql('postgres', q{
		WITH kept AS MATERIALIZED (TABLE taken UNION ALL SELECT message_id FROM pigeon.queues, pigeon.peek(queue, 100000))
		(TABLE sent EXCEPT ALL TABLE kept) UNION ALL (TABLE kept EXCEPT ALL TABLE sent)}),
		'', "$what: every message is there, or was taken");
	return;
}

# Eight clients; delays and leases of all lengths put some batches between
# others, receivers leave dead entries behind, some batches are rolled back.
sub run_clients
{
	my %scripts = (
		send => q{
			\set n random(1, 60)
			\set delay random(0, 3)
			INSERT INTO sent SELECT pigeon.send_batch('work', array_fill('x'::text, ARRAY[:n]), delay => :delay * interval '1 h');},
		groups => q{
			\set n random(1, 60)
			INSERT INTO sent SELECT pigeon.send_batch('ordered', array_fill('y'::text, ARRAY[:n]),
				group_ids => ARRAY(SELECT (i * :client_id % 20)::text FROM generate_series(1, :n) AS i),
				deduplication_ids => ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, :n)));},
		take => q{
			INSERT INTO taken SELECT message_id FROM pigeon.pop('work', 50);},
		lease => q{
			\set n random(1, 100)
			\set timeout random(0, 2000)
			INSERT INTO taken SELECT id FROM (
				SELECT array_agg(message_id) AS ids, pigeon.delete('work', array_agg(receipt)) AS answers
				FROM pigeon.receive('work', :n, :timeout * interval '1 ms') WHERE message_id % 3 = 0) AS received,
				unnest(ids, answers) AS answer (id, deleted) WHERE deleted;},
		give_up => q{
			BEGIN;
			SELECT count(*) FROM pigeon.receive('work', 60, '1 hour');
			ROLLBACK;},
		roll_back => q{
			BEGIN;
			SELECT count(*) FROM pigeon.send_batch('work', array_fill('never'::text, ARRAY[40]));
			ROLLBACK;});
	my %weights = (send => 6, groups => 2, take => 1, lease => 4, give_up => 1, roll_back => 1);

	append_to_file("$dir/$_.sql", $scripts{$_}) foreach keys %scripts;
	$primary->command_ok([ 'pgbench', '-n', '-c', 8, '-t', 90, '-d', 'postgres',
		map { ('-f', "$dir/$_.sql\@$weights{$_}") } sort keys %scripts ], 'clients send and receive batches');
	unlink map { "$dir/$_.sql" } keys %scripts;
	return;
}

run_clients();
check($primary, 'primary');
# From here on pages are not logged whole, so that every record has to be replayed.
$sql->('CHECKPOINT');
run_clients();
run_clients();
$primary->wait_for_catchup($standby);
check($standby, 'standby');

$primary->stop('immediate');
$primary->start;
check($primary, 'after a crash');
$standby->promote;
check($standby, 'promoted');
$standby->safe_psql('postgres', q{INSERT INTO sent SELECT pigeon.send_batch('work', array_fill('x'::text, ARRAY[1000]))});
check($standby, 'promoted, later');
all_is_well($standby, 'postgres', 'all is well in the end');

done_testing();
