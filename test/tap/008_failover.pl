# A primary with a synchronous standby is killed under load and the standby
# promoted: no acknowledged message is lost, nothing is delivered twice within a
# durable lease, worker and wake-ups are there, and the old primary can be
# rewound and follow.

use strict;
use warnings;

use File::Basename;
use IPC::Run ();
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_server('primary', 'max_connections = 60', 'max_prepared_transactions = 30', 'wal_log_hints = on',
	'wal_keep_size = 1GB', 'log_statement = none', 'pigeon.log_segment_size = 1MB', 'deadlock_timeout = 200ms',
	'log_min_error_statement = panic');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', 'CREATE EXTENSION pigeon');
$primary->append_conf('postgresql.conf', "synchronous_standby_names = 'standby'");
$primary->reload;
ok($primary->poll_query_until('postgres', q{SELECT sync_state = 'sync' FROM pg_stat_replication}),
	'the standby is synchronous');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pigeon%'}),
	'0', 'it has no worker');

# The clients of the fault harness go to whoever takes writes.
my ($stdout, $stderr) = ('', '');
my $clients;
{
	local %ENV = (%ENV,
		PGHOST => join(',', $primary->host, $standby->host),
		PGPORT => join(',', $primary->port, $standby->port),
		PGDATABASE => 'postgres',
		PGTARGETSESSIONATTRS => 'read-write');
	$clients = IPC::Run::start(
		[ debian_python(), '-B', dirname(__FILE__) . '/../stress/faults', '--seconds', 12, '--clients', 6 ],
		'>', \$stdout, '2>', \$stderr);
}
ok($primary->poll_query_until('postgres', q{SELECT to_regclass('effect') IS NOT NULL}), 'clients are at it');
sleep 5;
$primary->kill9;
$standby->promote;
$clients->finish;
unlike($stderr, qr/Traceback/, 'the clients went on with the new primary');
like($stdout, qr/^[1-9]\d* passed, 0 failed$/m, 'every promise was kept') or diag $stdout;
note $stdout;

# Worker and wake-ups on the new primary.
my $new = sub { $standby->safe_psql('postgres', $_[0]) };
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pigeon launcher'}), 'there is a launcher');
$new->(q{SELECT pigeon.create_queue('d');
	SELECT pigeon.create_queue('q', visibility_timeout => '1 h', dead_letter_queue => 'd', max_receive_count => 1);
	SELECT pigeon.send('q', 'poison');
	SELECT pigeon.receive('q', visibility_timeout => '0')});
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pigeon.peek('d')}), 'the worker moves dead letters');
my $waiter = $standby->background_psql('postgres');
$waiter->query_until(qr/waiting/, qq{\\echo waiting
	SELECT body FROM pigeon.receive('q', wait_time => '600 s');\n});
ok($standby->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event IN ('Extension', 'PigeonWaitForMessage')
			AND backend_type = 'client backend'}), 'somebody waits');
$new->(q{SELECT pigeon.send('q', 'wake up')});
like($waiter->query('SELECT 1'), qr/wake up/, 'and is woken');
$waiter->quit;

# The old primary comes back as a standby.
my $data = $primary->data_dir;
my $conf = slurp_file("$data/postgresql.conf");
my ($pid) = slurp_file("$data/postmaster.pid") =~ /^(\d+)/;
sleep 1 while kill 0, $pid;
$new->('CHECKPOINT');
command_ok([ 'pg_rewind', '--target-pgdata', $data, '--source-server', $standby->connstr('postgres'), '--no-sync' ],
	'pg_rewind');
unlink "$data/postgresql.conf";
append_to_file("$data/postgresql.conf", $conf . "synchronous_standby_names = ''\n");
$primary->enable_streaming($standby);
$primary->start;
$new->(q{SELECT pigeon.send('q', 'after the failover')});
$standby->wait_for_catchup($primary);
is(state($primary, 'postgres'), state($standby, 'postgres'), 'the old primary follows');
is($primary->safe_psql('postgres', q{SELECT pg_is_in_recovery()}), 't', 'as a standby');

# Without its synchronous standby a server takes leases, whose commit waits for
# nobody, and acknowledges no message.
$standby->append_conf('postgresql.conf', "synchronous_standby_names = 'primary'");
$standby->reload;
$standby->poll_query_until('postgres', q{SELECT sync_state = 'sync' FROM pg_stat_replication}) or die 'it is not synchronous';
$new->(q{SELECT pigeon.purge_queue('q'); SELECT pigeon.send('q', 'one'); SELECT pigeon.send('q', 'two')});
$primary->stop;
is($new->(q{SELECT body FROM pigeon.receive('q', 1, '1 h')}), 'one', 'a receive does not wait for the standby');
my @sessions;
foreach my $call (q{pigeon.send('q', 'three')}, q{pigeon.receive('q', 1, '1 h')})
{
	my $session = $standby->background_psql('postgres', on_error_stop => 0);

	$session->query_until(qr/calling/, "SET pigeon.durable_leases = on;\n\\echo calling\nSELECT $call;\n");
	push @sessions, $session;
	ok($standby->poll_query_until('postgres',
			'SELECT count(*) = ' . @sessions . q{ FROM pg_stat_activity WHERE wait_event = 'SyncRep'}),
		"with durable leases it does: $call");
}

# So that lease is not known after the next failover, and costs a redelivery.
$standby->kill9;
$_->{run}->kill_kill foreach @sessions;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = ''");
$primary->start;
$primary->promote;
is($primary->safe_psql('postgres', q{SELECT body, receive_count FROM pigeon.receive('q', 10) ORDER BY message_id}),
	"one|1\ntwo|1", 'a lease lost in a failover is a redelivery');
all_is_well($primary, 'postgres', 'all is well');

done_testing();
