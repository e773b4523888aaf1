# Eight clients send, receive, delete, fail, roll back, redrive and maintain at
# the same time, while messages go to the dead-letter queue and back, the
# message log rotates, and all is well whenever somebody checks.  In the end every message that was sent must have been
# taken once or be in one of the queues, with its body.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SECONDS => 10;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = new_server('main', 'log_statement = none', 'pigeon.log_segment_size = 64kB');

# How often each script runs, as a share of all.
my %weights = (send => 6, take => 2, fail => 2, roll_back => 1, redrive => 1, maintain => 1, check => 1);

$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	CREATE TABLE sent (message_id bigint, body text);
	CREATE TABLE taken (message_id bigint, body text);
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('work', dead_letter_queue => 'dead', max_receive_count => 2)});

my %scripts = (
	send => q{
		\set n random(1, 1000000000)
		INSERT INTO sent SELECT pigeon.send('work', repeat(md5(:n::text), 30)), repeat(md5(:n::text), 30);},
	take => q{
		BEGIN;
		WITH message AS MATERIALIZED (SELECT * FROM pigeon.receive('work', 3)),
			 done AS MATERIALIZED (SELECT *, pigeon.delete('work', receipt) AS deleted FROM message)
		INSERT INTO taken SELECT message_id, body FROM done WHERE deleted;
		COMMIT;},
	fail => q{SELECT count(*) FROM pigeon.receive('work', 2, visibility_timeout => '0');},
	roll_back => q{
		BEGIN;
		SELECT count(*) FROM pigeon.pop('work', 5);
		SELECT pigeon.send('work', 'never');
		ROLLBACK;},
	redrive => q{
		DO $$ BEGIN
			PERFORM pigeon.redrive('dead');
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			NULL;	-- another one is still running
		END $$;
		CALL pigeon.maintain();},
	maintain => q{CALL pigeon.maintain();},
	check => q{
		DO $$
		DECLARE
			p record;
		BEGIN
			FOR p IN SELECT * FROM pigeon.check() LOOP
				RAISE EXCEPTION '% %', p.object, p.problem;
			END LOOP;
		END $$;});

append_to_file("$dir/$_.sql", $scripts{$_}) foreach keys %scripts;

$node->command_ok(
	[
		'pgbench', '-n', '-c8', '-j2', '-T' . SECONDS, '-d', 'postgres',
		map { ('-f', "$dir/$_.sql\@$weights{$_}") } keys %scripts
	],
	'no client fails');

my $sql = sub { $node->safe_psql('postgres', $_[0]) };
all_is_well($node, 'postgres', 'all is well after that');

# What is left, both queues together.
$sql->(q{
	CREATE TABLE remaining AS
		SELECT message_id, body FROM pigeon.peek('work', 100000)
		UNION ALL
		SELECT message_id, body FROM pigeon.peek('dead', 100000)});
is($sql->(q{SELECT * FROM sent EXCEPT ALL (TABLE taken UNION ALL TABLE remaining)}),
	'', 'nothing is lost or altered');
is($sql->(q{(TABLE taken UNION ALL TABLE remaining) EXCEPT ALL SELECT * FROM sent}),
	'', 'nothing is doubled or made up');
cmp_ok($sql->(q{SELECT count(*) FROM taken}), '>', 0, 'messages were taken');
cmp_ok($sql->(q{SELECT sum(moved) FROM pigeon.redrive_tasks WHERE status = 'COMPLETED'}),
	'>', 0, 'messages came back from the dead-letter queue');

# Taking the rest leaves both queues and, after maintenance, the log empty.
$sql->(q{SELECT count(*) FROM pigeon.pop('dead', 100000)});
$sql->(q{SELECT pigeon.purge_queue('work')});
$sql->('CALL pigeon.maintain()');
is($sql->(q{SELECT count(*) FROM pigeon.queues, pigeon.peek(queue)}), '0', 'the queues are empty');
is($sql->(q{SELECT count(*) FROM pigeon.log_old}), '0', 'no message lives on in the log');
all_is_well($node, 'postgres', 'all is well in the end');

done_testing();
