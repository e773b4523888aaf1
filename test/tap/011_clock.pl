# The clock is set an hour forward, back again, and another hour back.
# No message is lost or stuck; what is due later or sooner is just that.

use strict;
use warnings;

use PigeonClock;
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server_with_clock('main', 'log_statement = none', "pigeon.notify_interval = '1s'");
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('q', visibility_timeout => '10 min', notify => true, dead_letter_queue => 'dead', max_receive_count => 3);
	SELECT pigeon.create_queue('f', visibility_timeout => '10 min', fifo => true, content_based_deduplication => true);
	SELECT pigeon.send('q', 'delayed', delay => '50 min');
	SELECT pigeon.send('q', 'leased');
	SELECT pigeon.send('f', 'leased', group_id => 'g'); SELECT pigeon.send('f', 'next', group_id => 'g')});
is(sql(q{SELECT body FROM pigeon.receive('q', 10)}), 'leased', 'received');
is(sql(q{SELECT body FROM pigeon.receive('f')}), 'leased', 'received from a FIFO queue');
my $start = sql(q{SELECT now()});

create_busy_queue($node);

# Forward: timeouts end.
set_clock(3600);
is(sql(qq{SELECT now() - '$start' > '59 min'}), 't', 'an hour forward');
is(sql(q{SELECT body, receive_count FROM pigeon.receive('q', 10) ORDER BY message_id}), "delayed|1\nleased|2",
	'a delay and a lease have ended');
is(sql(q{SELECT body, receive_count FROM pigeon.receive('f', 10) ORDER BY message_id}), "leased|2\nnext|1",
	'and that of a group');
sql(q{SELECT pigeon.send('q', 'sent in the future'); SELECT pigeon.send('f', 'sent in the future', group_id => 'h')});
is(sql(q{SELECT body FROM pigeon.pop('q', 10)}), 'sent in the future', 'what is sent then is received');
is(sql(q{SELECT pigeon.delete('f', receipt) FROM pigeon.receive('f')}), 't', 'in order');
is_vacuumed($node, 1, 'a busy queue is vacuumed');

# Back: what became due in the future waits for it.  What is sent is received,
# though the frontier is an hour ahead, and waiters, worker and notifications do
# not wait for that hour.
my $listener = $node->background_psql('postgres');
$listener->query('LISTEN "pigeon.q"');
set_clock(0);
is(sql(qq{SELECT now() - '$start' < '30 min'}), 't', 'back again');
is(sql(q{SELECT count(*) FROM pigeon.receive('q', 10)}), '0', 'leases of the future last');
all_is_well($node, 'postgres', 'all is well');
set_clock(-3600);
is(sql(qq{SELECT '$start' - now() > '59 min'}), 't', 'an hour back');
all_is_well($node, 'postgres', 'all is still well');
is(sql(q{SELECT pigeon.send('q', 'sent in the past') \g /dev/null
	SELECT body FROM pigeon.receive('q', 10)}), 'sent in the past', 'what is sent is received');
is(sql(q{SELECT pigeon.send('f', 'sent in the past', group_id => 'i') \g /dev/null
	SELECT body FROM pigeon.receive('f', 10)}), 'sent in the past', 'from a FIFO queue too');
my $waiter = $node->background_psql('postgres');
$waiter->query_until(qr/waiting/, qq{\\echo waiting
	SELECT body FROM pigeon.receive('q', wait_time => '60 s');\n});
ok($node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event IN ('Extension', 'PigeonWaitForMessage')
			AND backend_type = 'client backend'}), 'somebody waits');
sql(q{SELECT pigeon.send('q', 'wake up')});
like($waiter->query('SELECT 1'), qr/wake up/, 'a waiter is woken');
$waiter->quit;
sql(q{SELECT pigeon.send('q', 'tell me')});
my $notified = '';
for (my $try = 0; $try < 10 * $PostgreSQL::Test::Utils::timeout_default && !$notified; $try++)
{
	$notified = $listener->query(q{SELECT pg_sleep(0.1)}) =~ /Asynchronous notification "pigeon.q"/;
}
ok($notified, 'a listener is notified');
$listener->quit;
sql(q{SELECT pigeon.alter_queue('q', max_receive_count => 1); SELECT pigeon.purge_queue('q');
	SELECT pigeon.send('q', 'poison'); SELECT pigeon.receive('q', visibility_timeout => '0')});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'poison'}),
	'the worker moves dead letters');
is_vacuumed($node, 2, 'and vacuums a busy queue');

# When the time has come, everything is there.
set_clock(7200);
is(sql(q{SELECT string_agg(body, ', ' ORDER BY message_id) FROM pigeon.pop('f', 10)}),
	'leased, next, sent in the past', 'nothing is lost');
all_is_well($node, 'postgres', 'all is well in the end');

done_testing();
