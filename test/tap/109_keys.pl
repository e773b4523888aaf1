# The worker forgets the deduplication keys of a FIFO queue that have expired,
# in steps, and does not read those that are left again at each occasion.

use strict;
use warnings;

use PigeonTest;
use Test::More;

my $node = new_server('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# More pages of keys than one step reads; the last ones are valid.
sql('CREATE EXTENSION pigeon');
sql(q{SELECT pigeon.create_queue('a', fifo => true, deduplication_window => '1 d')});
my $id = sql(q{SELECT id FROM pigeon.queue WHERE name = 'a'});
sql(qq{
	INSERT INTO pigeon.d_$id SELECT n, n, n, clock_timestamp() + CASE WHEN n > 299000 THEN interval '1 h' ELSE '-1 h' END
	FROM generate_series(1, 300000) AS n});
cmp_ok(sql("SELECT pg_relation_size('pigeon.d_$id') / 8192"), '>', 2048, 'keys for several steps');

# A worker that knows nothing of the queue begins at once.
$node->restart;
sql(q{SELECT pigeon.send('a', 'x', group_id => 'g', deduplication_id => 'x')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 1001 FROM pigeon.d_$id"), 'keys that have expired go, others stay');

# What becomes due in the queue meanwhile does not have them read again.
sql("UPDATE pigeon.d_$id SET expires_at = clock_timestamp()");
sql("UPDATE pigeon.q_$id SET enqueued_at = enqueued_at - interval '2 h'");
sql(q{SELECT pigeon.alter_queue('a', retention => '1 h')});
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pigeon.q_$id"), 'a message is removed');
is(sql("SELECT count(*) FROM pigeon.d_$id"), '1001', 'keys are left for later');
sql('CALL pigeon.maintain()');
is(sql("SELECT count(*) FROM pigeon.d_$id"), '0', 'maintain() forgets them at once');

$node->stop;
done_testing();
