# A dump that began before messages were deleted has their bodies, although
# it locks the tables of the message log only later: a segment is not
# truncated under an older snapshot, for a while.

use strict;
use warnings;

use IPC::Run;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'pigeon.max_workers = 0', 'autovacuum = off');
my $dumps = PostgreSQL::Test::Utils::tempdir;

# A table that pg_dump locks before those of the log.
$node->safe_psql('postgres', q{
	CREATE TABLE first_to_be_locked ();
	CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('q')});

# Sends messages, and makes the next segment current.
sub send_and_seal
{
	$node->safe_psql('postgres', q{
		SELECT count(pigeon.send('q', 'body ' || i)) FROM generate_series(1, 1000) AS i;
		UPDATE pigeon.log_state SET current_since = '2000-01-01'});
	$node->safe_psql('postgres',
		q{INSERT INTO pigeon.log_state VALUES (true, 0, '2000-01-01') ON CONFLICT DO NOTHING});
	$node->safe_psql('postgres', 'CALL pigeon.maintain()');
	return;
}

# Deletes some messages, and maintains the log until it is as small as it gets.
sub pop_and_maintain
{
	my ($n) = @_;

	$node->safe_psql('postgres', "SELECT count(*) FROM pigeon.pop('q', $n)");
	$node->safe_psql('postgres', 'CALL pigeon.maintain()') foreach 1 .. 2;
	return;
}

# The number of sealed segments that are not empty.
sub sealed
{
	return $node->safe_psql('postgres', q{
		SELECT count(*) FROM generate_series(0, 7) AS i WHERE pg_relation_size(('pigeon.log_' || i)::regclass) > 0
		AND i <> (SELECT current_segment FROM pigeon.log_state)});
}

# The bodies that a session finds for the deliveries that it sees.
my $bodies = q{
	SELECT count(DISTINCT body) FROM pigeon.q_1 JOIN (} . join(' UNION ALL ',
	map { "SELECT message_id, body FROM pigeon.log_$_" } 0 .. 7, 'old') . q{) AS log USING (message_id)};

# Nobody has an older snapshot
send_and_seal();
is(sealed(), 1, 'a segment is sealed');
pop_and_maintain(1000);
is(sealed(), 0, 'it is truncated at once');

# A snapshot older than the deletes, and no lock
send_and_seal();
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
pop_and_maintain(900);
is(sealed(), 1, 'a segment is kept for an older snapshot');
is($reader->query_safe($bodies), 1000, 'which finds all bodies');
$reader->query_safe('COMMIT');
is($node->safe_psql('postgres', $bodies), 100, 'newer snapshots find what is left');
$node->safe_psql('postgres', 'CALL pigeon.maintain()');
is(sealed(), 0, 'it is truncated when the snapshot is gone');
is($node->safe_psql('postgres', $bodies), 100, 'and nothing is missing');

# A snapshot that is held for too long
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
send_and_seal();
pop_and_maintain(1100);
is(sealed(), 1, 'a segment is kept for an older snapshot again');
$node->append_conf('postgresql.conf', 'pigeon.log_snapshot_threshold = 0');
$node->reload;
$node->poll_query_until('postgres', 'SHOW pigeon.log_snapshot_threshold', '0')
  or die 'the setting did not change';
$node->safe_psql('postgres', 'CALL pigeon.maintain()');
is(sealed(), 0, 'but not for longer than pigeon.log_snapshot_threshold');
$reader->query_safe('COMMIT');
$node->append_conf('postgresql.conf', "pigeon.log_snapshot_threshold = '1 min'");
$node->reload;

# A dump that waits for a lock
send_and_seal();
$reader->query_safe('BEGIN; LOCK TABLE first_to_be_locked');
my $dump = IPC::Run::start([ 'pg_dump', '-Fc', '-f', "$dumps/dump", '-d', $node->connstr('postgres') ]);
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted})
  or die 'pg_dump does not wait';
pop_and_maintain(1000);
is(sealed(), 1, 'a segment is kept for a pg_dump that waits');
$reader->query_safe('COMMIT');
ok($dump->finish, 'pg_dump ends');
$node->safe_psql('postgres', 'CALL pigeon.maintain()');
is(sealed(), 0, 'then it is truncated');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'restored', "$dumps/dump" ], 'the dump is restored');
is($node->safe_psql('restored', q{SELECT count(DISTINCT body) FROM pigeon.pop('q', 2000)}),
	1000, 'and has all bodies');

# While segments wait for a snapshot, the ring must last as long as they wait.
my $maintainer = $node->background_psql('postgres');

# Sends more than a small segment holds, maintains the log, and tells which segment is current then.
sub current_after_much
{
	$node->safe_psql('postgres', q{SELECT pigeon.send_batch('q', array_fill(repeat('x', 1000), ARRAY[4000]))});
	$maintainer->query_safe('CALL pigeon.maintain()');
	$maintainer->query_safe('CALL pigeon.maintain()');
	return $node->safe_psql('postgres', 'SELECT current_segment FROM pigeon.log_state');
}

send_and_seal();
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
pop_and_maintain(2000);
$node->safe_psql('postgres', q{UPDATE pigeon.log_unused SET since = since - interval '10 min'});
$maintainer->query_safe('CALL pigeon.maintain()');
is(sealed(), 0, 'a segment is truncated that has waited for ten minutes');
send_and_seal();
pop_and_maintain(2000);
is(sealed(), 1, 'another one waits');
my $current = $node->safe_psql('postgres', 'SELECT current_segment FROM pigeon.log_state');
is(current_after_much(), $current, 'the next one becomes larger than otherwise');
$node->safe_psql('postgres', q{UPDATE pigeon.log_state SET current_since = current_since - interval '100 s'});
isnt(current_after_much(), $current, 'until a good part of that time is over');
$reader->query_safe('COMMIT');
$current = current_after_much();
isnt(current_after_much(), $current, 'it is as small as ever when nothing waits');

$maintainer->quit;
$reader->quit;
done_testing();
