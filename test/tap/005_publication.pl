# Everything works under a publication for all tables, and a subscriber gets
# queues and messages.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

# The publisher has no worker, so that what a worker does is the subscriber's doing.
my $publisher = new_server('publisher', 'wal_level = logical', 'pigeon.max_workers = 0');
my $subscriber = new_server('subscriber', 'wal_level = logical');
my $schema = PostgreSQL::Test::Utils::tempdir . '/schema.sql';

# The subscriber is set up as for any logical replication: the schema by
# pg_dump, roles (they are global) by hand, the rest by the subscription.
$publisher->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
my @receipts = fill($publisher, 'postgres');
$publisher->safe_psql('postgres', q{SELECT pigeon.create_queue('fifo', fifo => true), pigeon.create_queue('also fifo', fifo => true);
	SELECT pigeon.create_topic('fifo topic', fifo => true);
	SELECT pigeon.subscribe('fifo topic', 'also fifo')});
$publisher->command_ok([ 'pg_dump', '--schema-only', '--no-publications', '-f', $schema, 'postgres' ],
	'schema dump');
$subscriber->safe_psql('postgres', 'CREATE ROLE worker; CREATE ROLE stranger');
$subscriber->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'postgres', '-f', $schema ],
	'schema restore');
my $connstr = $publisher->connstr('postgres') =~ s/'/''/gr;
$subscriber->safe_psql('postgres',
	qq{CREATE SUBSCRIPTION everything CONNECTION '$connstr' PUBLICATION everything});
$subscriber->wait_for_subscription_sync($publisher, 'everything');
is(state($subscriber, 'postgres'), state($publisher, 'postgres'), 'the initial copy is complete');
sqlstate_is($subscriber, 'postgres', 'CALL pigeon.maintain()', '55000', 'only the publisher maintains');

# Every operation on messages, then the same state on both sides.
my $sql = sub { $publisher->safe_psql('postgres', $_[0]) };

$sql->(q{SELECT pigeon.send('orders', 'streamed'), pigeon.send('orders', 'later', delay => '1 h')});
$sql->(q{SELECT pigeon.send_batch('orders', ARRAY['a', 'b', 'c'])});
is($sql->(q{SELECT count(*) FROM pigeon.receive('orders', 10)}), '10', 'receive');
is($sql->(qq{SELECT pigeon.change_visibility('orders', '$receipts[1]', '3 h')}), 't', 'change_visibility');
is($sql->(q{SELECT count(*) FROM pigeon.pop('orders', 5)}), '5', 'pop');
is($sql->(q{SELECT pigeon.delete('orders', receipt) FROM pigeon.receive('orders', 1)}), 't', 'delete');
$sql->(q{SELECT pigeon.redrive('dead')});
$sql->(q{CALL pigeon.maintain()});
$sql->(q{BEGIN; SELECT pigeon.send('orders', 'undone'); SELECT count(*) FROM pigeon.pop('orders', 100); ROLLBACK});
$publisher->wait_for_catchup('everything');
is(state($subscriber, 'postgres'), state($publisher, 'postgres'), 'operations are replicated');

# FIFO queues and topics: groups that move in the schedule, ids that are withdrawn and forgotten
$sql->(q{SELECT pigeon.send_batch('fifo', ARRAY['a1', 'a2', 'b1'], group_ids => ARRAY['a', 'a', 'b'], deduplication_ids => ARRAY['1', '2', '3']);
	SELECT pigeon.publish('fifo topic', 'x', group_id => 'a', deduplication_id => '1')});
is($sql->(q{SELECT body FROM pigeon.receive('fifo')}), 'a1', 'receive from a FIFO queue');
is($sql->(q{SELECT string_agg(body, ' ') FROM pigeon.pop('also fifo')}), 'x', 'and of a FIFO topic');
$sql->(q{BEGIN; SELECT pigeon.send('fifo', 'c', group_id => 'c', deduplication_id => '4'); ROLLBACK});
$sql->(q{DELETE FROM pigeon.d_} . $sql->(q{SELECT id FROM pigeon.queue WHERE name = 'fifo'}));
my $ids = join(', ', split(/\n/, $sql->(q{SELECT id FROM pigeon.queue WHERE fifo UNION ALL SELECT id FROM pigeon.topic})));
$publisher->wait_for_catchup('everything');
foreach my $table (split(/\n/, $sql->(qq{SELECT relname FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'r'
	AND relname ~ '^[gd]_' AND split_part(relname, '_', 2)::int IN ($ids)})))
{
	my $rows = "SELECT * FROM pigeon.$table ORDER BY 1, 2";
	is($subscriber->safe_psql('postgres', $rows), $sql->($rows), "table $table is replicated");
}

$sql->(q{SELECT pigeon.purge_queue('orders')});
$sql->(q{SELECT pigeon.alter_queue('orders', delay => '5 s')});
$sql->(q{CALL pigeon.maintain()});
$publisher->wait_for_catchup('everything');
is(state($subscriber, 'postgres'), state($publisher, 'postgres'), 'purging and altering are replicated');

# A dead letter that nobody has moved: not even the subscriber's worker, which is told that there may be work.
$sql->(q{SELECT pigeon.send('orders', 'poison', delay => '0')});
$sql->(q{SET pigeon.durable_leases = on; SELECT count(*) FROM pigeon.receive('orders', visibility_timeout => '0')}) foreach 1 .. 2;
is($sql->(q{SELECT count(*) FROM pigeon.peek('orders')}), '1', 'there is a dead letter to be moved');
$publisher->wait_for_catchup('everything');
$subscriber->safe_psql('postgres', q{BEGIN; SELECT 1; PREPARE TRANSACTION 'nothing'});
$subscriber->safe_psql('postgres', q{COMMIT PREPARED 'nothing'});
$subscriber->safe_psql('postgres', 'SELECT pg_sleep(4)');
is(state($subscriber, 'postgres'), state($publisher, 'postgres'), 'the worker of the subscriber does not maintain');

# Until the subscription is gone. Sequences are not replicated.
$subscriber->safe_psql('postgres', q{DROP SUBSCRIPTION everything; SELECT setval('pigeon.message_id_seq', 1000000); CALL pigeon.maintain()});
ok($subscriber->poll_query_until('postgres', q{SELECT (SELECT count(*) = 0 FROM pigeon.peek('orders'))
	AND (SELECT count(*) = 1 FROM pigeon.peek('dead') WHERE body = 'poison')}), 'without the subscription the subscriber maintains');

done_testing();
