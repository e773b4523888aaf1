# The worker when a job fails, has to wait for a lock, or has much to do: the
# other jobs go on; and when there is to be none.  Each part has a database of
# its own, and so a worker.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = new_server('main', q{pigeon.log_segment_size = '64kB'}, q{pigeon.notify_interval = '10ms'},
	'max_worker_processes = 20', 'pigeon.max_workers = 8', q{log_line_prefix = '%m [%p] %b '});
my $database;
my $late = qr/notification for queue number \d+ failed: canceling statement due to lock timeout/;

sub sql { return $node->safe_psql($database, $_[0]) }

# Waits until a query is true.
sub becomes_true
{
	my ($name, $sql) = @_;

	ok($node->poll_query_until($database, "SELECT $sql"), $name);
	return;
}

# How often the log has it.
sub logged
{
	my ($what) = @_;
	my $n = () = slurp_file($node->logfile) =~ /$what/g;

	return $n;
}

# An error that nobody takes ends a worker; DROP DATABASE does as well, in another way.
sub was_not_ended
{
	my ($name) = @_;

	is(logged(qr/pigeon worker (?:ERROR|FATAL):  (?!terminating background worker)/), 0, $name);
	return;
}

# A part of the test begins, in a database with a queue whose dead letters somebody has to move.
sub begin_part
{
	($database) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	sql(q{CREATE EXTENSION pigeon;
		SELECT pigeon.create_queue('dead'), pigeon.create_queue('q', dead_letter_queue => 'dead', max_receive_count => 1)});
	return;
}

sub end_part
{
	$node->safe_psql('postgres', "DROP DATABASE $database");
	return;
}

# The worker moves a dead letter.
sub works
{
	my ($name) = @_;

	sql(q{SELECT pigeon.send('q', 'poison'); SELECT pigeon.receive('q', visibility_timeout => '0')});
	becomes_true($name, q{count(*) = 1 FROM pigeon.peek('dead')});
	sql(q{SELECT pigeon.purge_queue('dead')});
	return;
}

# Redrives of so many letters from further queues; their numbers.
sub redrive
{
	my ($letters, $rate, @queues) = @_;

	return map {
		sql(qq{SELECT pigeon.create_queue('$_'), pigeon.create_queue('to_$_', dead_letter_queue => '$_', max_receive_count => 1) \\g /dev/null
			SELECT pigeon.send_batch('$_', array_agg('x'::text)) FROM generate_series(1, $letters) \\g /dev/null
			SELECT pigeon.redrive('$_', 'to_$_', max_per_second => $rate)})
	} @queues;
}

# Makes steps of redrive tasks do something.
sub at_redrive
{
	my ($when, $do) = @_;

	sql(qq{CREATE FUNCTION at_redrive() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN $do RETURN NEW; END \$\$;
		$when FOR EACH ROW EXECUTE FUNCTION at_redrive()});
	return;
}

# Somebody has locked what a job needs, a queue that a replay goes to, and then the tasks themselves.
begin_part('locks');
sql(q{SELECT pigeon.create_topic('news', archive_retention => '1 day'), pigeon.create_queue('reader')});
my $subscription = sql(q{SELECT pigeon.subscribe('news', 'reader')});
sql(q{SELECT pigeon.publish('news', 'news') FROM generate_series(1, 20)});
sql(qq{SELECT pigeon.replay($subscription, '-infinity', max_per_second => 1)});
my $holder = $node->background_psql($database);
$holder->query(q{BEGIN; LOCK TABLE } . sql(q{SELECT queue_table FROM pigeon.queues WHERE queue = 'reader'}));
ok($node->wait_for_log(qr/LOG:  replay task \d+ failed: canceling statement due to lock timeout/), 'a job does not wait for a lock for long');
works('the others go on');
$holder->query('COMMIT');
redrive(50, 1, 'locked');
$holder->query('BEGIN; LOCK TABLE pigeon.redrive_task');
ok($node->wait_for_log(qr/LOG:  look for redrive tasks failed: canceling statement due to lock timeout/), 'nor does the worker for lists of tasks');
works('and it goes on');
$holder->query('COMMIT');
$holder->quit;
was_not_ended('it was not ended');
end_part();

# A job that fails at its commit.
begin_part('commits');
sql(q{SELECT pigeon.create_topic('news', archive_retention => '1 day'), pigeon.create_queue('reader')});
$subscription = sql(q{SELECT pigeon.subscribe('news', 'reader')});
sql(q{SELECT pigeon.publish('news', 'news') FROM generate_series(1, 40)});
redrive(50, 2, 'failing');
at_redrive('CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON pigeon.redrive_task DEFERRABLE INITIALLY DEFERRED', q{RAISE 'not now';});
ok($node->wait_for_log(qr/LOG:  redrive task \d+ failed: not now/), 'a job that fails at its commit is reported');
sql(qq{SELECT pigeon.replay($subscription, '-infinity', max_per_second => 20)});
becomes_true('those behind it go on', q{status = 'COMPLETED' FROM pigeon.replay_tasks});
was_not_ended('the worker was not ended');
my $stderr;
is($node->psql($database, q{CALL pigeon.maintain()}, stderr => \$stderr), 0, 'maintain() goes on as well');
like($stderr, qr/WARNING:  redrive task \d+ failed: not now/, 'and warns');
end_part();

