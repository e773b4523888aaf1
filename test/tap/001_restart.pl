# Queues, messages, leases, receipts and prepared transactions survive a clean
# restart and a crash.

use strict;
use warnings;

use PigeonTest;
use Test::More;

my $node = new_server('main');
my @receipts = fill($node, 'postgres');
$node->safe_psql('postgres', q{
	SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true, visibility_timeout => '1 h');
	SELECT pigeon.send('fifo', name || n, group_id => name) FROM generate_series(1, 3) AS n, unnest('{a,b,c}'::text[]) AS name;
	SELECT pigeon.receive('fifo', 2)});
my $before = state($node, 'postgres');
$node->restart;
is(state($node, 'postgres'), $before, 'clean restart: nothing changed');
$node->stop('immediate');
$node->start;
is(state($node, 'postgres'), $before, 'crash: nothing changed');

is($node->safe_psql('postgres', q{SELECT string_agg(body, ' ') FROM pigeon.receive('fifo', 10)}), 'b1 b2 b3 c1 c2 c3',
	'groups have their order, and one is in flight');
$node->safe_psql('postgres', q{SELECT pigeon.drop_queue('fifo')});
$before = state($node, 'postgres');

# An acknowledged send, lease and delete, with nothing after it.
$node->safe_psql('postgres', q{SELECT pigeon.create_queue('scratch')});
$node->safe_psql('postgres', q{SELECT pigeon.send('scratch', 'last words')});
$node->stop('immediate');
$node->start;
my $receipt = $node->safe_psql('postgres', q{
	SET pigeon.durable_leases = on;
	SELECT receipt FROM pigeon.receive('scratch') WHERE body = 'last words'});
isnt($receipt, '', 'crash: an acknowledged send is kept');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.receive('scratch')}),
	'0', 'crash: a durable lease is kept');
is($node->safe_psql('postgres', qq{SELECT pigeon.delete('scratch', '$receipt')}),
	't', 'crash: its receipt deletes');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.peek('scratch')}),
	'0', 'crash: an acknowledged delete is kept');

# A lease that is not durable may be lost, its message may not.
$node->safe_psql('postgres', q{SELECT pigeon.send('scratch', 'leased')});
$node->safe_psql('postgres', q{SELECT pigeon.receive('scratch')});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT string_agg(body, ',') FROM pigeon.peek('scratch')}),
	'leased', 'crash: what was leased is kept');
$node->safe_psql('postgres', q{SELECT pigeon.purge_queue('scratch')});

# Numbers of messages that were written ahead of a checkpoint, or used since.
for my $sizes ([1, 1], [1, 5], [40, 1], [3, 100])
{
	my ($first, $second) = @$sizes;
	my $send = q{SELECT max(id) FROM pigeon.send_batch('scratch', array_fill('x'::text, ARRAY[%d])) AS id};
	$node->safe_psql('postgres', sprintf($send, $first));
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $last = $node->safe_psql('postgres', sprintf($send, $second));
	$node->stop('immediate');
	$node->start;
	cmp_ok($node->safe_psql('postgres', sprintf($send, 1)), '>', $last,
		"crash: no message gets the number of another one ($first, a checkpoint, $second)");
}
is($node->safe_psql('postgres', q{SELECT pigeon.purge_queue('scratch')}), 156, 'all of them are there');

# The page of the sequence on disk may be newer than its last record, and replay must not stop at that.
$node->append_conf('postgresql.conf', "full_page_writes = off\nshared_buffers = '1MB'");
$node->restart;
$node->safe_psql('postgres', q{
	CREATE TABLE many (id integer PRIMARY KEY, filler text);
	INSERT INTO many SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) AS n;
	CHECKPOINT;
	SELECT pigeon.send('scratch', 'x');
	SET enable_seqscan = off; SET enable_bitmapscan = off;
	SELECT count(filler) FROM many WHERE id > 0;
	SELECT count(filler) FROM many WHERE id > 0;});
my $last = $node->safe_psql('postgres', q{SELECT max(pigeon.send('scratch', 'x')) FROM generate_series(1, 10)});
$node->stop('immediate');
$node->start;
cmp_ok($node->safe_psql('postgres', q{SELECT pigeon.send('scratch', 'x')}), '>', $last,
	'crash: no number is used again, though the page was written since');
is($node->safe_psql('postgres', q{SELECT pigeon.purge_queue('scratch')}), 12, 'all of them are there');
$node->append_conf('postgresql.conf', "full_page_writes = on\nshared_buffers = '128MB'");
$node->restart;
$node->safe_psql('postgres', 'DROP TABLE many');

# A crash in the middle of a transaction undoes all of it.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query(q{
	SELECT pigeon.send('scratch', 'before') \g /dev/null
	BEGIN;
	SELECT count(*) FROM pigeon.pop('scratch');
	SELECT pigeon.send('scratch', 'never');});
$node->stop('immediate');
$node->start;
$session->{run}->kill_kill;
is($node->safe_psql('postgres', q{SELECT string_agg(body, ',') FROM pigeon.pop('scratch', 10)}),
	'before', 'crash: an open transaction left nothing');

# Prepared transactions hold on to what they did.
$node->safe_psql('postgres', q{
	SELECT pigeon.send('scratch', 'to delete');
	BEGIN; SELECT pigeon.send('scratch', 'prepared'); PREPARE TRANSACTION 'send';
	BEGIN; SELECT pigeon.pop('scratch'); PREPARE TRANSACTION 'pop'});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.receive('scratch')}),
	'0', 'crash: prepared, but not committed');
$node->safe_psql('postgres', q{COMMIT PREPARED 'send'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'pop'});
is($node->safe_psql('postgres', q{SELECT string_agg(body, ',') FROM pigeon.pop('scratch', 10)}),
	'prepared', 'crash: prepared transactions can be committed');

$node->safe_psql('postgres', q{SELECT pigeon.drop_queue('scratch')});
is(state($node, 'postgres'), $before, 'nothing else changed');
check_filled($node, 'postgres', 'after all that', @receipts);

done_testing();
