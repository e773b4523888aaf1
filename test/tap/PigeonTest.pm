# What the tests in this directory share: a server with queues in every state,
# and the questions that must have the same answers after whatever a test does
# to that server.
package PigeonTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(new_server start_server debian_python fill state check_filled all_is_well sqlstate_is
  create_busy_queue is_vacuumed);

# A new, running server that preloads pigeon, with further settings.
sub new_server
{
	my ($name, @settings) = @_;

	return start_server(PostgreSQL::Test::Cluster->new($name), @settings);
}

# The same for a server that was made, but has no cluster yet.
sub start_server
{
	my ($node, @settings) = @_;

	$node->init(allows_streaming => 1);
	# Which init() writes for older servers, too.
	$node->adjust_conf('postgresql.conf', 'autovacuum_worker_slots', undef) if $node->pg_version < 18;
	$node->append_conf('postgresql.conf', "$_\n")
	  foreach "shared_preload_libraries = 'pigeon'",
	  'max_prepared_transactions = 10', @settings;
	$node->start;
	return $node;
}

# Debian's interpreter, which has the driver from its package.
sub debian_python
{
	return -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
}

# Creates queues and messages in every state: waiting, delayed, in flight,
# received and back, dead-lettered; a queue with odd characters in its name, a
# gap in the queues' numbers, rights for a role.  Returns the receipts of the
# messages in flight.  The version of pigeon may be given.
sub fill
{
	my ($node, $database, $version) = @_;

	$node->safe_psql($database, 'CREATE EXTENSION pigeon' . ($version ? " VERSION '$version'" : ''));
	$node->safe_psql($database, q{
		CREATE ROLE worker;
		CREATE ROLE stranger;
		SELECT pigeon.create_queue('dead');
		SELECT pigeon.create_queue('dropped');
		SELECT pigeon.create_queue('orders', visibility_timeout => '1 h',
			dead_letter_queue => 'dead', max_receive_count => 2, tags => '{"team": "shop"}');
		SELECT pigeon.create_queue('Ünïted "quotes" ''n'' spaces', retention => '30 days');
		SELECT pigeon.drop_queue('dropped');
		SELECT pigeon.grant_access('orders', 'worker', '{receive,delete}');
	});

	# A message that is received twice and not deleted is dead at the third
	# receive.
	$node->safe_psql($database, q{SELECT pigeon.send('orders', 'poison', '{"n": 1}')});
	$node->safe_psql($database,
		q{SELECT count(*) FROM pigeon.receive('orders', visibility_timeout => '0')})
	  foreach 1 .. 3;

	$node->safe_psql($database, q{SELECT pigeon.send('orders', 'returned')});
	$node->safe_psql($database,
		q{SELECT count(*) FROM pigeon.receive('orders', visibility_timeout => '0')});
	my $receipts = $node->safe_psql($database, q{
		SELECT pigeon.send_batch('orders', ARRAY['leased 1', 'leased 2', 'leased 3']) \g /dev/null
		SELECT receipt FROM pigeon.receive('orders', 4)});
	$node->safe_psql($database, q{
		SELECT pigeon.send('orders', 'delayed', '{"colour": ["red", "green"]}', delay => '1 day');
		SELECT pigeon.send('orders', jsonb_build_object('number', n)) FROM generate_series(1, 50) AS n;
		SELECT pigeon.send('Ünïted "quotes" ''n'' spaces', repeat('ä€𝄞 ', 20000));
	});
	return split /\n/, $receipts;
}

# Everything a user can see of queues and messages, as text.
sub state
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, q{
		SET timezone = 'UTC';
		SELECT q FROM pigeon.queues AS q ORDER BY queue;
		SELECT queue, m.message_id, md5(m.body), m.attributes, m.receive_count, m.sent_at,
			m.first_received_at, m.visible_at, m.sender, m.dead_letter_source
		FROM pigeon.queues, pigeon.peek(queue, 1000) AS m ORDER BY queue, m.message_id;
	});
}

