# Metrics: right for small and large queues, kept over a clean restart, shown
# to those who may peek.

use strict;
use warnings;

use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'autovacuum = off', 'restart_after_crash = on');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Waits until statistics know of so many messages.
sub becomes_known
{
	my ($queue, $n) = @_;

	$node->poll_query_until('postgres',
		qq{SELECT n_live_tup >= $n FROM pg_stat_user_tables JOIN pigeon.queues ON relid = queue_table WHERE queue = '$queue'})
	  or die 'not known';
	return;
}

sub metrics
{
	my ($columns, $queue) = @_;

	return sql("SELECT $columns FROM pigeon.queue_metrics WHERE queue = '$queue'");
}

my $counts = 'visible, in_flight, delayed';

sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('q', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true)});
is(metrics("$counts, oldest_message_age, approximate", 'q'), '0|0|0||f', 'an empty queue');

# Every counter.
sql(q{SELECT pigeon.send_batch('q', '{one,two,three,four,five}'::text[]) \g /dev/null
	SELECT pigeon.send('q', 'later', '{"a": "b"}', delay => '1 h');
	BEGIN; SELECT pigeon.send('q', 'never'); SELECT pigeon.pop('q', 2); ROLLBACK;
	BEGIN; SAVEPOINT s; SELECT pigeon.send('q', 'never'); ROLLBACK TO s; COMMIT;
	BEGIN; SELECT pigeon.send('dead', 'x'); SAVEPOINT s; SELECT pigeon.send('dead', 'y'); RELEASE s; SELECT pigeon.pop('dead', 2); COMMIT;
	SELECT receipt FROM pigeon.receive('q') \gset
	SELECT pigeon.delete('q', :'receipt');
	SELECT pigeon.pop('q');
	SELECT pigeon.receive('q', visibility_timeout => '1 h');
	SELECT pigeon.receive('q', visibility_timeout => '0');});
$node->poll_query_until('postgres', q{SELECT dead_lettered = 1 FROM pigeon.queue_metrics WHERE queue = 'q'});
is(metrics($counts, 'q'), '1|1|1', 'visible, in flight, delayed');
is(metrics('sent, sent_bytes, received, deleted, dead_lettered, approximate', 'q'), '6|32|4|2|1|f',
	'what was committed is counted');
is(sql(q{SELECT pigeon.receive('dead', visibility_timeout => '0') \g /dev/null
	SELECT pigeon.purge_queue('dead') \g /dev/null
	SELECT count(*) FROM pigeon.receive('dead')}), '0', 'nothing left');
my $empty = metrics('empty_receives', 'dead');
sql(q{BEGIN; SELECT pigeon.receive('dead'); ROLLBACK});
is(metrics('empty_receives', 'dead'), $empty + 1, 'an empty receive counts in any case');
is(metrics('purged, empty_receives >= 1, sent', 'dead'), '1|t|2', 'purges and empty receives; moves are not sends');
is(metrics(q{oldest_message_age BETWEEN '0' AND '1 h'}, 'q'), 't', 'age of the oldest message');
is(sql(q{SELECT visible, in_flight, delayed FROM pigeon.exact_queue_metrics('q')}), '1|1|1', 'exact metrics agree');

# FIFO.
sql(q{SELECT pigeon.send('fifo', g || n, group_id => g) FROM unnest('{a,b,c}'::text[]) AS g, generate_series(1, 3) AS n;
	SELECT pigeon.send('fifo', 'a1', group_id => 'a');
	SELECT pigeon.receive('fifo', 1); SELECT pigeon.receive('fifo', 2)});
is(metrics("$counts, groups_in_flight, deduplicated, sent", 'fifo'), '6|3|0|2|1|9', 'a FIFO queue');
is(sql(q{SELECT visible, in_flight, delayed, groups_in_flight FROM pigeon.exact_queue_metrics('fifo')}),
	'6|3|0|2', 'exact metrics agree');

sql(q{SELECT pigeon.create_queue('fifo later', fifo => true, delay => '1 h', content_based_deduplication => true);
	SELECT pigeon.send('fifo later', n::text, group_id => 'g') FROM generate_series(1, 2) AS n});
is(metrics($counts, 'fifo later'), '0|0|2', 'delayed in a FIFO queue');

# A FIFO queue too large to be counted, one of whose groups has most of what is in flight.
sql(q{SELECT pigeon.create_queue('fifo large', fifo => true, visibility_timeout => '1 h');
	SELECT count(*) FROM (SELECT array_agg(n::text) AS ids, array_agg(CASE WHEN n <= 30000 THEN 'large' ELSE 'g' || n % 50 END) AS groups
		FROM generate_series(1, 31000) AS n) AS m, pigeon.send_batch('fifo large', ids, group_ids => groups, deduplication_ids => ids)});
