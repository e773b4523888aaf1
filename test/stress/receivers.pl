# Eight clients receive from one queue in every way at the same time, few and
# many, and send, for noisy tenants and others, delay, let leases run out and
# roll back: each message is taken once, with its body, and none is below the
# scan frontier.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SECONDS => 15;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main', 'log_statement = none');

# How often each script runs, as a share of all.
my %weights = (send => 4, one => 6, pop => 2, many => 1, few => 2, lease => 2, roll_back => 3);

$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE TABLE sent (message_id bigint, body text);
	CREATE TABLE taken (message_id bigint, body text);
	SELECT pigeon.create_queue('work', visibility_timeout => '50 ms')});

my %scripts = (
	send => q{
		\set n random(1, 40)
		\set tenant random(1, 10)
		INSERT INTO sent SELECT pigeon.send_batch('work', array_fill(:n::text, ARRAY[:n]),
			group_ids => array_fill((ARRAY['a', 'a', 'b', 'b', 'c', 'd', 'e', 'f'])[:tenant], ARRAY[:n]), delay => make_interval(secs => random() * 0.02)), :n;},
	one => q{
		INSERT INTO taken SELECT message_id, body FROM pigeon.receive('work') WHERE pigeon.delete('work', receipt);},
	pop => q{
		\set n random(1, 30)
		INSERT INTO taken SELECT message_id, body FROM pigeon.pop('work', :n);},
	many => q{
		WITH message AS MATERIALIZED (SELECT receipt, message_id, body FROM pigeon.receive('work', 40)),
			 done AS MATERIALIZED (SELECT pigeon.delete('work', (SELECT array_agg(receipt ORDER BY random()) FROM message)) AS answers)
		INSERT INTO taken SELECT message_id, body FROM message, done WHERE true = ALL (answers);},
	few => q{
		SELECT count(*) FROM pigeon.receive('work', 16);},
	lease => q{
		\set n random(1, 10)
		SELECT count(*) FROM pigeon.receive('work', :n, '3 ms');},
	roll_back => q{
		\set n random(1, 20)
		BEGIN;
		SELECT count(*) FROM pigeon.receive('work', :n);
		ROLLBACK;});

append_to_file("$dir/$_.sql", $scripts{$_}) foreach keys %scripts;

$node->command_ok(
	[
		'pgbench', '-n', '-c8', '-j2', '-T' . SECONDS, '-d', 'postgres',
		map { ('-f', "$dir/$_.sql\@$weights{$_}") } keys %scripts
	],
	'no client fails');

# All is due by now, and a receive finds it wherever it is.
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$sql->('SELECT pg_sleep(0.1)');
all_is_well($node, 'postgres', 'nothing is hidden');
is($sql->(q{SELECT count(*) - count(DISTINCT message_id) FROM pigeon.q_1}), '0', 'each delivery is there once');
$sql->('CREATE EXTENSION amcheck');
is($sql->(q{SELECT msg FROM verify_heapam('pigeon.q_1')}), '', 'the table is sound');
$sql->('REINDEX TABLE pigeon.q_1');
$sql->(q{INSERT INTO taken SELECT message_id, body FROM pigeon.pop('work', 100000)});
is($sql->(q{SELECT count(*) FROM pigeon.peek('work')}), '0', 'nothing is left');
is($sql->(q{SELECT * FROM sent EXCEPT ALL TABLE taken}), '', 'nothing is lost or altered');
is($sql->(q{TABLE taken EXCEPT ALL TABLE sent}), '', 'nothing is doubled or made up');

done_testing();
