# A noisy tenant does not stay so: what it has sent counts half as much after five
# minutes, and not at all if it sends nothing for as long, while there is a
# backlog. What is in flight counts, however long. Its messages wait in lanes
# of their own, and are found there at once.

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
is(noisy(), 'few 0, many 0', 'when it goes on it begins anew');

# Messages stay where they are, and are there for all who come.
is(sql(q{SELECT count(*) FROM pigeon.receive('many', 1000)}), '603', 'all are received');

# A tenant keeps a hundred in flight, each for ten minutes.
my $start = 480 + 310;
sql(q{SELECT pigeon.drop_queue('few'); SELECT pigeon.drop_queue('many');
	SELECT pigeon.create_queue('steady', visibility_timeout => '1 h');
	CREATE TABLE held (minute integer, receipt pigeon.receipt)});
sub receive
{
	my ($n, $minute) = @_;
	sql(qq{INSERT INTO held SELECT $minute, receipt FROM pigeon.receive('steady', $n)});
}
send_to('steady', 1);
sql(q{SELECT count(*) FROM pigeon.send_batch('steady', array_fill('x'::text, ARRAY[4000]))});
send_to('steady', 230);
sql(q{SELECT count(*) FROM pigeon.pop('steady', 4001)});
receive(10, $_) foreach 1 .. 10;
foreach my $minute (1 .. 12)
{
	set_clock($start + 60 * $minute);
	is(sql(qq{SELECT count(*) FILTER (WHERE pigeon.delete('steady', receipt)) FROM held WHERE minute = $minute}), '10', 'ten are done');
	receive(10, $minute + 10);
	send_to('steady', 1);
}
is(noisy(), 'steady 1', 'all the time');
sql(q{SELECT pigeon.delete('steady', (SELECT array_agg(receipt) FROM held WHERE minute > 12))});
is(noisy(), 'steady 0', 'and less when all is done');

# The clock is set back: who sends much is noisy none the less.
set_clock($start - 7200);
sql(q{SELECT pigeon.create_queue('back')});
send_to('back', 100);
set_clock($start - 14400);
send_to('back', 100);
is(noisy(), 'back 1, steady 0', 'when the clock has been set back, too');

# The lanes of the noisy: look ahead when nothing is due, leases in place.
sql(q{SELECT pigeon.create_queue('lanes', visibility_timeout => '30 min')});
send_to('lanes', 100);
is(sql(q{SELECT count(*) FROM pigeon.receive('lanes', 100, '2 h')}), '100', 'a tenant has much in flight');
foreach my $n (1 .. 20)
{
	is(sql(q{SELECT body FROM pigeon.receive('lanes', 10)}), '', 'nothing is due');
	is(sql(qq{SELECT pigeon.send('lanes', '$n', group_id => 'tenant') \\g /dev/null
		SELECT body FROM pigeon.receive('lanes', 10)}), $n, 'what is sent is received at once');
}
is(sql(q{SELECT lane, visible_at > due_at, count(*) FROM pigeon.q_5 WHERE visible_at < now() + interval '1 h' GROUP BY 1, 2}), '3|t|20', 'and leased in place, in a lane for noisy tenants');
set_clock($start - 14400 + 1801);
is(sql(q{SELECT string_agg(body, ' ' ORDER BY message_id) FROM pigeon.receive('lanes', 100)}), join(' ', 1 .. 20), 'until that ends');
all_is_well($node, 'postgres', 'all is well');

done_testing();
