# Queues, messages, leases, receipts and prepared transactions survive a clean
# restart and a crash.

use strict;
use warnings;

use PigeonTest;
use Test::More;

my $node = new_server('main');
my @receipts = fill($node, 'postgres');

# Whatever committed after a lease makes the lease durable, so it is part of
# what a crash must not lose.
$node->safe_psql('postgres', 'CREATE TABLE marker ()');

my $before = state($node, 'postgres');
$node->restart;
is(state($node, 'postgres'), $before, 'clean restart: nothing changed');
$node->stop('immediate');
$node->start;
is(state($node, 'postgres'), $before, 'crash: nothing changed');

# An acknowledged send, delete and lease with nothing after them.
my $sent = $node->safe_psql('postgres', q{SELECT pigeon.send('orders', 'last words')});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', qq{SELECT body FROM pigeon.peek('orders', 1000) WHERE message_id = $sent}),
	'last words', 'crash: an acknowledged send is kept');

my $deleted = $node->safe_psql('postgres', qq{
	SELECT pigeon.delete('orders', receipt) FROM pigeon.receive('orders', 1000) WHERE message_id = $sent});
is($deleted, 't', 'the message is deleted');
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', qq{SELECT count(*) FROM pigeon.peek('orders', 1000) WHERE message_id = $sent}),
	'0', 'crash: an acknowledged delete is kept');

my $leased = $node->safe_psql('postgres', q{
	SET pigeon.durable_leases = on;
	SELECT pigeon.create_queue('leases') \g /dev/null
	SELECT pigeon.send('leases', 'held') \g /dev/null
	SELECT receipt FROM pigeon.receive('leases')});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.receive('leases')}),
	'0', 'crash: a durable lease is kept');
is($node->safe_psql('postgres', qq{SELECT pigeon.delete('leases', '$leased')}),
	't', 'crash: its receipt deletes');

# A crash in the middle of a transaction undoes all of it.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query(q{
	SELECT pigeon.send('leases', 'before') \g /dev/null
	BEGIN;
	SELECT count(*) FROM pigeon.pop('leases');
	SELECT pigeon.send('leases', 'never');});
$node->stop('immediate');
$node->start;
$session->{run}->finish;
is($node->safe_psql('postgres', q{SELECT string_agg(body, ',') FROM pigeon.pop('leases', 10)}),
	'before', 'crash: an open transaction left nothing');

# Prepared transactions hold on to what they did.
$node->safe_psql('postgres', q{
	SELECT pigeon.send('leases', 'to delete');
	BEGIN; SELECT pigeon.send('leases', 'prepared'); PREPARE TRANSACTION 'send';
	BEGIN; SELECT pigeon.pop('leases'); PREPARE TRANSACTION 'pop'});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pigeon.receive('leases')}),
	'0', 'crash: prepared, but not committed');
$node->safe_psql('postgres', q{COMMIT PREPARED 'send'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'pop'});
is($node->safe_psql('postgres', q{SELECT string_agg(body, ',') FROM pigeon.pop('leases', 10)}),
	'prepared', 'crash: prepared transactions can be committed');

# The rest is as it was: usable with the old receipts.
$node->safe_psql('postgres', q{SELECT pigeon.drop_queue('leases')});
$node->safe_psql('postgres', q{SELECT pigeon.change_visibility('orders', receipt, '0')
	FROM pigeon.receive('orders', 1000)});
check_filled($node, 'postgres', 'after four crashes', @receipts);

done_testing();