# A vacuum that comes before what the statistics have not heard yet counts it twice.
becomes_known('fifo large', 31000);
sql(q{SELECT count(*) FROM pigeon.receive('fifo large', 20000);
	SELECT (pigeon.receive('fifo large', 1)).message_id FROM generate_series(1, 50)});
is(metrics('in_flight BETWEEN 9000 AND 21000, visible BETWEEN 9000 AND 23000, groups_in_flight BETWEEN 40 AND 60', 'fifo large'), 't|t|t',
	'a large group does not stand for others');

# The age of a dead letter counts from the move, until it is received.
sql(q{SELECT pigeon.create_queue('aged dead');
	SELECT pigeon.create_queue('aged', dead_letter_queue => 'aged dead', max_receive_count => 1);
	SELECT pigeon.send('aged', 'x')});
my $aged = sql(q{SELECT queue_table FROM pigeon.queues WHERE queue = 'aged'});
sql(qq{UPDATE $aged SET enqueued_at = enqueued_at - interval '1 h';
	SELECT pigeon.receive('aged', visibility_timeout => '0'); SELECT pigeon.receive('aged')});
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pigeon.peek('aged dead')}) or die 'not moved';
is(metrics(q{oldest_message_age < '1 min'}, 'aged dead'), 't', 'a dead letter is young');
sql(q{SELECT pigeon.receive('aged dead')});
is(metrics(q{oldest_message_age > '59 min'}, 'aged dead'), 't', 'until it is received');

# A queue too large to be counted each time.
sql(q{SELECT pigeon.create_queue('large');
	SELECT pigeon.send_batch('large', array_agg('m' || n)) FROM generate_series(1, 60000) AS n \g /dev/null
	SELECT pigeon.send_batch('large', array_agg('d' || n), delay => '1 h') FROM generate_series(1, 100) AS n \g /dev/null
	SELECT count(*) FROM pigeon.receive('large', 25000, visibility_timeout => '1 h')});
$node->poll_query_until('postgres', q{SELECT visible = 35000 FROM pigeon.queue_metrics WHERE queue = 'large'});
is(metrics("$counts, approximate", 'large'), '35000|25000|100|t', 'a large queue');
is(sql(q{SELECT visible, in_flight, delayed FROM pigeon.exact_queue_metrics('large')}), '35000|25000|100',
	'exact metrics agree');
# The same where leases are taken in place: they stand before what is visible, or have ended behind the frontier.
sql(q{SELECT pigeon.create_queue('asleep', visibility_timeout => '1 h');
	SELECT pigeon.send_batch('asleep', array_agg('m' || n)) FROM generate_series(1, 60000) AS n \g /dev/null
	SELECT count(*) FROM pigeon.receive('asleep', 25000);
	SELECT pigeon.create_queue('awake', visibility_timeout => '1 s');
	SELECT pigeon.send_batch('awake', array_agg('m' || n)) FROM generate_series(1, 60000) AS n \g /dev/null});
# In a session of its own: what statistics a session has not reported yet, a VACUUM meanwhile would count twice.
becomes_known('awake', 60000);
sql(q{DO $$ BEGIN
		FOR i IN 1 .. 61 LOOP PERFORM count(*) FROM pigeon.receive('awake', 1000); COMMIT; END LOOP;
	END $$});
$node->poll_query_until('postgres', q{SELECT visible = 35000 FROM pigeon.queue_metrics WHERE queue = 'asleep'});
is(metrics($counts, 'asleep'), '35000|25000|0', 'a large queue, much of which is asleep');
# VACUUM estimates how many rows there are.
my $woken_up = q{SELECT visible BETWEEN 59000 AND 61000 AND in_flight = 0 FROM pigeon.queue_metrics WHERE queue = 'awake'};
$node->poll_query_until('postgres', $woken_up);
is(sql($woken_up), 't', 'a large queue which has woken up');
sql(q{CREATE FUNCTION buffers(queue text) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE plan json;
	BEGIN
		EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT json)
			SELECT visible FROM pigeon.queue_metrics WHERE queue = %L', queue) INTO plan;
		RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::bigint + (plan->0->'Plan'->>'Shared Read Blocks')::bigint;
	END $$});
my $small = sql(q{SELECT buffers('large') \g /dev/null
	SELECT buffers('large')});
sql(q{SELECT pigeon.send_batch('large', array_agg('m' || n)) FROM generate_series(1, 200000) AS n \g /dev/null});
my $large = sql(q{SELECT buffers('large') \g /dev/null
	SELECT buffers('large')});
cmp_ok($large, '<=', 2 * $small, "no more is read of four times the messages ($small, $large buffers)");

