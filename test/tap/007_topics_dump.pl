# Topics, subscriptions, archives, replay tasks and triggers of outboxes
# survive dump and restore.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $dumps = PostgreSQL::Test::Utils::tempdir;

$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE ROLE pgn_reader;
	GRANT CREATE ON SCHEMA pigeon TO pgn_reader;
	SELECT pigeon.create_topic('orders', archive_retention => '1 year', tags => '{"team": "shop"}'),
		pigeon.create_topic('fifo', fifo => true), pigeon.create_topic('plain', max_message_size => 4096);
	SELECT pigeon.create_queue('paid'), pigeon.create_queue('dead'), pigeon.create_queue('ordered', fifo => true);
	SELECT pigeon.grant_access('orders', 'pgn_reader', '{subscribe}');
	SELECT pigeon.subscribe('orders', 'paid', '{"new": {"status": ["paid"]}}', 'body', raw_delivery => false, dead_letter_queue => 'dead');
	SELECT pigeon.subscribe('fifo', 'ordered');
	SET ROLE pgn_reader;
	SELECT pigeon.create_queue('readers');
	SELECT pigeon.subscribe('orders', 'readers');
	RESET ROLE;
	CREATE TABLE orders (id int, customer text, status text);
	SELECT pigeon.publish_changes('orders', 'orders', columns => '{id,status}', condition => $$NEW.status <> OLD.status OR OLD IS NULL$$);
	SELECT pigeon.publish_changes('orders', 'fifo', events => 'insert', group_by => 'customer', include_replicated => true);
	INSERT INTO orders SELECT n, 'c' || n % 2, 'new' FROM generate_series(1, 3) AS n;
	UPDATE orders SET status = 'paid' WHERE id = 2;
	SELECT pigeon.publish('fifo', 'x', group_id => 'g', deduplication_id => 'd');
	SELECT pigeon.replay((SELECT subscription_id FROM pigeon.subscriptions WHERE queue = 'readers'), '-infinity', max_per_second => 1)});

# Everything there is to know; the replay task may advance at any time.
sub topics_state
{
	my ($database) = @_;

	return $node->safe_psql($database, q{
		SELECT 'topic', t.*, c.relacl FROM pigeon.topics t JOIN pg_class c ON c.oid = topic_view ORDER BY topic;
		SELECT 'subscription', * FROM pigeon.subscriptions ORDER BY subscription_id;
		SELECT 'archive', * FROM pigeon.t_1 ORDER BY message_id;
		SELECT 'message', q, message_id, body, attributes, topic, subject, group_id, sender
			FROM unnest('{paid,dead,ordered}'::text[]) q, pigeon.peek(q, 100) ORDER BY q, message_id;
		SELECT 'trigger', pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 2});
}

# Publishes in every way, and looks for what arrives.
sub check_works
{
	my ($database, $what) = @_;

	is($node->safe_psql($database, q{
		SELECT pigeon.purge_queue(queue) FROM pigeon.queues WHERE queue <> 'readers' AND NOT fifo \g /dev/null
		UPDATE orders SET status = 'paid' WHERE id = 1;
		UPDATE orders SET status = 'sent' WHERE id = 1;
		SELECT body::jsonb->>'Type', (body::jsonb->>'Message')::jsonb->'new' FROM pigeon.pop('paid', 10)}),
		'Notification|{"id": 1, "status": "paid"}', "$what: outbox, filter, envelope");
	is($node->safe_psql($database, q{
		SELECT pigeon.publish('fifo', 'again', group_id => 'g', deduplication_id => 'd') = max(message_id) FROM pigeon.peek('ordered', 100) WHERE body = 'x'}),
		't', "$what: duplicates are still known");
	is($node->safe_psql($database, q{
		INSERT INTO pigeon.t_1 (body) VALUES ('{"new": {"status": "paid"}}');
		SELECT count(*) FROM pigeon.t_1; SELECT count(*) FROM pigeon.pop('paid', 10)}), "7\n1", "$what: INSERT and archive");
	is($node->safe_psql($database, q{
		SELECT pigeon.create_topic('more'), pigeon.create_queue('more') \g /dev/null
		SELECT pigeon.subscribe('more', 'more') > max(subscription_id) FROM pigeon.subscriptions;
		SELECT pigeon.publish('more', 'x') > max(message_id) FROM pigeon.t_1}), "t\nt", "$what: numbers go on");
	return;
}

# The replay that was under way goes on.
sub check_replay
{
	my ($database, $what) = @_;

	ok($node->poll_query_until($database, q{
		SELECT count(DISTINCT replayed_message_id) >= 4 FROM pigeon.peek('readers', 100)}), "$what: the replay goes on");
	is($node->safe_psql($database, q{SELECT pigeon.drop_topic('plain'); SELECT pigeon.drop_queue('dead')}), "t\nt", "$what: what was restored can be dropped");
	return;
}

my $before = topics_state('postgres');
for my $format ('plain', 'custom')
{
	$node->command_ok([ 'pg_dump', "-F$format", '-f', "$dumps/$format", 'postgres' ], "$format: dump");
	$node->safe_psql('postgres', "CREATE DATABASE $format");
	$node->command_ok(
		$format eq 'plain'
		? [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($format), '-f', "$dumps/$format" ]
		: [ 'pg_restore', '--exit-on-error', '-j2', '-d', $format, "$dumps/$format" ],
		"$format: restore");
	is(topics_state($format), $before, "$format: nothing changed");
	check_works($format, $format);
}
check_works('postgres', 'the original');
# Last, since duplicates are known for five minutes only.
check_replay(@$_) foreach [ 'plain', 'plain' ], [ 'custom', 'custom' ], [ 'postgres', 'the original' ];

done_testing();
