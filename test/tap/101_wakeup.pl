# Who waits for messages is woken by commits and by the clock, not by polling.
#
# pigeon.poll_interval is a minute, so that a wait that ends within seconds was
# not ended by polling; no assertion is about less than that.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', q{pigeon.poll_interval = '1min'});

sub sql { return $node->safe_psql('postgres', $_[0]) }

# How many waited to the end of their time.
my $not_woken = 0;

# A session with a statement under way.
sub start
{
	my ($statement) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->{timeout}->start($PostgreSQL::Test::Utils::timeout_default);
	$session->{stdin} .= "$statement;\n\\echo finished\n";
	$session->{run}->pump_nb;
	$session->{begun} = time;
	return $session;
}

# What the statement returned, and not at the end of its wait of 50 s; ends the session.
sub finish
{
	my ($session) = @_;

	$session->{run}->pump until $session->{stdout} =~ /^finished$/m || $session->{timeout}->is_expired;
	$not_woken++ if time - $session->{begun} > 45;
	my $output = $session->{stdout};
	$output =~ s/^finished\n//m;
	chomp $output;
	$session->quit;
	return $output;
}

# Waits until so many sessions sleep for messages.
sub wait_for_waiters
{
	my ($n) = @_;

	$node->poll_query_until('postgres', qq{
		SELECT count(*) = $n FROM pg_stat_activity
		WHERE wait_event_type = 'Extension' AND backend_type = 'client backend' AND pid <> pg_backend_pid()})
	  or die 'no waiters';
	return;
}

sub receive { return start(qq{SELECT body FROM pigeon.receive('$_[0]', wait_time => '50 s')}) }

sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead', visibility_timeout => '1 h');
	SELECT pigeon.create_queue('q', visibility_timeout => '1 h', dead_letter_queue => 'dead', max_receive_count => 5)});

# Sends.
my $waiter = receive('q');
wait_for_waiters(1);
is(sql(q{BEGIN; SELECT pigeon.send('q', 'never') \g /dev/null
	ROLLBACK; SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Extension'
		AND backend_type = 'client backend'}), '1', 'a rollback wakes nobody');
sql(q{BEGIN; SAVEPOINT s; SELECT pigeon.send('q', 'rolled back'); ROLLBACK TO s; COMMIT});
wait_for_waiters(1);
sql(q{BEGIN; SAVEPOINT s; SELECT pigeon.send('q', 'released'); RELEASE s; COMMIT});
is(finish($waiter), 'released', 'a send in a released savepoint wakes');

$waiter = receive('q');
wait_for_waiters(1);
sql(q{BEGIN; SELECT pigeon.send('q', 'prepared'); PREPARE TRANSACTION 'p'});
wait_for_waiters(1);
sql(q{COMMIT PREPARED 'p'});
is(finish($waiter), 'prepared', 'COMMIT PREPARED wakes');

# As many as there are messages, each exactly one.
my @waiters = map { receive('q') } 1 .. 5;
wait_for_waiters(5);
sql(q{SELECT pigeon.send_batch('q', ARRAY['m1', 'm2', 'm3'])});

wait_for_waiters(2);
sql(q{SELECT pigeon.send_batch('q', ARRAY['m4', 'm5'])});
is(join(',', sort map { finish($_) } @waiters), 'm1,m2,m3,m4,m5', 'n messages wake n waiters');

# Others that make messages available.
$waiter = receive('q');
wait_for_waiters(1);
sql(q{SELECT pigeon.send('q', 'delayed', delay => '2 s')});
is(finish($waiter), 'delayed', 'a message that falls due wakes');

sql(q{SELECT pigeon.send('q', 'leased'); SELECT pigeon.receive('q', visibility_timeout => '2 s')});
$waiter = receive('q');
is(finish($waiter), 'leased', 'a lease that was there ends');

$waiter = receive('q');
wait_for_waiters(1);
sql(q{BEGIN; SELECT pigeon.send('q', 'lease'); SELECT pigeon.receive('q', visibility_timeout => '2 s'); COMMIT});
is(finish($waiter), 'lease', 'a lease given meanwhile ends');

