# Queues of an extension that was dropped leave their room in shared memory to
# others.

use strict;
use warnings;

use PigeonTest;
use Test::More;

my $node = new_server('main', 'pigeon.max_queues = 4');

sub sql
{
	my ($sql, $database) = @_;

	return $node->safe_psql($database // 'postgres', $sql);
}

sql(q{CREATE DATABASE other});
sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('q' || n), pigeon.send('q' || n, 'x') FROM generate_series(1, 4) AS n}, 'other');
is(sql(q{SELECT string_agg(sent::text, ' ') FROM pigeon.queue_metrics}, 'other'), '1 1 1 1', 'four queues are counted');
sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('fifth') \g /dev/null
	SELECT pigeon.send('fifth', 'x')});
is(sql(q{SELECT sent IS NULL FROM pigeon.queue_metrics}), 't', 'a fifth has no room');
sql(q{DROP EXTENSION pigeon CASCADE}, 'other');
ok($node->poll_query_until('postgres', q{SELECT pigeon.send('fifth', 'x') \g /dev/null
	SELECT sent > 0 FROM pigeon.queue_metrics}), 'until they are dropped with the extension');

$node->stop;
done_testing();
