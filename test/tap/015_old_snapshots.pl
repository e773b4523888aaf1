# With old_snapshot_threshold a row is removed, and its place given to another,
# while somebody has a snapshot that was taken before.  Here that happens
# between the moments in which a receive or a delete finds a row and changes it.
# PostgreSQL 17 has no such setting any more.

use strict;
use warnings;

use PigeonClock;
use PigeonDebugger;
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'snapshots do not become too old' if PostgreSQL::Test::Cluster->new('version')->pg_version >= 17;
my $node = new_server_with_clock('main', 'pigeon.max_workers = 0', "old_snapshot_threshold = '1min'");
my $reason = why_no_debugger($node);
plan skip_all => $reason if $reason;
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE EXTENSION pigeon});
my $now = 0;

# A call that has found m1 is stopped at a function, and meanwhile m1 is deleted,
# and a new version of m2, which somebody receives, comes to its place.
sub disturb
{
	my ($where, $call) = @_;

	sql(q{SELECT pigeon.create_queue('q');
		SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'q' \gset
		ALTER TABLE :t SET (autovacuum_enabled = off);
		SELECT pigeon.send_batch('q', array_agg('m' || n ORDER BY n)) FROM generate_series(1, 100) AS n});
	sql(q{CREATE TABLE got AS SELECT body, receipt FROM pigeon.receive('q', 100)});
	my $table = sql(q{SELECT queue_table FROM pigeon.queues});
	# The leases end.
	set_clock($now += 60);

	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $result = stopped_at($session, $where, $call, sub {
		is(sql(q{SELECT pigeon.delete('q', receipt) FROM got WHERE body = 'm1'}), 't', 'm1 is deleted');
		# Snapshots become too old.
		foreach (1 .. 4)
		{
			set_clock($now += 60);
			sql(q{SELECT txid_current()});
		}
		# Somebody comes by and removes m1.
		sql(qq{SELECT count(*) FROM $table});
		is(sql(q{CREATE TABLE other AS SELECT body, receipt FROM pigeon.receive('q'); SELECT body FROM other}),
			'm2', 'm2 is received');
	});
	$session->quit;
	is(sql(q{SELECT pigeon.delete('q', receipt) FROM other}), 't', 'and is as its receiver left it');
	all_is_well($node, 'postgres', 'all is well');
	sql(q{DROP TABLE got, other; SELECT pigeon.drop_queue('q')});
	return $result;
}

like(disturb('pgn_claims_complete if claims->n > 0',
		q{SELECT count(*), min(substr(body, 2)::integer) FROM pigeon.receive('q', 50)}),
	qr/^50\|3\n00000/, 'others are received');
like(disturb('pgn_deliveries_delete_in_page',
		q{SELECT array_agg(receipt) AS receipts FROM got WHERE body <> 'm2' \gset
		SELECT count(*) FILTER (WHERE d) FROM unnest(pigeon.delete('q', :'receipts'::pigeon.receipt[])) AS d}),
	qr/^98\n00000/, 'others are deleted');

done_testing();