sql(q{SELECT pigeon.send('q', 'extended', delay => '5 min')});
$waiter = receive('q');
wait_for_waiters(1);
sql(q{SELECT pigeon.send('q', 'earlier', delay => '1 s')});
is(finish($waiter), 'earlier', 'the watch learns of an earlier time');
sql(q{SELECT pigeon.purge_queue('q')});

my $receipt = sql(q{SELECT pigeon.send('q', 'given back') \g /dev/null
	SELECT receipt FROM pigeon.receive('q', visibility_timeout => '1 h')});
$waiter = receive('q');
wait_for_waiters(1);
sql(qq{SELECT pigeon.change_visibility('q', '$receipt', '0')});
is(finish($waiter), 'given back', 'change_visibility to zero wakes');

sql(q{SELECT pigeon.send('q', 'rolled back')});
my $holder = $node->background_psql('postgres');
$holder->query(q{BEGIN; SELECT body FROM pigeon.receive('q')});
$waiter = receive('q');
wait_for_waiters(1);
$holder->query(q{ROLLBACK});
is(finish($waiter), 'rolled back', 'the rollback of a receive wakes');

# A receive attempt that waits keeps no lock.
sql(q{SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true)});
$waiter = start(q{SELECT body FROM pigeon.receive('fifo', wait_time => '50 s', receive_attempt_id => 'a')});
wait_for_waiters(1);
is(sql(q{SELECT count(*) FROM pg_locks JOIN pigeon.queues ON relation = queue_table JOIN pg_stat_activity USING (pid)
	WHERE pigeon.queues.queue = 'fifo' AND backend_type = 'client backend'}), '0', 'an attempt that waits keeps no lock');
sql(q{SELECT pigeon.send('fifo', 'attempted', group_id => 'g')});
is(finish($waiter), 'attempted', 'and is woken');

# In a FIFO queue: what makes the next message of a group available; a lease that was extended while somebody waits.
sub take_fifo { return sql(qq{SELECT receipt FROM pigeon.receive('fifo', visibility_timeout => '$_[0]')}) }
sql(q{SELECT pigeon.purge_queue('fifo'); SELECT pigeon.send_batch('fifo', ARRAY['first', 'next'], group_ids => ARRAY['g', 'g'])});
$receipt = take_fifo('1 h');
$waiter = receive('fifo');
wait_for_waiters(1);
sql(qq{SELECT pigeon.delete('fifo', '$receipt')});
is(finish($waiter), 'next', 'the delete of the message before wakes');
sql(q{SELECT pigeon.purge_queue('fifo'); SELECT pigeon.send('fifo', 'shown', group_id => 'g')});
$receipt = take_fifo('1 h');
$waiter = receive('fifo');
wait_for_waiters(1);
sql(qq{SELECT pigeon.change_visibility('fifo', '$receipt', '0')});
is(finish($waiter), 'shown', 'change_visibility to zero wakes at a FIFO queue');
sql(q{SELECT pigeon.purge_queue('fifo'); SELECT pigeon.send('fifo', 'longer', group_id => 'g')});
$receipt = take_fifo('12 s');
$waiter = receive('fifo');
wait_for_waiters(1);
is(sql(qq{SELECT pigeon.change_visibility('fifo', '$receipt', '20 s')}), 't', 'a lease is extended');
is(finish($waiter), 'longer', 'and waited for to its end');

# Who deletes a message does not know of those that were sent to its group meanwhile.
sql(q{SELECT pigeon.purge_queue('fifo'); SELECT pigeon.send('fifo', 'popped', group_id => 'g')});
$holder->query(q{BEGIN; SELECT body FROM pigeon.pop('fifo')});
$waiter = receive('fifo');
wait_for_waiters(1);
sql(q{SELECT pigeon.send('fifo', 'meanwhile', group_id => 'g')});
wait_for_waiters(1);
$holder->query(q{COMMIT});
is(finish($waiter), 'meanwhile', 'what was sent while the message before was deleted wakes');

sql(q{SELECT pigeon.send('q', 'rolled back to')});
$holder->query(q{BEGIN; SAVEPOINT s; SELECT body FROM pigeon.receive('q')});
$waiter = receive('q');
wait_for_waiters(1);
$holder->query(q{ROLLBACK TO s});
is(finish($waiter), 'rolled back to', 'the rollback of a receive to a savepoint wakes');
$holder->query(q{COMMIT});

