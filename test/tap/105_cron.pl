# Schedules and maintenance by pg_cron.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Without pg_cron.
sql(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('q'); SELECT pigeon.create_topic('t');
	SELECT pigeon.subscribe('t', 'q')});
sqlstate_is($node, 'postgres', q{SELECT pigeon.schedule_send('s', '* * * * *', 'q', 'x')}, '55000',
	'no pg_cron');
is(sql(q{SELECT pigeon.unschedule('s')}), 'f', 'nothing is scheduled');

my ($sharedir) = PostgreSQL::Test::Utils::run_command([ 'pg_config', '--sharedir' ]);
if (!-e "$sharedir/extension/pg_cron.control")
{
	note 'pg_cron is not there';
	done_testing();
	exit;
}

# A server that does not preload pigeon: what the worker would do, pg_cron does.
$node->append_conf('postgresql.conf', $_) foreach q{shared_preload_libraries = 'pg_cron'},
  q{cron.database_name = 'postgres'}, q{cron.host = '} . $node->host . q{'},
  q{cron.use_background_workers = on};
$node->restart;
sql(q{CREATE EXTENSION pg_cron; CREATE ROLE scheduler LOGIN; GRANT USAGE ON SCHEMA cron TO scheduler;
	SELECT pigeon.grant_access('q', 'scheduler', '{send}')});

is(sql(q{SELECT pigeon.schedule_send('hourly ''report''', '0 0 29 2 *', 'q', 'it''s %L time', '{"a": "b''c"}',
	delay => '1 min') > 0}), 't', 'scheduled');
my $command = sql(q{SELECT command FROM cron.job WHERE jobname = 'hourly ''report'''});
sql($command);
is(sql(q{SELECT body, attributes, visible_at > now() FROM pigeon.peek('q')}), q{it's %L time|{"a": "b'c"}|t},
	'the command sends the message');
sql(q{SELECT pigeon.purge_queue('q')});
sql(q{SELECT pigeon.create_queue('fifo', fifo => true, content_based_deduplication => true); SELECT pigeon.create_topic('fifo', fifo => true);
	SELECT pigeon.subscribe('fifo', 'fifo');
	SELECT pigeon.schedule_send('fifo', '0 0 29 2 *', 'fifo', 'tick', group_id => 'g');
	SELECT pigeon.schedule_publish('fifo topic', '0 0 29 2 *', 'fifo', 'tack', group_id => 'g');
	SELECT pigeon.schedule_send('once', '0 0 29 2 *', 'fifo', 'once', group_id => 'g', deduplication_id => 'id')});
foreach my $job ('fifo', 'fifo', 'fifo topic', 'fifo topic', 'once', 'once')
{
	sql(sql("SELECT command FROM cron.job WHERE jobname = '$job'"));
}
is(sql(q{SELECT string_agg(body, ' ') FROM pigeon.pop('fifo', 10)}), 'tick tick tack tack once', 'each run sends another message, unless it gives an id');
sql(q{SELECT pigeon.unschedule(name) FROM unnest('{fifo,fifo topic,once}'::text[]) AS name});
is(sql(q{SELECT pigeon.schedule_publish('news', '0 0 29 2 *', 't', 'news', 'subject', '{"a": 1}') > 0}), 't',
	'scheduled');
sql(sql(q{SELECT command FROM cron.job WHERE jobname = 'news'}));
is(sql(q{SELECT body, subject, topic, attributes FROM pigeon.pop('q')}), 'news|subject|t|{"a": 1}',
	'the command publishes the message');
sqlstate_is($node, 'postgres', q{SELECT pigeon.schedule_send('news', '* * * * *', 'q', 'x')}, '42710',
	'a name is used once');
sqlstate_is($node, 'postgres', q{SELECT pigeon.schedule_send('s', '* * * * *', NULL, 'x')}, '22023', 'no queue');
is(sql(q{SELECT pigeon.unschedule('news'), pigeon.unschedule('news')}), 't|f', 'removed once');

# As another role, and for real: the next minute sends a message, and maintain()
# moves a dead letter.
sql(q{SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('source', dead_letter_queue => 'dead', max_receive_count => 1);
	SELECT pigeon.send('source', 'poison'); SELECT pigeon.receive('source', visibility_timeout => '0');
	SELECT cron.schedule('pigeon', '* * * * *', 'CALL pigeon.maintain()');
	SET ROLE scheduler;
	SELECT pigeon.schedule_send('minutely', '* * * * *', 'q', 'from cron')});
is(sql(q{SELECT username FROM cron.job WHERE jobname = 'minutely'}), 'scheduler', 'a job belongs to who made it');
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM pigeon.peek('q') WHERE body = 'from cron'
	AND sender = 'scheduler'}), 'pg_cron sends');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pigeon.peek('dead')}), 'pg_cron maintains');
is(sql(q{SET ROLE scheduler; SELECT pigeon.unschedule('pigeon'), pigeon.unschedule('minutely')}), 'f|t',
	'a role removes what is its own');

$node->stop;
done_testing();
