# Point-in-time recovery brings queues and business tables to the same moment,
# also to one whose messages have been deleted and truncated since.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main', 'log_statement = none', 'pigeon.log_segment_size = 64kB');
$node->enable_archiving;
$node->restart;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE TABLE purchase (id bigint PRIMARY KEY, message_id bigint, shipped boolean NOT NULL DEFAULT false);
	CREATE SEQUENCE number;
	SELECT pigeon.create_queue('orders');
	SELECT pigeon.create_queue('groups', fifo => true, content_based_deduplication => true)});
$node->backup('backup');

# More is ordered than shipped; the log rotates meanwhile.
append_to_file("$dir/order.sql", q{
	BEGIN;
	SELECT nextval('number') AS id \gset
	INSERT INTO purchase SELECT :id, pigeon.send('orders', :id::text || repeat('.', 200));
	SELECT pigeon.send('groups', :id::text, group_id => (:id % 7)::text);
	COMMIT;});
append_to_file("$dir/ship.sql", q{
	DO $$
	DECLARE
		m record;
	BEGIN
		FOR m IN SELECT * FROM pigeon.receive('orders') LOOP
			UPDATE purchase SET shipped = true WHERE message_id = m.message_id;
			PERFORM pigeon.delete('orders', m.receipt);
		END LOOP;
	END $$;});
append_to_file("$dir/maintain.sql", "CALL pigeon.maintain();\n\\sleep 50 ms\n");
my @load = ('pgbench', '-n', '-c6', '-j2', '-T4', '-f', "$dir/order.sql\@4", '-f', "$dir/ship.sql\@2", '-f',
	"$dir/maintain.sql\@1", $node->connstr('postgres'));
my $load = IPC::Run::start(\@load, '>', \my $stdout, '2>', \my $stderr);
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM purchase WHERE shipped}) or die 'nothing is shipped';
my $moment = $node->safe_psql('postgres', q{SELECT clock_timestamp()});
ok($load->finish, 'orders came and went') or diag $stderr;
$node->safe_psql('postgres', q{INSERT INTO purchase SELECT nextval('number'), pigeon.send('orders', 'after the moment')});

# What the moment needs is then removed.
$node->safe_psql('postgres', q{
	SELECT pigeon.purge_queue('orders');
	SELECT pigeon.drop_queue('groups');
	UPDATE pigeon.log_state SET current_since = '2000-01-01'});
ok($node->poll_query_until('postgres', q{
	CALL pigeon.maintain();
	SELECT sum(pg_relation_size(oid)) = 0 FROM pg_class WHERE relname ~ '^log_[0-9]$'}, "CALL\nt"), 'the log is emptied');
my $orders = $node->safe_psql('postgres', q{SELECT count(*) FROM purchase});
my $wal = $node->safe_psql('postgres', q{SELECT pg_walfile_name(pg_current_wal_lsn())});
$node->safe_psql('postgres', q{SELECT pg_switch_wal()});
$node->poll_query_until('postgres', qq{SELECT last_archived_wal >= '$wal' FROM pg_stat_archiver}) or die 'not archived';

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($node, 'backup', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', qq{
	recovery_target_time = '$moment'
	recovery_target_action = 'promote'
	archive_mode = off});
$restored->start;
ok($restored->poll_query_until('postgres', q{SELECT NOT pg_is_in_recovery()}), 'recovered');
my $sql = sub { $restored->safe_psql('postgres', $_[0]) };

all_is_well($restored, 'postgres', 'all is well');
cmp_ok($sql->(q{SELECT count(*) FROM purchase}), '<', $orders, 'to an earlier moment');
cmp_ok($sql->(q{SELECT count(*) FROM purchase WHERE shipped}), '>', 0, 'when some had been shipped');
is($sql->(q{SELECT count(*) FROM purchase p FULL JOIN pigeon.peek('orders', 100000) m USING (message_id)
		WHERE p.id IS NULL OR p.shipped <> (m.message_id IS NULL) OR m.body <> p.id || repeat('.', 200)}),
	'0', 'every order was shipped or is in the queue');
is($sql->(q{SELECT count(*) FROM purchase p FULL JOIN pigeon.peek('groups', 100000) m ON m.body = p.id::text
		WHERE p.id IS NULL OR m.message_id IS NULL}),
	'0', 'every order is in the FIFO queue');

# And life goes on.
isnt($sql->(q{SELECT count(*) FROM pigeon.pop('orders', 10)}), '0', 'messages are received');
cmp_ok($sql->(q{SELECT pigeon.send('orders', 'new')}), '>', $sql->(q{SELECT max(message_id) FROM purchase}),
	'message_id goes on');

done_testing();
