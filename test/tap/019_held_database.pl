# A database that is copied or renamed just after it was made has a worker
# afterwards.

use strict;
use warnings;

use PigeonDebugger;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'log_min_messages = debug1');
my $reason = why_no_debugger($node);
plan skip_all => $reason if $reason;

# The launcher gets to know the new database while that is copied, and not before.
my $launcher = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'pigeon launcher'});
kill 'STOP', $launcher;
$node->safe_psql('postgres', 'CREATE DATABASE template');
my $session = $node->background_psql('postgres', on_error_stop => 0);
like(stopped_at($session, 'pgn_release_database', 'CREATE DATABASE copy TEMPLATE template', sub { kill 'CONT', $launcher; sleep 2 }),
	qr/00000/, 'a database is copied');
$session->quit;
$node->safe_psql('template', q{CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead'), pigeon.create_queue('q', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT pigeon.send('q', 'poison'); SELECT pigeon.receive('q', visibility_timeout => '0')});
ok($node->poll_query_until('template', q{SELECT count(*) = 1 FROM pigeon.peek('dead')}), 'its worker works');

# The launcher visits a database that it gets to know while that is renamed, too.
kill 'STOP', $launcher;
$node->safe_psql('postgres', 'CREATE DATABASE another');
my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'another'});
$node->safe_psql('postgres', 'ALTER DATABASE another RENAME TO renamed');
kill 'CONT', $launcher;
ok($node->wait_for_log(qr/starting background worker process "pigeon worker for database $oid"/), 'a database that was renamed is visited');

done_testing();
