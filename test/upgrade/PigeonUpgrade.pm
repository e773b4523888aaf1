# What the tests in this directory share: an older server with everything that pigeon can hold, and the questions that must have
# the same answers when the database has moved to another server.
#
# OLD_SERVER names the directory of the older server (the one with bin and lib in it); without it both are of the same version.
package PigeonUpgrade;

use strict;
use warnings;

use Exporter 'import';
use PigeonTest;
use PostgreSQL::Test::Cluster;
use Test::More;

our @EXPORT = qw(old_server fill_everything everything check_everything);

# A running server of the older version. Nothing goes on in it by itself, so that tasks stay where they are.
sub old_server
{
	my $node = PostgreSQL::Test::Cluster->new('old', $ENV{OLD_SERVER} ? (install_path => $ENV{OLD_SERVER}) : ());

	return start_server($node, 'pigeon.max_workers = 0');
}

# Creates, besides what fill() does, a FIFO queue with a group in flight, topics of both kinds with an archive, a table whose
# changes are published, and tasks that are on their way. Returns the receipts of what is in flight: the one of the FIFO queue
# first, then those of fill().
sub fill_everything
{
	my ($node, $database) = @_;
	my @receipts = fill($node, $database);
	my $sql = sub { $node->safe_psql($database, $_[0]) };

	$sql->(q{
		SELECT pigeon.create_queue('steps', fifo => true, visibility_timeout => '1 h', deduplication_window => '1 day');
		SELECT pigeon.send('steps', 'step ' || n, group_id => 'group' || n % 2, deduplication_id => 'step' || n) FROM generate_series(1, 6) AS n});
	unshift @receipts, $sql->(q{SELECT receipt FROM pigeon.receive('steps', 1, receive_attempt_id => 'try')});
	$sql->(q{SELECT pigeon.mark_processed('steps', 4711)});

	$sql->(q{
		SELECT pigeon.create_topic('news', archive_retention => '30 days');
		SELECT pigeon.create_topic('ordered news', fifo => true, content_based_deduplication => true);
		SELECT pigeon.create_queue('reader');
		SELECT pigeon.subscribe('news', 'reader', '{"kind": ["weather", {"prefix": "s"}]}');
		SELECT pigeon.subscribe('ordered news', 'steps', raw_delivery => false);
		SELECT pigeon.publish('news', 'rain', 'today', '{"kind": "weather"}'), pigeon.publish('news', 'shares', attributes => '{"kind": "money"}');
		SELECT pigeon.grant_access('news', 'worker', '{publish}')});

	$sql->(q{
		SELECT pigeon.create_topic('changes'), pigeon.create_queue('changed');
		SELECT pigeon.subscribe('changes', 'changed', '{"new": {"status": ["paid"]}}', 'body');
		CREATE TABLE orders (id int, status text);
		SELECT pigeon.publish_changes('orders', 'changes', columns => '{status}')});

	# Tasks, a message a second.
	$sql->(q{
		SELECT pigeon.create_queue('broken');
		SELECT pigeon.create_queue('brittle', dead_letter_queue => 'broken', max_receive_count => 1);
		SELECT pigeon.send_batch('brittle', '{cup,glass,vase}'::text[])});
	$sql->(q{SELECT pigeon.receive('brittle', 10, visibility_timeout => '0')}) foreach 1 .. 2;
	$sql->(q{SELECT pigeon.redrive('broken', max_per_second => 1)});
	$sql->(q{
		SELECT pigeon.create_topic('history', archive_retention => '1 year');
		SELECT pigeon.publish('history', 'year ' || n) FROM generate_series(1, 4) AS n;
		SELECT pigeon.create_queue('late');
		SELECT pigeon.replay(pigeon.subscribe('history', 'late'), '-infinity', max_per_second => 1)});
	is($sql->(q{SELECT status, moved < to_move FROM pigeon.redrive_tasks WHERE dead_letter_queue = 'broken';
		SELECT status, replayed < 4 FROM pigeon.replay_tasks}), "RUNNING|t\nRUNNING|t", 'tasks are on their way');
	return @receipts;
}

