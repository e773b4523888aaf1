# The worker: when it comes and goes, what it does, and that it is in nobody's
# way.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', q{pigeon.log_segment_size = '64kB'}, q{log_line_prefix = '%m [%p] %b '}, 'autovacuum = off',
	'log_min_messages = debug1', 'pigeon.max_workers = 8', 'max_worker_processes = 20');

sub sql
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql);
}

# Waits until a query is true.
sub becomes_true
{
	my ($name, $sql, $database) = @_;

	ok($node->poll_query_until($database // 'postgres', "SELECT $sql"), $name);
	return;
}

my $workers = q{(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pigeon worker')};

# Without the extension there is a launcher, which is connected to no database.
becomes_true('there is a launcher', q{count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'pigeon launcher' AND datname IS NULL});
becomes_true('and no worker', "$workers = 0");

# Dead letters and retention with nobody polling.
sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('q', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT pigeon.send('q', 'poison');
	SELECT pigeon.receive('q', visibility_timeout => '1 s')});
becomes_true('a dead letter is moved', q{count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'poison'});
sql(q{SELECT pigeon.create_queue('fifo dead', fifo => true);
	SELECT pigeon.create_queue('fifo', fifo => true, dead_letter_queue => 'fifo dead', max_receive_count => 1);
	SELECT pigeon.send('fifo', 'poison', group_id => 'g', deduplication_id => 'x');
	SELECT pigeon.receive('fifo', visibility_timeout => '1 s')});
becomes_true('that of a FIFO queue, too', q{count(*) = 1 FROM pigeon.peek('fifo dead') WHERE body = 'poison'});
sql(q{SELECT pigeon.drop_queue('fifo'), pigeon.drop_queue('fifo dead')});
sql(q{SELECT pigeon.send_batch('q', array_agg('old ' || n)) FROM generate_series(1, 20000) AS n;
	UPDATE pigeon.q_2 SET enqueued_at = now() - interval '5 days';
	SELECT pigeon.send('q', 'new');
	SELECT pigeon.alter_queue('q', delay => '0')});
becomes_true('what has expired is deleted', q{count(*) = 1 FROM pigeon.q_2});
is(sql(q{SELECT body FROM pigeon.peek('q')}), 'new', 'and nothing else');

# Redrive at its rate.
sql(q{SELECT pigeon.alter_queue('q', max_receive_count => 1000);
	SELECT pigeon.purge_queue('q'); SELECT pigeon.purge_queue('dead');
	SELECT pigeon.send_batch('dead', array_agg('letter ' || n)) FROM generate_series(1, 50) AS n});
my $begun = sql(q{SELECT now()});
sql(q{SELECT pigeon.redrive('dead', 'q', max_per_second => 20)});
becomes_true('a redrive task is completed', q{status = 'COMPLETED' FROM pigeon.redrive_tasks});
is(sql(q{SELECT moved FROM pigeon.redrive_tasks}), '50', 'it moved all');
is(sql(qq{SELECT finished_at - started_at >= interval '1 s' FROM pigeon.redrive_tasks}), 't', 'at its rate');

# The log is rotated and freed.
sql(q{SELECT pigeon.purge_queue('q');
	SELECT pigeon.send_batch('q', array_agg(repeat('x', 1000))) FROM generate_series(1, 1000)});
sql(q{SELECT pigeon.purge_queue('q')});
becomes_true('the log is freed',
	q{pg_relation_size('pigeon.log_0') = 0 AND (SELECT current_segment <> 0 FROM pigeon.log_state)});

# A queue through which much passes is vacuumed, and stays small; no older snapshot is in the way here.
create_busy_queue($node);
my @sizes;
foreach my $vacuums (1 .. 3)
{
	is_vacuumed($node, $vacuums, "vacuum $vacuums");
	push @sizes, sql(q{SELECT pg_total_relation_size(queue_table) FROM pigeon.queues WHERE queue = 'busy'});
}
cmp_ok($sizes[2], '<', 1.1 * $sizes[1], 'the table does not grow');

# One queue that cannot be maintained.
sql(q{SELECT pigeon.create_queue('broken', dead_letter_queue => 'dead', max_receive_count => 1);
	CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'broken' \gset
	BEGIN;
	SELECT pigeon.send('broken', 'x'); SELECT pigeon.receive('broken', visibility_timeout => '0');
	CREATE TRIGGER t BEFORE INSERT ON :t FOR EACH ROW EXECUTE FUNCTION f();
	COMMIT;
	SELECT pigeon.create_queue('sound', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT pigeon.send('sound', 'sound'); SELECT pigeon.receive('sound', visibility_timeout => '0')});
becomes_true('a broken queue does not stop the others',
	q{count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'sound'});
ok($node->wait_for_log(qr/LOG:  maintenance of queue number \d+ failed: table "q_\d+" cannot be used/),
	'what failed is logged');
sql(q{SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'broken' \gset
	DROP TRIGGER t ON :t});
becomes_true('and tried again', q{count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'x'});
my ($stdout, $stderr);
sql(q{SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'broken' \gset
	CREATE TRIGGER t BEFORE INSERT ON :t FOR EACH ROW EXECUTE FUNCTION f()});
is($node->psql('postgres', q{CALL pigeon.maintain()}, stderr => \$stderr), 0, 'maintain() goes on as well');
like($stderr, qr/WARNING:  maintenance of queue number \d+ failed/, 'and warns');

# A database that was restored by half: a row without a table, a table without a row.  A segment of the log waits for a
# snapshot in a prepared transaction.
sql(q{BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'old';
	SELECT pigeon.send_batch('q', array_agg(repeat('x', 1000))) FROM generate_series(1, 1000) \g /dev/null
	SELECT pigeon.purge_queue('q'); SELECT pigeon.purge_queue('dead'); SELECT pigeon.create_queue('reason to look')});
becomes_true('a segment of the log is unused', q{count(*) > 0 FROM pigeon.log_unused});
sql(q{ALTER EVENT TRIGGER pigeon_forget_dropped_tables DISABLE;
	SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'broken' \gset
	DROP TABLE :t;
	ALTER EVENT TRIGGER pigeon_forget_dropped_tables ENABLE;
	DELETE FROM pigeon.queue WHERE name = 'sound';
	SELECT pigeon.send('q', 'poison'); SELECT pigeon.alter_queue('q', max_receive_count => 1);
	SELECT pigeon.receive('q', visibility_timeout => '0')});
becomes_true('half a queue does no harm', q{count(*) = 1 FROM pigeon.peek('dead', 100) WHERE body = 'poison'});

# What is kept for ever is no reason to look again and again.
sql(q{SELECT pigeon.create_queue('for ever'); SELECT pigeon.send('for ever', 'x');
	SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'for ever' \gset
	UPDATE :t SET enqueued_at = 'infinity';
	SELECT pigeon.alter_queue('for ever', delay => '0')});

# An idle database has no worker, even if its log cannot be maintained while half a queue is there.
becomes_true('the worker leaves', "$workers = 0");
sql(q{ROLLBACK PREPARED 'old'});

# Other databases: a new one, a copy, one that is dropped while its worker is
# in the middle of a job.
my $busy = q{
	SELECT pigeon.create_queue('d');
	SELECT pigeon.create_queue('q', dead_letter_queue => 'd', max_receive_count => 1);
	SELECT pigeon.send_batch('q', array_agg('m' || n)) FROM generate_series(1, 100000) AS n \g /dev/null
	SELECT count(*) FROM pigeon.receive('q', 100000, visibility_timeout => '1 s')};
sql(q{CREATE DATABASE other});
sql("CREATE EXTENSION pigeon; $busy", 'other');
becomes_true('a new database gets a worker',
	q{count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'other'});
sql(q{CREATE DATABASE copy TEMPLATE other});
pass('a database can be copied while its worker is busy');
becomes_true('the worker comes back', q{count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'pigeon worker' AND datname = 'other'});
becomes_true('a copied database is noticed', q{count(*) = 0 FROM pigeon.q_2}, 'copy');
sql(q{ALTER DATABASE other RENAME TO renamed});
pass('a database can be renamed while its worker is busy');
becomes_true('its jobs are done after that', q{count(*) = 0 FROM pigeon.q_2}, 'renamed');
sql($busy =~ s/create_queue\('/create_queue('2/gr =~ s/'q'/'2q'/gr =~ s/=> 'd'/=> '2d'/r, 'renamed');
becomes_true('busy again', q{count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'pigeon worker' AND datname = 'renamed'});
sql(q{DROP DATABASE renamed});
pass('a database can be dropped while its worker is busy');

# Who may not do any of that does not end the worker, be it in vain; who owns the database may.
sql(q{CREATE DATABASE shop; CREATE ROLE nobody; CREATE ROLE creator CREATEDB; CREATE ROLE owner CREATEDB});
sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('a'), pigeon.create_queue('b', dead_letter_queue => 'a');
	SELECT pigeon.send_batch('a', array_agg('m' || n)) FROM generate_series(1, 1000) AS n;
	SELECT pigeon.redrive('a', 'b', max_per_second => 1)}, 'shop');
my $shop = q{FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'shop'};
becomes_true('a worker', "count(*) = 1 $shop");
my $begun_at = sql("SELECT pid, backend_start $shop");
foreach my $command ('DROP DATABASE shop', 'ALTER DATABASE shop RENAME TO x', 'ALTER DATABASE shop SET TABLESPACE pg_default',
	'CREATE DATABASE x TEMPLATE shop')
{
	sqlstate_is($node, 'postgres', "SET ROLE $_; $command", '42501', "$_: $command") foreach 'nobody', 'creator';
}
sleep 1;
is(sql("SELECT pid, backend_start $shop"), $begun_at, 'the worker is still there');
sql(q{ALTER DATABASE shop OWNER TO owner; SET ROLE owner; CREATE DATABASE shop2 TEMPLATE shop});
becomes_true('and again', "count(*) = 1 $shop");
sql(q{SET ROLE owner; ALTER DATABASE shop RENAME TO shop3; DROP DATABASE shop3});
pass('the owner copies, renames and drops a database with a worker');

# A drop that waits for a renaming, and then finds no such database, keeps no worker away.
my $letters = q{SELECT pigeon.send('q', 'letter'); SELECT pigeon.receive('q', visibility_timeout => '0')};
sql(q{CREATE DATABASE blue});
sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('d'); SELECT pigeon.create_queue('q', dead_letter_queue => 'd', max_receive_count => 1)}, 'blue');
my $renamer = $node->background_psql('postgres', on_error_stop => 0);
$renamer->query(q{BEGIN; ALTER DATABASE blue RENAME TO green});
my $dropper = $node->background_psql('postgres');
$dropper->query_until(qr/begun/, "\\echo begun\nDROP DATABASE IF EXISTS blue;\n");
becomes_true('a drop waits', q{count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^DROP'});
$renamer->query('COMMIT');
$dropper->quit;
sql($letters, 'green');
becomes_true('the renamed database has its worker', q{count(*) = 1 FROM pigeon.peek('d')}, 'green');
# Nor does a command that fails, while its transaction goes on.
$renamer->query('BEGIN; SAVEPOINT s');
$renamer->query('CREATE DATABASE never TEMPLATE green');
$renamer->query('ROLLBACK TO s');
sql($letters, 'green');
becomes_true('and keeps it', q{count(*) = 2 FROM pigeon.peek('d')}, 'green');
is($renamer->query('COMMIT; SELECT 1'), '1', 'whoever failed to copy it');
$renamer->quit;

# Prepared transactions bring no worker to a database without the extension.
sql(q{CREATE DATABASE plain});
my $oid = sql(q{SELECT oid FROM pg_database WHERE datname = 'plain'});
my $started = qr/starting background worker process "pigeon worker for database $oid"/;
ok($node->wait_for_log($started), 'a new database is visited');
my $log = slurp_file($node->logfile);
sql(qq{BEGIN; CREATE TABLE t$_ (); PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'}, 'plain') foreach 1 .. 3;
sleep 2;
sql(q{CREATE DATABASE later});
$oid = sql(q{SELECT oid FROM pg_database WHERE datname = 'later'});
ok($node->wait_for_log(qr/starting background worker process "pigeon worker for database $oid"/), 'workers are started');
unlike(substr(slurp_file($node->logfile), length $log), $started, 'but not there');

# Until its commit, which waits here for a standby, a database that is dropped looks as if it were there.
sql(q{CREATE DATABASE going});
sql("CREATE EXTENSION pigeon; $busy", 'going');
becomes_true('a busy worker', q{count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'going'});
$node->append_conf('postgresql.conf', q{synchronous_standby_names = 'nobody'});
$node->reload;
my $place = -s $node->logfile;
$dropper = $node->background_psql('postgres');
$dropper->query_until(qr/begun/, "\\echo begun\nDROP DATABASE going;\n");
becomes_true('the commit waits', q{count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query ~ '^DROP'});
sleep 1;
$node->append_conf('postgresql.conf', q{synchronous_standby_names = ''});
$node->reload;
$dropper->quit;
is(sql(q{SELECT count(*) FROM pg_database WHERE datname = 'going'}), '0', 'the database is dropped');
unlike(substr(slurp_file($node->logfile), $place), qr/pigeon worker FATAL:  (database .* does not exist|cannot connect to)/, 'no worker was sent there meanwhile');

# DROP EXTENSION under a busy worker.
sql($busy =~ s/create_queue\('/create_queue('2/gr =~ s/'q'/'2q'/gr =~ s/=> 'd'/=> '2d'/r, 'copy');
becomes_true('busy', q{count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'pigeon worker' AND datname = 'copy'});
sql(q{DROP EXTENSION pigeon CASCADE}, 'copy');
is(sql(q{SELECT count(*) FROM pg_class WHERE relname ~ '^q_'}, 'copy'), '0', 'the extension can be dropped');
becomes_true('the worker leaves', q{count(*) = 0 FROM pg_stat_activity
	WHERE backend_type = 'pigeon worker' AND datname = 'copy'});
sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('d');
	SELECT pigeon.create_queue('q', dead_letter_queue => 'd', max_receive_count => 1);
	SELECT pigeon.send('q', 'again'); SELECT pigeon.receive('q', visibility_timeout => '0')}, 'copy');
becomes_true('and comes back', q{count(*) = 1 FROM pigeon.peek('d')}, 'copy');

# Crashes.  The server starts again by itself, and so do the jobs.
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
sql(q{SELECT pigeon.create_queue('slow'); SELECT pigeon.send_batch('dead', array_agg('letter ' || n))
	FROM generate_series(1, 60) AS n; SELECT pigeon.redrive('dead', 'slow', max_per_second => 3)});
becomes_true('the worker is at it', q{count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'postgres'});
my $pid = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pigeon worker' AND datname = 'postgres'}) or die 'no worker';
kill 'KILL', $pid;
ok($node->wait_for_log(qr/all server processes terminated; reinitializing/), 'the server crashes');
$node->poll_query_until('postgres', 'SELECT true');
becomes_true('a redrive task goes on after a crash',
	q{status = 'COMPLETED' FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1});
$pid = sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pigeon launcher'});
sql("SELECT pg_terminate_backend($pid)");
becomes_true('the launcher is started again', qq{count(*) = 1 FROM pg_stat_activity
	WHERE backend_type = 'pigeon launcher' AND pid <> $pid});
sql(q{SELECT pigeon.send('q', 'last'); SELECT pigeon.receive('q', visibility_timeout => '0')});
becomes_true('and does its work', q{count(*) = 1 FROM pigeon.peek('dead', 100) WHERE body = 'last'});

# More databases than workers.
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 1');
$node->reload;
foreach my $n (1 .. 4)
{
	sql("CREATE DATABASE db$n");
	sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('d');
		SELECT pigeon.create_queue('q', dead_letter_queue => 'd', max_receive_count => 1, notify => true);
		SELECT pigeon.send('q', 'again'); SELECT pigeon.receive('q', visibility_timeout => '0')}, "db$n");
}
becomes_true("database $_ has its turn", q{count(*) = 1 FROM pigeon.peek('d')}, "db$_") foreach 1 .. 4;

$node->stop;
done_testing();
