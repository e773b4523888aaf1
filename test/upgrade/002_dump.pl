# A dump of one version of PostgreSQL is restored in another, with everything that lives: leases, message groups, deduplication
# keys, dead letters, subscriptions and archives.
#
# DUMP_TO names a directory in which to leave the dump and what was seen before, DUMP_FROM one in which another version has left
# them. Without either, the dump is restored in the same server.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = $ENV{DUMP_FROM} || $ENV{DUMP_TO} || PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main');

# What is seen of FIFO queues, topics and tasks besides state().
sub more_state
{
	my ($database) = @_;

	return state($node, $database) . $node->safe_psql($database, q{
		SET timezone = 'UTC';
		SELECT t FROM pigeon.topics AS t ORDER BY topic;
		SELECT s FROM pigeon.subscriptions AS s ORDER BY subscription_id;
		SELECT r FROM pigeon.redrive_tasks AS r ORDER BY task_id;
		SELECT r FROM pigeon.replay_tasks AS r ORDER BY task_id;
		SELECT m.message_id, m.group_id, m.deduplication_id, m.sequence_number FROM pigeon.peek('steps', 100) AS m ORDER BY message_id;
	}) . "\n";
}

sub save
{
	my ($name, $content) = @_;

	open my $file, '>', "$directory/$name" or die "could not write \"$directory/$name\": $!";
	print $file $content;
	close $file or die "could not write \"$directory/$name\": $!";
	return;
}

# Queues and topics in every state, and the dump of them.
sub dump_filled
{
	my @receipts = fill($node, 'postgres');

	$node->safe_psql('postgres', q{
		SELECT pigeon.create_queue('steps', fifo => true, visibility_timeout => '1 h', deduplication_window => '1 day');
		SELECT pigeon.send('steps', 'step ' || n, group_id => 'group' || n % 2, deduplication_id => 'step' || n) FROM generate_series(1, 6) AS n});
	push @receipts, $node->safe_psql('postgres', q{SELECT receipt FROM pigeon.receive('steps', 1)});
	$node->safe_psql('postgres', q{
		SELECT pigeon.create_topic('news', archive_retention => '30 days');
		SELECT pigeon.create_topic('ordered news', fifo => true, content_based_deduplication => true);
		SELECT pigeon.create_queue('reader');
		SELECT pigeon.subscribe('news', 'reader', '{"kind": ["weather", {"prefix": "s"}]}');
		SELECT pigeon.subscribe('ordered news', 'steps', raw_delivery => false);
		SELECT pigeon.publish('news', 'rain', 'today', '{"kind": "weather"}'), pigeon.publish('news', 'shares', attributes => '{"kind": "money"}');
		SELECT pigeon.grant_access('news', 'worker', '{publish}')});
	save('state', more_state('postgres'));
	save('receipts', join("\n", @receipts));
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/dump", 'postgres' ], 'dump');
	return;
}

sub check_restored
{
	my @receipts = split /\n/, slurp_file("$directory/receipts");
	my $step = pop @receipts;
	my $sql = sub { $node->safe_psql('restored', $_[0]) };

	$node->safe_psql('postgres', 'CREATE ROLE worker; CREATE ROLE stranger') if $ENV{DUMP_FROM};
	$node->safe_psql('postgres', 'CREATE DATABASE restored');
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'restored', "$directory/dump" ], 'restore');
	is(more_state('restored'), slurp_file("$directory/state"), 'nothing changed');

	is($sql->(q{SELECT body FROM pigeon.receive('steps', 10, visibility_timeout => '0') ORDER BY message_id}), "step 2\nstep 4\nstep 6",
		'the group of a message in flight is blocked');
	is($sql->(qq{SELECT pigeon.delete('steps', '$step')}), 't', 'its receipt deletes it');
	is($sql->(q{SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.pop('steps', 10)}), 'step 2,step 3,step 4,step 5,step 6', 'and it goes on in order');
	is($sql->(q{SELECT pigeon.send('steps', 'step 1 again', group_id => 'group1', deduplication_id => 'step1') \g /dev/null
		SELECT count(*) FROM pigeon.peek('steps')}), '0', 'duplicates are known');
	is($sql->(q{SELECT body, subject, topic FROM pigeon.pop('reader')}), 'rain|today|news', 'what was published is delivered');
	is($sql->(q{SET ROLE worker; SELECT count(pigeon.publish('news', 'snow', attributes => '{"kind": "weather"}')); RESET ROLE;
		SELECT count(pigeon.publish('news', 'bonds', attributes => '{"kind": "money"}'));
		SELECT body FROM pigeon.pop('reader', 10)}), "1\n1\nsnow", 'a subscription delivers, by its policy');
	is($sql->(q{SELECT count(pigeon.replay(subscription_id, '-infinity')) FROM pigeon.subscriptions WHERE topic = 'news';
		SELECT string_agg(body, ',' ORDER BY message_id) FROM pigeon.pop('reader', 10)}), "1\nrain,snow", 'the archive can be replayed');
	is($sql->(q{SELECT count(pigeon.publish('ordered news', 'first', group_id => 'g')), count(pigeon.publish('ordered news', 'first', group_id => 'g'));
		SELECT body::jsonb ->> 'Message' FROM pigeon.pop('steps', 10)}), "1|1\nfirst", 'a FIFO topic delivers once');
	check_filled($node, 'restored', 'restored', @receipts);
	return;
}

dump_filled() unless $ENV{DUMP_FROM};
check_restored() unless $ENV{DUMP_TO};
done_testing();