# A task that fails again and again does not slow down the others.
begin_part('tasks');
my ($failing) = redrive(50, 2, 'failing');
at_redrive('CREATE TRIGGER t BEFORE UPDATE ON pigeon.redrive_task', qq{IF NEW.id = $failing THEN RAISE 'out of order'; END IF;});
ok($node->wait_for_log(qr/LOG:  redrive task $failing failed: out of order/), 'a task fails');
foreach my $n (1 .. 6)
{
	redrive(1, 1000, "small$n");
	sleep 0.5;
}
my $begun = time;
redrive(40, 20, 'other');
becomes_true('another is completed', q{status = 'COMPLETED' FROM pigeon.redrive_tasks WHERE dead_letter_queue = 'other'});
cmp_ok(time - $begun, '<', 20, 'at its rate');
cmp_ok(logged(qr/redrive task $failing failed: out of order/), '<=', 3, 'the log is not flooded');
sql(q{DROP TRIGGER t ON pigeon.redrive_task});
becomes_true('the one that failed is tried again', qq{status = 'COMPLETED' FROM pigeon.redrive_tasks WHERE task_id = $failing});
end_part();

# What takes long: the others have their turn, in other databases too.
begin_part('other');
becomes_true('the worker leaves', q{count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'other'});
begin_part('long');
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 1');
$node->reload;
# The first step is the caller's, and must not sleep.
at_redrive('CREATE TRIGGER t BEFORE UPDATE ON pigeon.redrive_task',
	q{IF EXISTS (SELECT FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'pigeon worker') THEN PERFORM pg_sleep(0.3); END IF;});
redrive(100000, 'NULL', 'large');
works('a dead letter is moved during a large redrive');
is(sql(q{SELECT status FROM pigeon.redrive_tasks}), 'RUNNING', 'which has not ended');
$database = 'other';
works('so is one in another database');
$database = 'long';
is(sql(q{SELECT status FROM pigeon.redrive_tasks}), 'RUNNING', 'it still has not');
sql(q{DROP TRIGGER t ON pigeon.redrive_task});
becomes_true('it comes to its end', q{status = 'COMPLETED' FROM pigeon.redrive_tasks});
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 8');
$node->reload;
end_part();
$database = 'other';
end_part();

# No workers at all; no other database waits for one here, for which a busy one would leave.
begin_part('none');
redrive(1000, 1, 'slow');
my $busy = q{count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'none'};
becomes_true('a worker is busy', $busy);
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 0');
$node->reload;
becomes_true('pigeon.max_workers = 0 ends it', q{count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'pigeon worker'});
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 8');
$node->reload;
becomes_true('another comes when it may', $busy);
end_part();

# A segment of the log that cannot be freed.
begin_part('segments');
foreach my $segment (1, 2)
{
	sql(q{SELECT pigeon.send_batch('q', array_agg(repeat('x', 1000))) FROM generate_series(1, 1000)});
	becomes_true("segment $segment is current", "current_segment = $segment FROM pigeon.log_state");
}
sql(q{CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'kept'; END $$;
	CREATE TRIGGER t BEFORE TRUNCATE ON pigeon.log_0 EXECUTE FUNCTION refuse();
	SELECT pigeon.purge_queue('q')});
ok($node->wait_for_log(qr/LOG:  freeing of message log segment 0 failed: kept/), 'a segment cannot be freed');
becomes_true('the others are', q{pg_relation_size('pigeon.log_1') = 0});
cmp_ok(sql(q{SELECT pg_relation_size('pigeon.log_0')}), '>', 0, 'this one is not');
end_part();

# Notifications that wait for others, here for one whose commit waits for a standby, and maintenance of the same queue.
begin_part('notifications');
sql(q{SELECT pigeon.alter_queue('q', notify => true)});
$node->append_conf('postgresql.conf', q{synchronous_standby_names = 'nobody'});
$node->reload;
# The checkpointer tells the others of it.
$node->safe_psql('postgres', 'CHECKPOINT');
my $waiting = $node->background_psql($database);
my $pid = $waiting->query('SELECT pg_backend_pid()');
$waiting->query_until(qr/begun/, "\\echo begun\nBEGIN; CREATE TABLE something (); NOTIFY somebody; COMMIT;\n");
$node->poll_query_until($database, qq{SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = $pid}) or die 'the commit does not wait';
foreach my $n (1 .. 5)
{
	my $before = logged($late);
	sql(q{SET synchronous_commit = local; SELECT pigeon.send('q', 'x')});
	for (my $patience = 10 * $PostgreSQL::Test::Utils::timeout_default; logged($late) <= $before && $patience > 0; $patience--)
	{
		sleep 0.1;
	}
	cmp_ok(logged($late), '>', $before, "attempt $n to notify does not wait for long");
}
# One letter is dead in a while.  While an attempt to notify waits another dies, so that both jobs are due when that has ended.
$begun = time;
sql(q{SET synchronous_commit = local;
	SELECT pigeon.receive('q', visibility_timeout => '5 s');
	SELECT pigeon.send('q', 'x');
	SELECT pg_sleep(0.2);
	SELECT pigeon.receive('q', visibility_timeout => '0');
	SELECT pigeon.send('q', 'x')});
becomes_true('dead letters are moved while notifications fail', q{count(*) = 2 FROM pigeon.peek('dead')});
cmp_ok(time - $begun, '<', 25, 'in time');
$node->append_conf('postgresql.conf', q{synchronous_standby_names = ''});
$node->reload;
$waiting->quit;
end_part();

$node->stop;
done_testing();
