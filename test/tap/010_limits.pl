# Limits hold, and whoever reaches one is told: shared memory, sequences,
# transaction ids, many queues, many subscriptions, large messages.  With
# PIGEON_TEST_LONG set, as many as can be expected of a server.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $long = $ENV{PIGEON_TEST_LONG};
my $node = new_server('main', 'pigeon.max_queues = 3', 'pigeon.poll_interval = 100ms', 'log_statement = none',
	'log_min_error_statement = panic', 'autovacuum_naptime = 1s', 'autovacuum_freeze_max_age = 100000',
	'vacuum_freeze_min_age = 1000', 'max_locks_per_transaction = 1000');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# At full size the figures are of interest.
sub tell_figure
{
	my ($figure) = @_;

	diag("figures: $figure") if $long;
	return;
}

# Runs SQL; tells how long that took.
sub timed
{
	my ($what, $sql) = @_;
	my $begin = time;
	my $result = sql($sql);

	tell_figure(sprintf '%s: %.2f s', $what, time - $begin);
	return $result;
}

# Shared memory.  What does not fit works, polls, and says so.
sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('queue ' || n, dead_letter_queue => 'dead', max_receive_count => 1)
	FROM generate_series(1, 5) AS n;
	SELECT pigeon.send('queue ' || n, 'x') FROM generate_series(1, 5) AS n});
is(sql(q{SELECT count(*) FROM pigeon.queue_metrics WHERE sent IS NULL}), '3', 'no more counters than there is room for');
ok($node->wait_for_log(qr/LOG:  .*\n.*DETAIL:  .*\n.*HINT:  Raise pigeon.max_queues and restart the server/),
	'the log says so');
is(sql(q{SELECT count(*) FROM generate_series(1, 5) AS n, pigeon.receive('queue ' || n, visibility_timeout => '0')}),
	'5', 'all queues work');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 5 FROM pigeon.peek('dead')}), 'the worker cares for all');
my @waiters;
foreach my $n (1 .. 5)
{
	my $session = $node->background_psql('postgres');

	$session->query_until(qr/waiting/, qq{\\echo waiting
		SELECT body FROM pigeon.receive('queue $n', wait_time => '600 s');\n});
	push @waiters, $session;
}
ok($node->poll_query_until('postgres', q{SELECT count(*) = 5 FROM pg_stat_activity
	WHERE wait_event IN ('Extension', 'PigeonWaitForMessage') AND backend_type = 'client backend'}), 'somebody waits for each');
sql(q{SELECT pigeon.send('queue ' || n, 'for ' || n) FROM generate_series(1, 5) AS n});
foreach my $n (1 .. 5)
{
	like($waiters[ $n - 1 ]->query('SELECT 1'), qr/for $n/, "a waiter for queue $n gets its message");
	$waiters[ $n - 1 ]->quit;
}
sql(q{SELECT pigeon.drop_queue(queue) FROM pigeon.queues});
$node->append_conf('postgresql.conf', 'pigeon.max_queues = 20000');
$node->restart;

# Sequences.  At a million messages a second theirs lasts for 292,000 years.
sql(q{SELECT pigeon.create_queue('q'); SELECT pigeon.create_queue('f', fifo => true);
	SELECT pigeon.send('q', 'before');
	CREATE TABLE place AS SELECT last_value FROM pigeon.message_id_seq;
	SELECT setval('pigeon.message_id_seq', 9223372036854775805)});
is(sql(q{SELECT pigeon.send('q', 'last but one')}), '9223372036854775806', 'a message near the end');
is(sql(q{SELECT pigeon.send('f', 'last', group_id => 'g', deduplication_id => 'd')}), '9223372036854775807', 'the last message');
foreach my $call (
	q{pigeon.send('q', 'x')}, q{pigeon.send_batch('q', ARRAY['x'])},
	q{pigeon.send('f', 'x', group_id => 'g', deduplication_id => 'e')})
{
	my $stderr;
	$node->psql('postgres', "SELECT $call", stderr => \$stderr);
	like($stderr, qr/ERROR:  nextval: reached maximum value of sequence "message_id_seq"/, "there is no other: $call");
}
all_is_well($node, 'postgres', 'all is well at the end of the numbers');
is(sql(q{SELECT count(*) FROM pigeon.pop('q', 10)}), '2', 'messages can be received');
is(sql(q{SELECT pigeon.delete('f', receipt) FROM pigeon.receive('f')}), 't', 'also from a FIFO queue');
sql(q{UPDATE pigeon.log_state SET current_since = '2000-01-01'});
ok($node->poll_query_until('postgres', q{CALL pigeon.maintain(); SELECT count(*) = 0 FROM pigeon.log_0}, "CALL\nt"), 'and truncated');
sql(q{SELECT setval('pigeon.message_id_seq', last_value) FROM place;
	SELECT setval('pigeon.queue_id_seq', 2147483646)});