# Quiet and noisy tenants, more of the noisy ones, or of both, than are counted each time.
my $quiet = 'visible, visible_in_quiet_groups, in_flight_in_quiet_groups, noisy_groups, approximate';
foreach my $n (5000, 20000)
{
	my $queue = "fair $n";

	sql(qq{SELECT pigeon.create_queue('$queue');
		SELECT pigeon.send_batch('$queue', array_agg('n' || n), group_ids => array_agg('noisy'::text)) FROM generate_series(1, 30029) AS n \\g /dev/null
		SELECT pigeon.send_batch('$queue', array_agg('q' || n)) FROM generate_series(1, $n) AS n \\g /dev/null
		SELECT count(*) FROM pigeon.receive('$queue', 10, visibility_timeout => '1 h')});
	$node->poll_query_until('postgres', "SELECT visible = 30019 + $n FROM pigeon.queue_metrics WHERE queue = '$queue'");
	is(metrics($quiet, $queue), join('|', 30019 + $n, 19 + $n, 10, 1, 't'), "$n messages of quiet groups are counted apart");
	is(sql("SELECT oldest_sent_at = oldest_sent_at_in_quiet_groups FROM pigeon.queue, pigeon.queue_figures(id) WHERE name = '$queue'"),
		't', 'age of the oldest message in a quiet group');
}

# Many messages that nobody can remove the remains of.
my $holder = $node->background_psql('postgres');
$holder->query(q{BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1});
is(sql(q{SELECT count(*) > 0 FROM pigeon.xmin_horizon WHERE kind = 'session' AND since IS NOT NULL}), 't',
	'who holds the horizon is shown');
foreach my $n (30000, 200000)
{
	my $queue = "remains $n";
	my $received = $n < 100000 ? 25000 : 5000;

	sql(qq{SELECT pigeon.create_queue('$queue');
		SELECT pigeon.send_batch('$queue', array_agg('n' || n), group_ids => array_agg('noisy'::text)) FROM generate_series(1, 29 + $n) AS n \\g /dev/null
		SELECT pigeon.send_batch('$queue', array_agg('q' || n)) FROM generate_series(1, 5000 + $received) AS n \\g /dev/null
		SELECT count(*) FROM pigeon.receive('$queue', $received, visibility_timeout => '1 h')});
	$node->poll_query_until('postgres', "SELECT visible = 5029 + $n FROM pigeon.queue_metrics WHERE queue = '$queue'");
	is(metrics($quiet, $queue), join('|', 5029 + $n, 5029, $received, 1, 't'),
		"of $n messages of a noisy group, and the remains of $received others, none counts as of quiet ones");
}

# So do open transactions that have written something, but not a VACUUM.
$holder->query(q{COMMIT; BEGIN});
$holder->query(q{SELECT pg_current_xact_id()});
is(sql(q{SELECT count(*) FROM pigeon.xmin_horizon h JOIN pg_stat_activity a ON holder LIKE 'pid ' || pid || '%'
	WHERE a.state = 'idle in transaction'}), '1', 'who has written something is shown');
$holder->quit;
sql(q{CREATE TABLE large AS SELECT n FROM generate_series(1, 100000) AS n; DELETE FROM large});
my $vacuum = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-c', q{SET vacuum_cost_delay = 100},
	'-c', q{SET vacuum_cost_limit = 1}, '-c', 'VACUUM large' ], '2>', '/dev/null');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_progress_vacuum WHERE relid = 'large'::regclass}) or die 'no VACUUM';
is(sql(q{SELECT count(*) FROM pigeon.xmin_horizon h JOIN pg_stat_progress_vacuum v ON holder LIKE 'pid ' || v.pid || '%' WHERE relid = 'large'::regclass}),
	'0', 'a VACUUM is not');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_progress_vacuum WHERE relid = 'large'::regclass});
$vacuum->finish;

# A queue that cannot be counted does not keep others from it.
sql(q{SELECT pigeon.create_queue('altered'); SELECT pigeon.send('altered', 'x');
	SELECT pigeon.create_queue('altered fifo', fifo => true);
	SELECT pigeon.create_queue('locked'); SELECT pigeon.send('locked', 'x')});
sql(q{SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'altered' \gset
	ALTER TABLE :t ADD COLUMN c integer});
