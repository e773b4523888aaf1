# The worker comes to a FIFO queue often.  It does not read again each time what
# is long: deduplication keys, which it forgets in steps when they have expired,
# and the messages, of which deleted ones stay while a snapshot is held.

use strict;
use warnings;

use PigeonTest;
use Test::More;

my $node = new_server('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# More pages of keys than one step reads; the last ones are valid.
sql('CREATE EXTENSION pigeon');
sql(q{SELECT pigeon.create_queue('dead', fifo => true)});
sql(q{SELECT pigeon.create_queue('a', fifo => true, deduplication_window => '1 d',
	dead_letter_queue => 'dead', max_receive_count => 1)});
my $id = sql(q{SELECT id FROM pigeon.queue WHERE name = 'a'});
sql(qq{
	INSERT INTO pigeon.d_$id SELECT n, n, n, clock_timestamp() + CASE WHEN n > 299000 THEN interval '1 h' ELSE '-1 h' END
	FROM generate_series(1, 300000) AS n});
cmp_ok(sql("SELECT pg_relation_size('pigeon.d_$id') / 8192"), '>', 2048, 'keys for several steps');

# Has the worker move a dead letter.
sub have_letter_moved
{
	my ($body) = @_;

	sql(qq{SELECT pigeon.send('a', '$body', group_id => '$body', deduplication_id => '$body');
		SELECT pigeon.receive('a', 10, visibility_timeout => '1 s')});
	ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pigeon.peek('dead', 100) WHERE body = '$body'"),
		"the worker moves the $body letter");
	return;
}

# A worker that knows nothing of the queue begins at once.
$node->restart;
sql(q{SELECT pigeon.send('a', 'x', group_id => 'g', deduplication_id => 'x')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 1001 FROM pigeon.d_$id"), 'keys that have expired go, others stay');

# What becomes due in the queue meanwhile does not have them read again.
sql("UPDATE pigeon.d_$id SET expires_at = clock_timestamp()");
have_letter_moved('second');
is(sql("SELECT count(*) FROM pigeon.d_$id"), '1002', 'keys are left for later');
sql('CALL pigeon.maintain()');
is(sql("SELECT count(*) FROM pigeon.d_$id"), '1', 'maintain() forgets them at once, but for the one of the letter');

# So many entries has anybody read in the index by which the worker looks for expired messages.
sub entries_read
{
	return sql("SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelid = 'pigeon.q_${id}_pkey'::regclass");
}

my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql(q{SELECT pigeon.send_batch('a', array_agg('x'::text), group_ids => array_agg('g'::text),
	deduplication_ids => array_agg(n::text)) FROM generate_series(1, 30000) AS n});
sql(q{SELECT count(*) FROM pigeon.pop('a', 30000); SELECT pg_stat_force_next_flush()});
my $before = entries_read();
sql(q{SELECT pigeon.alter_queue('a', retention => '3 days')});
ok($node->poll_query_until('postgres', "SELECT idx_tup_read >= $before + 30000 FROM pg_stat_user_indexes"
	. " WHERE indexrelid = 'pigeon.q_${id}_pkey'::regclass"), 'the worker passes over deleted messages');
$before = entries_read();
have_letter_moved('third');
$reader->quit;
# The worker reports what it has read when it ends; no other one is to follow.
$node->append_conf('postgresql.conf', 'pigeon.max_workers = 0');
$node->restart;
cmp_ok(entries_read(), '<', $before + 10000, 'but not each time');

$node->stop;
done_testing();