# Dead letters and redrive.
$waiter = receive('dead');
wait_for_waiters(1);
sql(q{SELECT pigeon.send('q', 'poison')});
sql(q{SELECT pigeon.receive('q', visibility_timeout => '0')}) foreach 1 .. 5;
is(finish($waiter), 'poison', 'a dead letter wakes who waits at the dead-letter queue');
sql(q{SELECT pigeon.send('q', 'poison 2')});
sql(q{SELECT pigeon.receive('q', visibility_timeout => '0')}) foreach 1 .. 6;
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'poison 2'});
$waiter = receive('q');
wait_for_waiters(1);
sql(q{SELECT pigeon.redrive('dead')});
like(finish($waiter), qr/poison 2/, 'redrive wakes');

# Who is woken and cannot use it hands it on.
@waiters = map { receive('q') } 1 .. 2;
wait_for_waiters(2);
my $first = sql(q{SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Extension'
	AND backend_type = 'client backend' ORDER BY backend_start LIMIT 1});
sql(qq{BEGIN; SELECT pigeon.send('q', 'handed on'); SELECT pg_cancel_backend($first); COMMIT});
is(finish($waiters[1]), 'handed on', 'a cancelled waiter does not keep a message from others');
finish($waiters[0]);
like($waiters[0]->{stderr}, qr/canceling statement/, 'a waiter can be cancelled');

# Everything that ends a wait.
$waiter = start(q{SET statement_timeout = '1s'; SELECT body FROM pigeon.receive('q', wait_time => '1 h')});
finish($waiter);
like($waiter->{stderr}, qr/statement timeout/, 'statement_timeout ends a wait');
$waiter = receive('q');
wait_for_waiters(1);
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'});
wait_for_waiters(0);
pass('a waiter can be terminated');
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 0');
$node->reload;
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pigeon worker'}) or die 'a worker is there';
$waiter = receive('q');
wait_for_waiters(1);
sql(q{SELECT pigeon.drop_queue('q')});
finish($waiter);
like($waiter->{stderr}, qr/queue "q" does not exist/, 'dropping the queue ends a wait, also without a worker');

# Who moves a dead letter does not wait before that is committed.
foreach my $fifo ('false', 'true')
{
	sql(qq{SELECT pigeon.create_queue('moved', fifo => $fifo);
		SELECT pigeon.create_queue('moving', fifo => $fifo, dead_letter_queue => 'moved', max_receive_count => 1);
		SELECT pigeon.send('moving', 'x', group_id => 'g', deduplication_id => CASE WHEN $fifo THEN 'x' END);
		SELECT count(*) FROM pigeon.receive('moving', visibility_timeout => '0')});
	is(finish(receive('moving')), '', "fifo $fifo: a receive that moved a dead letter does not wait");
	is(sql(q{SELECT body FROM pigeon.pop('moved')}), 'x', "fifo $fifo: the dead letter is there");
	sql(q{SELECT pigeon.drop_queue('moving'), pigeon.drop_queue('moved')});
}
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 3');
$node->reload;

# Who waits passes a message that is being deleted, or hidden for longer, when its lease ends; the rollback makes it available.
sql(q{SELECT pigeon.create_queue('c')});
$holder = $node->background_psql('postgres');
foreach my $change (q{pigeon.delete('c', '%s')}, q{pigeon.change_visibility('c', '%s', '1 h')})
{
	my $receipt = sql(q{SELECT pigeon.purge_queue('c'), pigeon.send('c', 'changed') \g /dev/null
		SELECT receipt FROM pigeon.receive('c', visibility_timeout => '3 s')});
	$holder->query('BEGIN; SELECT ' . sprintf($change, $receipt));
	$waiter = receive('c');
	wait_for_waiters(1);
	sql('SELECT pg_sleep(4)');
	my $begun = time;
	$holder->query('ROLLBACK');
	is(finish($waiter), 'changed', "the rollback of $change wakes");
	cmp_ok(time - $begun, '<', 15, 'at once');
}
$holder->quit;

# Who is woken for a message that somebody else then gets keeps watch again, for all who wait.
sql(q{SELECT pigeon.create_queue('watch') \g /dev/null
	SELECT pigeon.send('watch', 'due', delay => '12 s')});
