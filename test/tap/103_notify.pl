# NOTIFY for queues that want it: sent by the worker or by maintain(), never
# by a sender, coalesced.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = new_server('main', q{pigeon.notify_interval = '1s'});
my $received = '';

sub sql { return $node->safe_psql('postgres', $_[0]) }

# A session that listens; how many notifications it got until now.
my $listener;

sub listen_to
{
	my ($channel) = @_;

	$listener = $node->background_psql('postgres');
	$listener->query(qq{LISTEN "$channel"});
	$received = '';
	return;
}

sub count_notifications
{
	$received .= $listener->query(q{SELECT 'polled'}) // '';
	my $n = () = $received =~ /Asynchronous notification/g;
	return $n;
}

sub wait_for_notifications
{
	my ($n, $name) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	sleep 0.1 while count_notifications() < $n && time < $deadline;
	cmp_ok(count_notifications(), '>=', $n, $name);
	return;
}

sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('Orders', notify => true);
	SELECT pigeon.create_queue('silent')});

# The first at once, then one per second however many messages there are.
listen_to('pigeon.Orders');
my $begun = time;
foreach (1 .. 40)
{
	sql(q{SELECT pigeon.send('Orders', 'x')});
	sleep 0.05;
}
wait_for_notifications(2, 'sends are notified');
like($received, qr/Asynchronous notification "pigeon.Orders" with payload "Orders"/, 'channel and payload');
my $seconds = time - $begun;
cmp_ok(count_notifications(), '<=', $seconds + 2, 'at most one per interval');
$listener->quit;

# Nothing for a rollback, or for what nobody can receive; one when it falls due.
sql(q{SELECT pigeon.purge_queue('Orders')});
sleep 2.5;
listen_to('pigeon.Orders');
sql(q{BEGIN; SELECT pigeon.send('Orders', 'x'); ROLLBACK});
sql(q{SELECT pigeon.send('Orders', 'delayed', delay => '10 s')});
sleep 1.5;
is(count_notifications(), 0, 'a rollback and a delayed message are not notified');
wait_for_notifications(1, 'the delayed one is when it falls due');
sql(q{SELECT pigeon.purge_queue('Orders')});
sleep 1.5;
my $before = count_notifications();
sql(q{BEGIN; SELECT pigeon.send('Orders', 'x'); SELECT pigeon.receive('Orders', visibility_timeout => '3 s'); COMMIT});
wait_for_notifications($before + 1, 'so is a lease that ends');

# What was there before is notified from the alteration on; the worker has looked at the queue before.
sql(q{SELECT pigeon.create_queue('Later') \g /dev/null
	SELECT pigeon.send('Later', 'x', delay => '5 s')});
sleep 2.5;
$listener->query(q{LISTEN "pigeon.Later"});
sql(q{SELECT pigeon.alter_queue('Later', notify => true)});
my $patience = 10 * $PostgreSQL::Test::Utils::timeout_default;
sleep 0.1 while count_notifications() >= 0 && $received !~ /notification "pigeon.Later"/ && $patience-- > 0;
ok($patience > 0, 'a message that was there before the alteration is notified');
like($received, qr/notification "pigeon.Later"/, 'in its channel');

# A FIFO queue: once for a message that stays there, and for one that was sent while the message before was deleted.
sql(q{SELECT pigeon.purge_queue('Orders'), pigeon.purge_queue('Later');
	SELECT pigeon.create_queue('Fifo', fifo => true, content_based_deduplication => true, notify => true)});
$listener->query(q{LISTEN "pigeon.Fifo"});
sleep 2;
$before = count_notifications();
sql(q{SELECT pigeon.send('Fifo', 'x', group_id => 'g')});
wait_for_notifications($before + 1, 'a FIFO queue is notified');
sleep 4;
is(count_notifications(), $before + 1, 'once');
my $holder = $node->background_psql('postgres');
$holder->query(q{BEGIN; SELECT body FROM pigeon.pop('Fifo')});
sql(q{SELECT pigeon.send('Fifo', 'meanwhile', group_id => 'g')});
sleep 2;
is(count_notifications(), $before + 1, 'not for what nobody can receive yet');
$holder->query(q{COMMIT});
$holder->quit;
wait_for_notifications($before + 2, 'but when the message before is gone');

# A prepared transaction; nothing else is there to be notified.
sql(q{SELECT pigeon.purge_queue('Fifo')});
sleep 2;
$before = count_notifications();
sql(q{BEGIN; SELECT pigeon.send('Orders', 'x'); PREPARE TRANSACTION 'p'});
sql(q{COMMIT PREPARED 'p'});
wait_for_notifications($before + 1, 'COMMIT PREPARED is notified');

# Within the interval commits do not wake the worker, one by one, in vain.
SKIP:
{
	my $worker = q{pg_stat_activity WHERE backend_type LIKE 'pigeon worker%' AND datname = 'postgres'};
	sql(q{SELECT pigeon.send('Orders', 'x')});
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM $worker"), 'a send starts the worker');
	my $pid = sql("SELECT pid FROM $worker");
	my $switches = sub {
		my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
		return $n;
	};

	skip 'the system does not count how often a process sleeps', 1 if !-r "/proc/$pid/status";
	my $slept = $switches->();
	$node->pgbench('--no-vacuum --client=2 --transactions=1000', 0, [qr/2000\/2000/], [], 'many sends',
		{ '103_sends' => q{SELECT pigeon.send('Orders', 'x');} });
	cmp_ok($switches->() - $slept, '<', 500, 'the worker sleeps meanwhile');
}

# Without shared memory maintain() notifies; the sender never does.
$listener->quit;
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
listen_to('pigeon.Orders');
sql(q{SELECT pigeon.purge_queue('Orders')});
sql(q{CALL pigeon.maintain()});
is(count_notifications(), 0, 'maintain() does not notify without messages');
sql(q{SELECT pigeon.send('Orders', 'x'); SELECT pigeon.send('silent', 'x')});
is(count_notifications(), 0, 'a sender does not notify');
sql(q{CALL pigeon.maintain()});
wait_for_notifications(1, 'maintain() notifies');
is(sql(q{SELECT sent IS NULL, visible FROM pigeon.queue_metrics WHERE queue = 'Orders'}), 't|1',
	'without shared memory there are no counters, but the rest');
$listener->quit;

# With it, but without a worker, maintain() does so too; what it undoes it does again.
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'pigeon'
pigeon.max_workers = 0
pigeon.notify_interval = 0});
$node->restart;
listen_to('pigeon.Orders');
sql(q{SELECT pigeon.send('Orders', 'x')});
sql(q{BEGIN; CALL pigeon.maintain(); ROLLBACK});
is(count_notifications(), 0, 'maintain() that is rolled back does not notify');
sql(q{CALL pigeon.maintain()});
wait_for_notifications(1, 'the next one does');
$listener->quit;

$node->stop;
done_testing();