sql(q{SELECT format('ALTER TABLE pigeon.g_%s ADD COLUMN c integer', id) FROM pigeon.queue WHERE name = 'altered fifo' \gexec});
is(metrics('visible IS NULL, sent', 'altered'), 't|1', 'of a queue that its owner has altered the counters are shown');
is(metrics('visible IS NULL, sent', 'altered fifo'), 't|0', 'and of a FIFO queue');
my $locker = $node->background_psql('postgres');
$locker->query_safe(q{SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'locked' \gset});
$locker->query_safe(q{BEGIN; LOCK TABLE :t});
is(metrics('visible IS NULL, sent IS NULL', 'locked'), 't|t', 'of one that somebody has locked nothing');
is(sql('SELECT count(*) > 3 FROM pigeon.queue_metrics WHERE visible IS NOT NULL'), 't', 'all other queues are counted');
$locker->query_safe('COMMIT');
is(metrics('visible, sent', 'locked'), '1|1', 'and that one when it is free');

# Nor does one whose owner is somebody else since it was looked at.
sql(q{CREATE ROLE another});
my $watcher = $node->background_psql('postgres');
$watcher->query_safe('SELECT count(*) FROM pigeon.queue_metrics');
sql(q{SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'locked' \gset
	ALTER TABLE :t OWNER TO another});
is($watcher->query_safe(q{SELECT visible FROM pigeon.queue_metrics WHERE queue = 'locked'}), '1', 'a queue that has changed hands');
$locker->quit;
$watcher->quit;
sql(q{SELECT pigeon.drop_queue(queue) FROM pigeon.queues WHERE queue IN ('altered', 'altered fifo', 'locked')});

# Restarts.
my $before = sql(q{SELECT queue, sent, sent_bytes, received, deleted, purged, dead_lettered, deduplicated
	FROM pigeon.queue_metrics ORDER BY queue});
$node->restart;
is(sql(q{SELECT queue, sent, sent_bytes, received, deleted, purged, dead_lettered, deduplicated
	FROM pigeon.queue_metrics ORDER BY queue}), $before, 'counters survive a clean restart');
ok(!-e $node->data_dir . '/pg_stat/pigeon.stat', 'the file is gone when the server runs');
my $victim = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $victim->query(q{SELECT pg_backend_pid()});
kill 'KILL', $pid;
ok($node->wait_for_log(qr/all server processes terminated; reinitializing/), 'the server crashes');
ok($node->poll_query_until('postgres', 'SELECT true'), 'and comes back');
is(sql(q{SELECT sum(sent) FROM pigeon.queue_metrics}), '0', 'they start again after a crash');
is(metrics($counts, 'q'), '1|1|1', 'what is counted from the queue does not');

# A file that cannot be used.
$node->stop;
open my $file, '>', $node->data_dir . '/pg_stat/pigeon.stat' or die $!;
print $file 'rubbish';
close $file;
$node->start;
is(metrics($counts, 'q'), '1|1|1', 'a damaged file does no harm');

# Rights.
sql(q{CREATE ROLE peeker; CREATE ROLE stranger; SELECT pigeon.grant_access('q', 'peeker', '{peek}')});
is(sql(q{SET ROLE peeker; SELECT string_agg(queue, ',') FROM pigeon.queue_metrics}), 'q', 'who may peek sees it');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM pigeon.queue_metrics}), '0', 'others do not');
sqlstate_is($node, 'postgres', q{SET ROLE stranger; SELECT pigeon.exact_queue_metrics('q')}, '42501', 'nor exactly');
sqlstate_is($node, 'postgres', q{SET ROLE stranger; SELECT pigeon.queue_figures(2)}, '42501', 'nor directly');
is(sql(q{SELECT count(*), count(*) FILTER (WHERE current) FROM pigeon.log_metrics}), '9|1', 'the log is shown');

# The queries for Prometheus.
my $collector = slurp_file(dirname(__FILE__) . '/../../examples/prometheus/pigeon.collector.yml');
my $metrics = $collector;
my $queries = 0;

sql(q{CREATE ROLE collector IN ROLE pg_monitor, pg_read_all_data});
while ($collector =~ /query_name: (\w+)\n    query: \|\n((?:      .*\n)+)/g)
{
	my ($name, $query) = ($1, $2);
	my $columns = sql("SET ROLE collector; CREATE TEMP VIEW v AS $query;
		SELECT string_agg(attname, ' ') FROM pg_attribute WHERE attrelid = 'v'::regclass");

	cmp_ok(sql("SET ROLE collector; SELECT count(*) FROM ($query) AS q"), '>', 0, "$name returns something")
	  unless $name eq 'pigeon_xmin_horizon';
	while ($metrics =~ /    (?:key_labels|values): \[(.*)\]\n(?:    .*\n)*?    query_ref: $name\n/g)
	{
		my @missing = grep { " $columns " !~ / $_ / } split /, */, $1;
		is("@missing", '', "$name has the columns it needs");
	}
	$queries++;
}
is($queries, 5, 'queries for Prometheus');

$node->stop;
done_testing();