is(sql(q{SELECT pigeon.create_queue('the last one') \g /dev/null
	SELECT pigeon.send('the last one', 'x') \g /dev/null
	SELECT body FROM pigeon.pop('the last one')}), 'x', 'a queue with the last number');
my $stderr;
$node->psql('postgres', q{SELECT pigeon.create_queue('one too many')}, stderr => \$stderr);
like($stderr, qr/ERROR:  nextval: reached maximum value of sequence "queue_id_seq"/, 'there is no other');
sql(q{SELECT pigeon.drop_queue('the last one'); SELECT setval('pigeon.queue_id_seq', 100)});

# Transaction ids.  Old messages, leases and sealed segments do not keep the
# system from freezing rows.
sql(q{SELECT pigeon.send_batch('q', array_agg('old ' || n)) FROM generate_series(1, 2000) AS n});
sql(q{SELECT count(*) FROM pigeon.receive('q', 1000, '12 hours')});
sql(q{UPDATE pigeon.log_state SET current_since = '2000-01-01'; CALL pigeon.maintain()});
isnt(sql(q{SELECT current_segment FROM pigeon.log_state}), '0', 'the segment of old messages is sealed');
sql(q{CREATE TABLE burnt (i integer)});
sql(q{DO $$ BEGIN
	FOR i IN 1 .. 250000 LOOP
		BEGIN
			INSERT INTO burnt VALUES (i);
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
		IF i % 1000 = 0 THEN COMMIT; END IF;
	END LOOP;
END $$});
ok($node->poll_query_until('postgres', q{SELECT max(age(relfrozenxid)) < 150000 FROM pg_class
	WHERE relkind IN ('r', 't') AND relfrozenxid <> '0'}), 'autovacuum freezes all tables');
ok($node->poll_query_until('postgres', q{SELECT max(age(datfrozenxid)) < 200000 FROM pg_database WHERE datname = 'postgres'}),
	'nothing holds the database back');
is(sql(q{SELECT count(*), sum((receive_count = 1)::integer) FROM pigeon.peek('q', 10000) WHERE body LIKE 'old %'}),
	'2000|1000', 'the old messages and leases are there');
all_is_well($node, 'postgres', 'all is well after 250,000 transactions');
sql(q{SELECT pigeon.purge_queue('q')});

# More in flight, and more behind a blocked group, than the 120,000 where SQS ends.
my $many = 120001;
sql(qq{SELECT pigeon.create_queue('busy', visibility_timeout => '1 h');
	SELECT pigeon.create_queue('busy groups', fifo => true, visibility_timeout => '1 h');
	SELECT format('ALTER TABLE %s SET (autovacuum_enabled = off)', queue_table) FROM pigeon.queues WHERE queue LIKE 'busy%' \\gexec
	SELECT count(*) FROM pigeon.send_batch('busy', array_fill('x'::text, ARRAY[$many]));
	SELECT count(*) FROM pigeon.send_batch('busy groups', array_fill('x'::text, ARRAY[$many]),
		group_ids => array_fill('one'::text, ARRAY[$many]), deduplication_ids => (SELECT array_agg(n::text) FROM generate_series(1, $many) AS n));
	SELECT count(*) FROM (SELECT array_agg('g' || n) AS groups FROM generate_series(1, $many) AS n) AS g,
		pigeon.send_batch('busy groups', groups, group_ids => groups, deduplication_ids => groups)});
is(sql(q{SELECT count(*), sum((group_id = 'one')::integer) FROM pigeon.receive('busy groups')}), '1|1',
	'a message of a long group is in flight');
foreach my $queue ('busy', 'busy groups')
{
	is(sql(qq{SELECT count(*) FROM pigeon.receive('$queue', 100000)
		UNION ALL SELECT count(*) FROM pigeon.receive('$queue', 100000)}), "100000\n20001", "all others of $queue can be, too");
	is(sql(qq{SELECT count(*) FROM pigeon.receive('$queue')}), '0', 'there is no more');
}
ok($node->poll_query_until('postgres', q{SELECT queue, visible BETWEEN min_visible AND min_visible * 1.1, in_flight BETWEEN 110000 AND 130000,
		groups_in_flight BETWEEN groups * 0.9 AND groups * 1.1
	FROM pigeon.queue_metrics JOIN (VALUES ('busy', 0, 0), ('busy groups', 110000, 120000)) AS v (queue, min_visible, groups) USING (queue)
	ORDER BY queue}, "busy|t|t|t\nbusy groups|t|t|t"), 'metrics see about as much');
