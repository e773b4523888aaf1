# Redrives and replays that were under way when a dump was taken wait until all
# they need is restored, rights included, and then go on.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'pigeon.max_workers = 0');
my $directory = PostgreSQL::Test::Utils::tempdir;
my $dump = "$directory/dump";

$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE ROLE pgn_owner;
	GRANT CREATE ON SCHEMA pigeon TO pgn_owner;
	SELECT pigeon.create_topic('orders', archive_retention => '1 year'), pigeon.create_queue('paid');
	SELECT pigeon.grant_access('orders', 'pgn_owner', '{subscribe}'), pigeon.grant_access('paid', 'pgn_owner', '{send}');
	SET ROLE pgn_owner;
	SELECT pigeon.create_queue('dead'), pigeon.create_queue('own');
	SELECT pigeon.subscribe('orders', 'own', dead_letter_queue => 'dead') AS subscription \gset
	RESET ROLE;
	SELECT pigeon.publish('orders', 'order ' || n) FROM generate_series(1, 3) AS n;
	SELECT pigeon.purge_queue('own');
	SELECT pigeon.send('dead', 'letter ' || n) FROM generate_series(1, 3) AS n;
	SET ROLE pgn_owner;
	SELECT pigeon.redrive('dead', 'paid', max_per_second => 1), pigeon.replay(:subscription, '-infinity', max_per_second => 1)});

sub tasks
{
	my ($database) = @_;

	return $node->safe_psql($database, q{
		SELECT status, moved, failure_reason FROM pigeon.redrive_tasks;
		SELECT status, replayed, failure_reason FROM pigeon.replay_tasks});
}

sub bodies
{
	my ($database) = @_;

	return $node->safe_psql($database, q{
		SELECT string_agg(body, ',' ORDER BY body) FROM unnest('{own,paid}'::text[]) AS q, pigeon.peek(q, 100)});
}

is(tasks('postgres'), "RUNNING|1|\nRUNNING|1|", 'two tasks have begun');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, 'postgres' ], 'dump');

# What is restored when: the tasks first of all data, rights last, as it may happen.
sub part_of
{
	my ($type, $rest) = $_[0] =~ /^\d+; \d+ \d+ (TABLE DATA|SEQUENCE SET|[A-Z]+) (.*)/
	  or die "no entry of a dump: $_[0]";

	return 'rights' if $type eq 'ACL';
	return 'numbers' if $type eq 'SEQUENCE SET';
	return $rest =~ /_task / ? 'tasks' : 'data' if $type eq 'TABLE DATA';
	return 'indexes' if $type =~ /^(INDEX|CONSTRAINT)$/;
	return 'tables';
}

my %parts;
my ($list) = run_command([ 'pg_restore', '-l', $dump ]);
push @{ $parts{ part_of($_) } }, $_ foreach grep { !/^;/ } split /\n/, $list;

foreach my $part (keys %parts)
{
	append_to_file("$directory/$part", join("\n", @{ $parts{$part} }, ''));
}

sub restore
{
	my ($database, $part) = @_;

	$node->command_ok([ 'pg_restore', '--exit-on-error', '-L', "$directory/$part", '-d', $node->connstr($database), $dump ],
		"$part are restored");
	# It warns of what cannot be maintained yet.
	is($node->psql($database, q{CALL pigeon.maintain()}, stderr => \my $warnings), 0, 'maintenance does not mind');
	return;
}

sub check_restore
{
	my ($database) = @_;

	restore($database, 'tables');
	restore($database, 'tasks');
	is(tasks($database), "RUNNING|1|dead-letter queue does not exist any more\nRUNNING|1|topic does not exist any more",
		'the tasks wait for what is not there');
	is($node->safe_psql($database, q{BEGIN; SET ROLE pgn_owner; SELECT pigeon.cancel_replay(r.task_id), pigeon.cancel_redrive(t.task_id)
		FROM pigeon.replay_tasks r, pigeon.redrive_tasks t; ROLLBACK}), '1|1', 'who started them can stop them');
	restore($database, 'data');
	like(tasks($database), qr/^RUNNING\|1\|.*\nRUNNING\|1\|.*$/, 'and for the rest');
	restore($database, 'indexes');
	is(tasks($database), qq{RUNNING|1|no right to send to queue "paid"
RUNNING|1|the sequence of message numbers is not restored yet}, 'for numbers of messages');
	restore($database, 'numbers');
	is(tasks($database), qq{RUNNING|1|no right to send to queue "paid"
RUNNING|1|the owner of the subscription cannot get messages to its queue}, 'and for rights');
	is(bodies($database), 'letter 1,order 1', 'nothing has moved meanwhile');
	restore($database, 'rights');
	for (my $patience = $PostgreSQL::Test::Utils::timeout_default; $patience > 0 && tasks($database) =~ /RUNNING/; $patience--)
	{
		$node->safe_psql($database, q{CALL pigeon.maintain(); SELECT pg_sleep(1)});
	}
	is(tasks($database), "COMPLETED|3|\nCOMPLETED|3|", 'then they go on');
	is(bodies($database), 'letter 1,letter 2,letter 3,order 1,order 2,order 3', 'to the end');
	is($node->safe_psql($database, q{SELECT count(*) FROM pigeon.check(); SELECT count(*) FROM pigeon.peek('dead')}),
		"0\n0", 'all is well');
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE restored');
check_restore('restored');

# A task that was not restored does not wait.
$node->safe_psql('postgres', q{SELECT pigeon.revoke_access('paid', 'pgn_owner', '{send}'), pigeon.alter_topic('orders', archive_retention => '0'); CALL pigeon.maintain()});
is(tasks('postgres'), qq{FAILED|1|no right to send to queue "paid"\nFAILED|1|topic has no archive any more}, 'it fails');

# Into the same database: the tasks are those of another extension.
$node->safe_psql('postgres', 'DROP EXTENSION pigeon CASCADE');
check_restore('postgres');

done_testing();