# Checks that a database with the queues of fill() is fully usable: receipts,
# rights, deliveries, dead letters, new messages and new queues.
sub check_filled
{
	my ($node, $database, $what, @receipts) = @_;
	my $sql = sub { $node->safe_psql($database, $_[0]) };

	all_is_well($node, $database, "$what: all is well");
	my $newest = $sql->(q{SELECT max(m.message_id) FROM pigeon.queues, pigeon.peek(queue, 1000) AS m});

	is($sql->(qq{SELECT pigeon.change_visibility('orders', '$receipts[0]', '2 h')}),
		't', "$what: a receipt changes visibility");
	is($sql->(qq{SELECT pigeon.delete('orders', ARRAY['} . join(q{','}, @receipts) . q{']::pigeon.receipt[])}),
		'{t,t,t,t}', "$what: receipts delete");
	is($sql->(qq{SELECT pigeon.delete('orders', '$receipts[0]')}),
		'f', "$what: a receipt deletes once");

	is($sql->(q{SET ROLE worker;
		SELECT count(*) FROM pigeon.receive('orders', 1, visibility_timeout => '0')}),
		'1', "$what: rights are kept");
	sqlstate_is($node, $database, q{SET ROLE stranger; SELECT pigeon.send('orders', 'x')},
		'42501', "$what: who had no right has none");

	is($sql->(q{SELECT string_agg(m.body::jsonb->>'number', ',' ORDER BY message_id)
			FROM pigeon.pop('orders', 1000) AS m}),
		join(',', 1 .. 50), "$what: what waited is delivered");
	is($sql->(q{SELECT count(*) FROM pigeon.peek('orders') WHERE body = 'delayed' AND visible_at > now()}),
		'1', "$what: what was delayed is not");
	is($sql->(q{SELECT body, attributes, receive_count, dead_letter_source FROM pigeon.peek('dead')}),
		'poison|{"n": 1}|2|orders', "$what: the dead letter is there");
	$sql->(q{SELECT pigeon.redrive('dead')});
	$sql->(q{CALL pigeon.maintain()});
	$node->poll_query_until($database,
		q{SELECT status = 'COMPLETED' FROM pigeon.redrive_tasks ORDER BY task_id DESC LIMIT 1});
	is($sql->(q{SELECT body FROM pigeon.pop('orders')}), 'poison', "$what: redrive works");

	cmp_ok($sql->(q{SELECT pigeon.send('orders', 'new')}),
		'>', $newest, "$what: message_id goes on");
	is($sql->(q{SELECT pigeon.create_queue('another') \g /dev/null
		SELECT pigeon.send('another', 'hello') \g /dev/null
		SELECT body FROM pigeon.pop('another')}),
		'hello', "$what: a new queue works");
	is($sql->(q{SELECT pigeon.drop_queue(queue) FROM pigeon.queues \g /dev/null
		SELECT count(*) FROM pigeon.queues}),
		'0', "$what: every queue can be dropped");
	return;
}

# Checks that pigeon.check() has nothing to say, whatever the default isolation.
sub all_is_well
{
	my ($node, $database, $name) = @_;

	is($node->safe_psql($database, q{
		SET default_transaction_isolation = 'read committed';
		SELECT * FROM pigeon.check()}), '', $name);
	return;
}

# Checks that SQL fails with a SQLSTATE.
sub sqlstate_is
{
	my ($node, $database, $sql, $sqlstate, $name) = @_;
	my ($stdout, $stderr);

	$node->psql($database, "\\set VERBOSITY sqlstate\n$sql", stdout => \$stdout, stderr => \$stderr);
	like($stderr, qr/ERROR:  $sqlstate$/m, $name);
	return;
}

# Creates a queue that nobody vacuums but the worker.
sub create_busy_queue
{
	my ($node) = @_;

	$node->safe_psql('postgres', q{SELECT pigeon.create_queue('busy');
		SELECT queue_table AS t FROM pigeon.queues WHERE queue = 'busy' \gset
		ALTER TABLE :t SET (autovacuum_enabled = off)});
	return;
}

# So much passes through that queue that the worker vacuums it, for at least the
# time given.
sub is_vacuumed
{
	my ($node, $vacuums, $name) = @_;

	$node->safe_psql('postgres', q{DO $$
	BEGIN
		PERFORM pigeon.send_batch('busy', array_agg('x'::text)) FROM generate_series(1, 12000);
		COMMIT;
		PERFORM pigeon.delete('busy', array_agg(receipt)) FROM pigeon.receive('busy', 12000);
	END $$});
	ok($node->poll_query_until('postgres', qq{SELECT vacuum_count >= $vacuums FROM pg_stat_user_tables
		WHERE relid = (SELECT queue_table::regclass FROM pigeon.queues WHERE queue = 'busy')}), $name);
	return;
}

1;