sql(q{SELECT pigeon.send('busy', 'one more'); SELECT pigeon.send('busy groups', 'one more', group_id => 'one-more', deduplication_id => '0')});
is(sql(q{SELECT body FROM pigeon.receive('busy') UNION ALL SELECT body FROM pigeon.receive('busy groups')}), "one more\none more",
	'and one more is received');
sql(q{SELECT pigeon.drop_queue('busy'); SELECT pigeon.drop_queue('busy groups')});

# Many queues.
my $queues = $long ? 10000 : 300;
timed("creating $queues queues", qq{SELECT pigeon.create_queue('many ' || n) FROM generate_series(1, $queues) AS n});
tell_figure('the catalog takes ' . sql(q{SELECT pg_size_pretty(sum(pg_total_relation_size(oid))) FROM pg_class
	WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'}) .
	', empty queues take ' . sql(q{SELECT pg_size_pretty(sum(pg_total_relation_size(queue_table))) FROM pigeon.queues}));
my $memory = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';
my ($before, $after) = split /\n/, sql(qq{$memory;
	SELECT count(pigeon.send('many ' || n, 'x')) FROM generate_series(1, $queues) AS n \\g /dev/null
	$memory});
tell_figure(sprintf 'a backend that uses all queues takes %d bytes for each', ($after - $before) / $queues);
cmp_ok(($after - $before) / $queues, '<', 40 * 1024, sprintf 'a backend takes %d bytes for each queue it uses',
	($after - $before) / $queues);
is(timed("one message from each of $queues queues",
		qq{SELECT count(*) FROM generate_series(1, $queues) AS n, pigeon.pop('many ' || n)}),
	$queues, 'each of many queues works');
timed("maintaining $queues queues", q{CALL pigeon.maintain()});
timed("checking $queues queues", q{SELECT count(*) FROM pigeon.check()});
timed("metrics of $queues queues", q{SELECT count(*) FROM pigeon.queue_metrics});

# Many subscriptions to a topic.
my $subscriptions = $long ? 1000 : 200;
sql(qq{SELECT pigeon.create_topic('t');
	SELECT count(pigeon.subscribe('t', 'many ' || n, CASE WHEN n % 2 = 0 THEN '{"even": ["yes"]}'::jsonb END))
	FROM generate_series(1, $subscriptions) AS n});
timed("publishing to $subscriptions subscriptions", q{SELECT pigeon.publish('t', 'odd')});
cmp_ok(sql(q{BEGIN; SELECT pigeon.publish('t', 'rolled back') \g /dev/null
	SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid(); ROLLBACK}),
	'<', $subscriptions + 50, 'one lock for each, and some');
timed("publishing a batch of 100 to $subscriptions subscriptions",
	q{SELECT count(*) FROM pigeon.publish_batch('t', array_fill('even'::text, ARRAY[100]),
		attributes => array_fill('{"even": "yes"}'::jsonb, ARRAY[100]))});
is(sql(qq{SELECT count(*), sum((body = 'odd')::integer) FROM generate_series(1, $subscriptions) AS n,
		pigeon.pop('many ' || n, 1000)}),
	101 * $subscriptions - $subscriptions / 2 . '|' . $subscriptions / 2, 'every subscriber gets what it asked for');

# A body of 100 MB.
sql(q{SELECT pigeon.create_queue('large', max_message_size => 200000000)});
timed('sending 100 MB', q{SELECT pigeon.send('large', repeat(md5('x'), 3125000))});
is(timed('receiving 100 MB', q{SELECT length(body), md5(body) = md5(repeat(md5('x'), 3125000)) FROM pigeon.receive('large', visibility_timeout => '0')}),
	'100000000|t', 'a body of 100 MB');
is(sql(q{SELECT length(body) FROM pigeon.pop('large')}), '100000000', 'popped');

# In one transaction that would need seven locks for each.
timed("dropping $queues queues", qq{DO \$\$ BEGIN
	FOR n IN 1 .. $queues LOOP
		PERFORM pigeon.drop_queue('many ' || n);
		COMMIT;
	END LOOP;
END \$\$});
is(sql(q{SELECT count(*) FROM pigeon.queues WHERE queue LIKE 'many%'}), '0', 'many queues are dropped');
all_is_well($node, 'postgres', 'all is well in the end');

done_testing();
