# A noisy tenant does not stay so: what it has sent counts half as much after five
# minutes, and not at all if it sends nothing for as long. There is a backlog all
# the time.

use strict;
use warnings;

use PigeonClock;
use PigeonTest;
use Test::More;

my $node = new_server_with_clock('main', 'log_statement = none');
sub sql { return $node->safe_psql('postgres', $_[0]) }

# Who sends that many messages, or one, to the queue of that name.
sub send_to
{
	my ($queue, $n) = @_;
	sql(qq{SELECT count(*) FROM pigeon.send_batch('$queue', array_fill('x'::text, ARRAY[$n]),
		group_ids => array_fill('tenant'::text, ARRAY[$n]))});
}

# How many noisy tenants the queues have.
sub noisy { return sql(q{SELECT string_agg(queue || ' ' || noisy_groups, ', ' ORDER BY queue) FROM pigeon.queue_metrics}) }

sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('few'); SELECT pigeon.create_queue('many')});
send_to('few', 60);
send_to('many', 600);
is(noisy(), 'few 1, many 1', 'both are noisy');

set_clock(240);
send_to('few', 1);
send_to('many', 1);
is(noisy(), 'few 1, many 1', 'and after four minutes, when they send one more');

set_clock(480);
is(noisy(), 'few 0, many 1', 'after eight minutes there are less than thirty of sixty, and more of six hundred');
send_to('many', 1);
set_clock(480 + 270);
is(noisy(), 'few 0, many 1', 'that tenant is noisy for less than five minutes more');
set_clock(480 + 310);
is(noisy(), 'few 0, many 0', 'while it sends nothing');
send_to('many', 1);
is(noisy(), 'few 0, many 1', 'when it goes on it is noisy again');

# Messages stay where they are, and are there for all who come.
is(sql(q{SELECT count(*) FROM pigeon.receive('many', 1000)}), '603', 'all are received');
all_is_well($node, 'postgres', 'all is well');

done_testing();