my $due = time + 12;
@waiters = (receive('watch'));
wait_for_waiters(1);
$first = sql(q{SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'});
push @waiters, receive('watch');
wait_for_waiters(2);
kill 'STOP', $first;
is(sql(q{SELECT pigeon.send('watch', 'taken') \g /dev/null
	SELECT body FROM pigeon.pop('watch')}), 'taken', 'somebody is faster than the one who is woken');
kill 'CONT', $first;
$node->poll_query_until('postgres', q{SELECT receive_count = 1 FROM pigeon.peek('watch')});
cmp_ok(time - $due, '<', 15, 'what falls due then is received in time');
sql(q{SELECT pigeon.send('watch', 'last')});
is(join(',', sort map { finish($_) } @waiters), 'due,last', 'by one of those who wait');

# What was received too often is waited for where a receive returns it: the dead-letter queue is of another kind, or
# has the message already.
sql(q{SELECT pigeon.create_queue('letters'), pigeon.create_queue('often', dead_letter_queue => 'letters', max_receive_count => 1) \g /dev/null
	SELECT pigeon.drop_queue('letters') \g /dev/null
	SELECT pigeon.create_queue('letters', fifo => true) \g /dev/null
	SELECT pigeon.send('often', 'often')});
foreach my $wait (q{SELECT body FROM pigeon.receive('often', visibility_timeout => '0', wait_time => '30 s')}, q{CALL pigeon.wait_for_message('often', '30 s')})
{
	sql(q{SELECT pigeon.receive('often', visibility_timeout => '3 s')});
	my $begun = time;
	like(sql($wait), qr/often|t/, 'a message that cannot be moved is there');
	cmp_ok(time - $begun, '<', 15, 'when its lease ends');
}
sql(q{BEGIN;
	SELECT pigeon.drop_queue('letters') \g /dev/null
	SELECT pigeon.create_queue('letters') \g /dev/null
	SELECT queue_table AS often FROM pigeon.queues WHERE queue = 'often' \gset
	SELECT queue_table AS letters FROM pigeon.queues WHERE queue = 'letters' \gset
	INSERT INTO :letters SELECT * FROM :often;
	SELECT pigeon.receive('often', visibility_timeout => '3 s');
	COMMIT});
my $begun = time;
is(sql(q{SELECT body FROM pigeon.receive('often', wait_time => '30 s')}), 'often', 'so is one that was moved by hand');
cmp_ok(time - $begun, '<', 15, 'when its lease ends');

# One that will be moved, but not now, is not there, and nobody looks for it all the time.
my $letters = sql(q{SELECT queue_table FROM pigeon.queues WHERE queue = 'letters'});
sql(qq{DELETE FROM $letters; SELECT pigeon.purge_queue('often')});
$holder = $node->background_psql('postgres');
$holder->query("BEGIN; LOCK TABLE $letters");
sql(q{SELECT pigeon.send('often', 'often'); SELECT pigeon.receive('often', visibility_timeout => '0')});
is(sql(q{CALL pigeon.wait_for_message('often', '1 s')}), 'f', 'one that is to be moved is not there');
$waiter = receive('often');
wait_for_waiters(1);
is(sql(qq{SELECT count(*) FROM pg_locks WHERE relation = '$letters'::regclass AND mode = 'AccessShareLock'}), '0',
	'who waits has no lock on the dead-letter queue');
sql(q{SELECT pigeon.send('often', 'another')});
is(finish($waiter), 'another', 'a message is');
$holder->quit;

# Who waits looks at what was written behind the library's back.
sql(q{SELECT pigeon.create_queue('hand')});
my $hand = sql(q{SELECT queue_table FROM pigeon.queues WHERE queue = 'hand'});
sql(q{SELECT pigeon.send_batch('hand', ARRAY['1', '2', '3', '4'])});
sql(q{SELECT count(*) FROM pigeon.pop('hand')}) foreach 1 .. 3;
sql(qq{UPDATE $hand SET due_at = due_at - interval '1 h'});
is(sql(q{CALL pigeon.wait_for_message('hand', '1 s')}), 't', 'a message that was moved by SQL is there');

# wait_for_message, and what it does not hold.
sql(q{SELECT pigeon.create_queue('w'); CREATE TABLE t AS SELECT generate_series(1, 1000) AS n});
$waiter = start(q{CALL pigeon.wait_for_message('w', '50 s')});
wait_for_waiters(1);
is(sql(q{SELECT bool_and(backend_xid IS NULL), bool_and(backend_xmin IS NULL) FROM pg_stat_activity
	WHERE query LIKE 'CALL pigeon.wait_for_message%'}), 't|t', 'wait_for_message holds no snapshot');
is(sql(q{SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE query LIKE 'CALL pigeon.wait_for_message%' AND locktype <> 'virtualxid'}), '0', 'nor a lock');
sql(q{CREATE EXTENSION pageinspect; DELETE FROM t});
ok($node->poll_query_until('postgres', q{VACUUM (TRUNCATE false) t;
	SELECT count(*) = 0 FROM generate_series(0, pg_relation_size('t') / 8192 - 1) AS b,
		heap_page_items(get_raw_page('t', b::integer)) WHERE t_data IS NOT NULL}, "VACUUM\nt"), 'VACUUM removes dead rows meanwhile');
sql(q{SELECT pigeon.send('w', 'x')});
is(finish($waiter), 't', 'wait_for_message: a message is there');
is(sql(q{CALL pigeon.wait_for_message('w', '50 s')}), 't', 'it is still there');
is(sql(q{BEGIN; CALL pigeon.wait_for_message('w', '50 s'); COMMIT}), 't', 'inside a transaction block');
is(sql(q{SELECT count(*) FROM pigeon.pop('w') \g /dev/null
	CALL pigeon.wait_for_message('w', '10 ms')}), 'f', 'none came in time');
is(sql(q{BEGIN; CALL pigeon.wait_for_message('w', '10 ms'); COMMIT}), 'f', 'nor inside a transaction block');
sql(q{CREATE ROLE nobody});
sqlstate_is($node, 'postgres', q{SET ROLE nobody; CALL pigeon.wait_for_message('w', '1 s')}, '42501',
	'waiting needs the right to receive');
sqlstate_is($node, 'postgres', q{CALL pigeon.wait_for_message('none', '1 s')}, '42704', 'no such queue');
sqlstate_is($node, 'postgres', q{CALL pigeon.wait_for_message('w', '-1 s')}, '22023', 'bad wait_time');

# A queue's own wait_time, which a receive may overrule.
sql(q{SELECT pigeon.create_queue('patient', wait_time => '50 s')});
is(sql(q{SELECT count(*) FROM pigeon.receive('patient', wait_time => '0')}), '0', 'a receive that does not want to wait');
my $patient = start(q{SELECT body FROM pigeon.receive('patient')});
wait_for_waiters(1);
sql(q{SELECT pigeon.send('patient', 'worth the wait')});
is(finish($patient), 'worth the wait', 'a receive waits as its queue says');
sqlstate_is($node, 'postgres', q{CALL pigeon.wait_for_message(NULL, '1 s')}, '22023', 'no queue');

# An isolation level that would keep a snapshot.
$waiter = start(q{SET default_transaction_isolation = 'repeatable read'; CALL pigeon.wait_for_message('w', '50 s')});
wait_for_waiters(1);
is(sql(q{SELECT bool_and(backend_xmin IS NULL) FROM pg_stat_activity WHERE query LIKE 'CALL pigeon.wait_for_message%'}),
	't', 'no snapshot in repeatable read either');
sql(q{SELECT pigeon.send('w', 'x')});
is(finish($waiter), 't', 'and it is woken');

# A waiter whose queue has no room in shared memory polls, and the log says so; a database without room has no worker.
sql(q{CREATE DATABASE another});
$node->append_conf('postgresql.conf', "pigeon.max_queues = 1\npigeon.poll_interval = '100ms'");
$node->restart;
sql(q{SELECT pigeon.create_queue('x' || n) FROM generate_series(1, 3) AS n});
@waiters = map { receive("x$_") } 1 .. 3;
wait_for_waiters(3);
sql(q{SELECT pigeon.send('x' || n, 'polled') FROM generate_series(1, 3) AS n});
is(join(',', map { finish($_) } @waiters), 'polled,polled,polled', 'queues without room are polled');
ok($node->log_contains(qr/no room in shared memory for queue/), 'the log tells');
ok($node->wait_for_log(qr/no room in shared memory for database \d+/), 'of databases, too');

is($not_woken, 0, 'nothing of this waited for a poll');
done_testing();
