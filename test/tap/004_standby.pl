# A streaming standby shows queues and messages and refuses to change them;
# promoted, it goes on where the primary stopped.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = new_server('primary');
$primary->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'backup', has_streaming => 1);
$standby->start;

my @receipts = fill($primary, 'postgres');
$primary->wait_for_catchup($standby);

my $before = state($primary, 'postgres');
is(state($standby, 'postgres'), $before, 'the standby shows the same');

# What writes gives the usual error, and what only looks does not.
foreach my $call (
	q{SELECT pigeon.send('orders', 'x')},
	q{SELECT pigeon.send_batch('orders', ARRAY['x'])},
	q{SELECT pigeon.receive('orders')},
	q{SELECT pigeon.pop('orders')},
	qq{SELECT pigeon.delete('orders', '$receipts[0]')},
	qq{SELECT pigeon.change_visibility('orders', '$receipts[0]', '0')},
	q{SELECT pigeon.purge_queue('orders')},
	q{SELECT pigeon.create_queue('x')},
	q{SELECT pigeon.alter_queue('orders', delay => '1 s')},
	q{SELECT pigeon.drop_queue('orders')},
	q{SELECT pigeon.redrive('dead')},
	q{CALL pigeon.maintain()})
{
	sqlstate_is($standby, 'postgres', $call, '25006', "read-only: $call");
}
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pigeon.redrive_tasks}),
	'0', 'the standby shows redrive tasks');
is(state($standby, 'postgres'), $before, 'nothing changed');

$primary->stop;
$standby->promote;
is(state($standby, 'postgres'), $before, 'promoted: nothing changed');
check_filled($standby, 'postgres', 'promoted', @receipts);

done_testing();
