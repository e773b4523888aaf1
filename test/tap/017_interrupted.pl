# A receive is cancelled, or its backend ended, between the steps in which it
# makes other receives start further on.  What came to life meanwhile must not
# be hidden from them.

use strict;
use warnings;

use PigeonDebugger;
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'pigeon.max_workers = 0');
my $reason = why_no_debugger($node);
plan skip_all => $reason if $reason;
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE EXTENSION pigeon});

# A receive passes what was deleted, and is about to advance the frontier over
# it; a message comes there, and the receive is interrupted.
foreach my $how ('cancel', 'terminate')
{
	my $queue = $how;
	sql(qq{SELECT pigeon.create_queue('$queue')});
	my $table = sql(qq{SELECT queue_table FROM pigeon.queues WHERE queue = '$queue'});
	sql(qq{SELECT pigeon.send('$queue', 'deleted')});
	sql(qq{SELECT count(*) FROM pigeon.pop('$queue')});
	# Who finds nothing looks below the frontier, once a minute.
	sql(qq{SELECT count(*) FROM pigeon.pop('$queue')});
	my $place = sql(q{SELECT clock_timestamp()});
	sql(qq{SELECT pigeon.send('$queue', 'first')});
	sql(qq{SELECT pigeon.send('$queue', 'second')});

	my $session = $node->background_psql('postgres', on_error_stop => 0, on_error_die => 0);
	my $pid = $session->query('SELECT pg_backend_pid()');
	my $gone = sub {
		sql(qq{UPDATE $table SET due_at = '$place' WHERE message_id = (SELECT max(message_id) FROM $table)});
		sql("SELECT pg_${how}_backend($pid)");
	};
	my $said = eval { stopped_at($session, 'pgn_frontier_advance if lane == 0', qq{SELECT count(*) FROM pigeon.receive('$queue')}, $gone) };
	eval { $session->quit };
	like($said, qr/57014/, "$how: the receive is interrupted") if $how eq 'cancel';
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid")
	  or die 'the session has not ended';
	is(sql(qq{SELECT string_agg(problem, '; ') FROM pigeon.check()}), '', "$how: nothing is hidden");
	is(sql(qq{SELECT string_agg(body, ',' ORDER BY body) FROM pigeon.pop('$queue', 10)}), 'first,second', "$how: all is received");
}

# Dead entries that nobody can remove: a look below the frontier that finds
# nothing, or is interrupted, does not make receives walk over them.
my $reader = $node->background_psql('postgres');
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{CREATE FUNCTION buffers_of_receive(queue text) RETURNS integer LANGUAGE plpgsql AS $$
	DECLARE plan json;
	BEGIN
		EXECUTE format('EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM pigeon.receive(%L)', queue) INTO plan;
		RETURN (plan -> 0 -> 'Plan' ->> 'Shared Hit Blocks')::integer + (plan -> 0 -> 'Plan' ->> 'Shared Read Blocks')::integer;
	END $$;
	SELECT pigeon.create_queue('walked'), pigeon.create_queue('groups', fifo => true, content_based_deduplication => true);
	SELECT pigeon.send_batch('walked', array_fill('x'::text, ARRAY[20000])) \\g /dev/null
	SELECT pigeon.send_batch('groups', array_agg('m' || n), group_ids => array_agg('g' || n)) FROM generate_series(1, 4000) AS n \\g /dev/null
	DO $do$ BEGIN
		FOR i IN 1 .. 400 LOOP
			PERFORM count(*) FROM pigeon.pop('walked', 50);
			COMMIT;
			PERFORM count(*) FROM pigeon.pop('groups', 10);
			COMMIT;
		END LOOP;
	END $do$});
my $session = $node->background_psql('postgres', on_error_stop => 0, on_error_die => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
like(stopped_at($session, 'pgn_due_scan_begin if lane == 0 && from < -9000000000000000000', q{SELECT count(*) FROM pigeon.receive('walked')},
	sub { sql("SELECT pg_cancel_backend($pid)") }), qr/57014/, 'a look below the frontier is interrupted');
$session->quit;
is(sql(q{SELECT count(*) FROM pigeon.receive('groups')}), '0', 'another finds nothing');
foreach my $queue ('walked', 'groups')
{
	cmp_ok(sql("SELECT buffers_of_receive('$queue')"), '<', 400, "$queue: receives start where they did");
}
$reader->quit;

all_is_well($node, 'postgres', 'all is well');
done_testing();
