# A transaction that wrote nothing but leases commits without waiting for the
# disk; a lease lost in a crash costs a redelivery.  Anything else that a
# transaction writes makes its commit wait.

use strict;
use warnings;

use PigeonTest;
use Test::More;

# A WAL writer that is all but asleep: what is not flushed by a commit is lost.
my $node = new_server('main', 'wal_writer_delay = 10000', 'wal_writer_flush_after = 1GB',
	'autovacuum = off', 'checkpoint_timeout = 1h');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Crash and come back.
sub crash
{
	$node->stop('immediate');
	$node->start;
	return;
}

# Is what the statements wrote on disk after their commit, as seen by the session
# that runs them?
sub flushes
{
	my ($statements) = @_;

	return sql(qq{
		SELECT pg_current_wal_insert_lsn() AS before \\gset
		$statements
		SELECT pg_current_wal_flush_lsn() > :'before'});
}

# The commit of the statements does not wait.  Something else may have flushed
# the WAL by chance, so they get some tries.
sub does_not_wait
{
	my ($statements, $name) = @_;
	my $flushed = 't';

	for (my $try = 1; $try <= 5 && $flushed eq 't'; $try++)
	{
		$flushed = flushes($statements);
	}
	is($flushed, 'f', $name);
	return;
}

sql(q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('q');
	CREATE TABLE work (n integer);
	CREATE SEQUENCE numbers;
	CHECKPOINT});

# One message: leased, crashed, delivered again with the same count.  Here, too,
# something else (the WAL writer's first look, the worker) may flush by chance.
my ($received, $again) = ('', '');

for (my $try = 1; $try <= 5 && $again eq ''; $try++)
{
	sql(q{SELECT pigeon.purge_queue('q'); SELECT pigeon.send('q', 'once')});
	$received = sql(q{SELECT body, receive_count FROM pigeon.receive('q', 1, '1 h')});
	crash();
	$again = sql(q{SELECT body, receive_count FROM pigeon.receive('q', 1, '1 h')});
}
is($received, 'once|1', 'received');
is($again, 'once|1', 'a lost lease is a redelivery');

# The same with durable leases.
sql(q{SELECT pigeon.purge_queue('q'); SELECT pigeon.send('q', 'once')});
is(sql(q{SET pigeon.durable_leases = on; SELECT body FROM pigeon.receive('q', 1, '1 h')}), 'once',
	'received durably');
crash();
is(sql(q{SELECT count(*) FROM pigeon.receive('q')}), '0', 'a durable lease is kept');
is(sql(q{SELECT pigeon.purge_queue('q')}), '1', 'purged');

# A business write in the same transaction, before or after the receive.
sql(q{SELECT pigeon.send('q', 'with work')});
sql(q{BEGIN; SELECT pigeon.receive('q', 1, '1 h'); INSERT INTO work VALUES (1); COMMIT});
crash();
is(sql(q{SELECT count(*) FROM work}), '1', 'work after a receive is durable');
is(sql(q{SELECT count(*) FROM pigeon.receive('q')}), '0', 'and so is the lease that it came with');
sql(q{SELECT pigeon.purge_queue('q'); SELECT pigeon.send('q', 'with work')});
sql(q{BEGIN; INSERT INTO work VALUES (2); SELECT pigeon.receive('q', 1, '1 h'); COMMIT});
crash();
is(sql(q{SELECT count(*) FROM work}), '2', 'work before a receive is durable');
is(sql(q{SELECT count(*) FROM pigeon.receive('q')}), '0', 'and so is the lease');

# A receive and a delete in one transaction: the delete counts.
sql(q{SELECT pigeon.purge_queue('q'); SELECT pigeon.send('q', 'deleted')});
sql(q{BEGIN; SELECT pigeon.delete('q', receipt) FROM pigeon.receive('q'); COMMIT});
crash();
is(sql(q{SELECT count(*) FROM pigeon.peek('q')}), '0', 'a delete is durable');

# The same told by the WAL, for more kinds of transactions.
sql(q{SELECT pigeon.send_batch('q', array_fill('x'::text, ARRAY[100]))});
does_not_wait(q{SELECT pigeon.receive('q', 1, '1 h') \g /dev/null}, 'a receive does not wait');
does_not_wait(q{SELECT receipt FROM pigeon.receive('q', 1, '1 h') \gset
	SELECT pigeon.change_visibility('q', :'receipt', '2 h') \g /dev/null}, 'a heartbeat does not wait');
does_not_wait(q{BEGIN; SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	COMMIT;}, 'several receives do not wait');
is(flushes(q{SELECT pigeon.pop('q') \g /dev/null}), 't', 'a pop waits');
is(flushes(q{SELECT pigeon.send('q', 'x') \g /dev/null}), 't', 'a send waits');
is(flushes(q{BEGIN; SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	SELECT pigeon.send('q', 'x') \g /dev/null
	COMMIT;}), 't', 'a send after a receive waits');
is(flushes(q{SELECT (SELECT body FROM pigeon.receive('q', 1, '1 h')), nextval('numbers') \g /dev/null}), 't',
	'a sequence in the same statement waits');
is(flushes(q{BEGIN; SAVEPOINT s; INSERT INTO work VALUES (3); ROLLBACK TO s;
	SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	COMMIT;}), 't', 'whoever wrote before waits, even if it was undone');

# The setting is the transaction's own again afterwards.
is(sql(q{SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	SHOW synchronous_commit}), 'on', 'synchronous_commit is what it was');
is(sql(q{BEGIN; SET LOCAL synchronous_commit = local; SELECT pigeon.receive('q', 1, '1 h') \g /dev/null
	COMMIT; SHOW synchronous_commit}), 'on', 'after a local setting too');

done_testing();