# Everything that a user can see, as text.
sub everything
{
	my ($node, $database) = @_;

	return state($node, $database) . "\n" . $node->safe_psql($database, q{
		SET timezone = 'UTC';
		SELECT t FROM pigeon.topics AS t ORDER BY topic;
		SELECT s FROM pigeon.subscriptions AS s ORDER BY subscription_id;
		SELECT r FROM pigeon.redrive_tasks AS r ORDER BY task_id;
		SELECT r FROM pigeon.replay_tasks AS r ORDER BY task_id;
		SELECT format('SELECT %L, * FROM %s ORDER BY message_id', topic, topic_view) FROM pigeon.topics
			WHERE archive_retention IS NOT NULL ORDER BY topic \gexec
		SELECT queue, m.message_id, m.group_id, m.deduplication_id, m.sequence_number, m.topic, m.subject
			FROM pigeon.queues, pigeon.peek(queue, 1000) AS m ORDER BY queue, message_id;
		SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1});
}

# Checks that a database which has been filled with everything is fully usable; the worker takes over its tasks.
sub check_everything
{
	my ($node, $database, $what, $step, @receipts) = @_;
	my $sql = sub { $node->safe_psql($database, $_[0]) };

	$sql->(q{ALTER SYSTEM SET pigeon.max_workers = 3});
	$node->reload;

	is($sql->(q{SELECT body FROM pigeon.receive('steps', 10, visibility_timeout => '0') ORDER BY message_id}), "step 2\nstep 4\nstep 6",
		"$what: the group of a message in flight is blocked");
	is($sql->(qq{SELECT pigeon.delete('steps', '$step')}), 't', "$what: its receipt deletes it");
	is($sql->(q{SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.pop('steps', 10)}),
		'step 2,step 3,step 4,step 5,step 6', "$what: and it goes on in order");
	is($sql->(q{SELECT pigeon.send('steps', 'step 1 again', group_id => 'group1', deduplication_id => 'step1') \g /dev/null
		SELECT count(*) FROM pigeon.peek('steps')}), '0', "$what: duplicates are known");

	is($sql->(q{SELECT pigeon.mark_processed('steps', message_id) FROM unnest(ARRAY[4711, 4712]) AS message_id}), "f\nt",
		"$what: what was processed is known");

	is($sql->(q{SELECT body, subject, topic FROM pigeon.pop('reader')}), 'rain|today|news', "$what: what was published is delivered");
	is($sql->(q{SET ROLE worker; SELECT count(pigeon.publish('news', 'snow', attributes => '{"kind": "weather"}')); RESET ROLE;
		SELECT count(pigeon.publish('news', 'bonds', attributes => '{"kind": "money"}'));
		SELECT body FROM pigeon.pop('reader', 10)}), "1\n1\nsnow", "$what: a subscription delivers, by its policy");
	is($sql->(q{SELECT count(pigeon.replay(subscription_id, '-infinity')) FROM pigeon.subscriptions WHERE topic = 'news'}), '1',
		"$what: the archive can be replayed");
	ok($node->poll_query_until($database, q{SELECT string_agg(body, ',' ORDER BY message_id) = 'rain,snow' FROM pigeon.peek('reader', 10)}),
		"$what: and is");
	is($sql->(q{SELECT count(pigeon.publish('ordered news', 'first', group_id => 'g')), count(pigeon.publish('ordered news', 'first', group_id => 'g'));
		SELECT body::jsonb ->> 'Message' FROM pigeon.pop('steps', 10)}), "1|1\nfirst", "$what: a FIFO topic delivers once");
	is($sql->(q{INSERT INTO orders VALUES (1, 'new'); UPDATE orders SET status = 'paid';
		SELECT body::jsonb #>> '{old,status}' FROM pigeon.pop('changed', 10)}), 'new', "$what: changes of a table are published");

	ok($node->poll_query_until($database, q{SELECT count(*) = 3 AND min(status) = 'COMPLETED' AND max(status) = 'COMPLETED'
		FROM (SELECT status FROM pigeon.redrive_tasks WHERE dead_letter_queue = 'broken' UNION ALL SELECT status FROM pigeon.replay_tasks) AS t}),
		"$what: tasks end");
	is($sql->(q{SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.pop('brittle', 10);
		SELECT string_agg(body, ',' ORDER BY body) FROM pigeon.pop('late', 10)}), "cup,glass,vase\nyear 1,year 2,year 3,year 4",
		"$what: and have moved each message once");
	check_filled($node, $database, $what, @receipts);
	return;
}

1;
