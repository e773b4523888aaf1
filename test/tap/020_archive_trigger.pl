# The owner of a topic puts a trigger on a table of its archive while
# maintenance, which runs as the owner of the extension, is about to empty it.

use strict;
use warnings;

use PigeonDebugger;
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'pigeon.max_workers = 0');
my $reason = why_no_debugger($node);
plan skip_all => $reason if $reason;
sub sql { return $node->safe_psql('postgres', $_[0]) }

sql(q{CREATE EXTENSION pigeon; CREATE ROLE eve; CREATE SCHEMA eve AUTHORIZATION eve; GRANT CREATE ON SCHEMA pigeon TO eve;
	SET ROLE eve;
	CREATE FUNCTION eve.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ALTER ROLE eve SUPERUSER; RETURN NULL; END';
	SELECT pigeon.create_topic('t', archive_retention => '60 s');
	SELECT pigeon.publish('t', 'old')});
my $archive = 'pigeon.t_' . sql(q{SELECT id FROM pigeon.topic});
sql(qq{SET ROLE eve; INSERT INTO ${archive}_3 SELECT * FROM ${archive}_0; UPDATE ${archive}_3 SET published_at = now() - interval '1 day'});

my $session = $node->background_psql('postgres', on_error_stop => 0);
stopped_at($session, 'newest_message', 'CALL pigeon.maintain()',
	sub { sql("SET ROLE eve; CREATE TRIGGER e BEFORE TRUNCATE ON ${archive}_3 EXECUTE FUNCTION eve.f()") });
$session->quit;
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'eve'}), 'f', 'the trigger does not run as the owner of the extension');
$node->psql('postgres', 'CALL pigeon.maintain()', stderr => \my $stderr);
like($stderr, qr/WARNING:  maintenance of topic number \d+ failed: .* cannot be used/, 'maintenance tells that there is one');
sql("SET ROLE eve; DROP TRIGGER e ON ${archive}_3");
sql('CALL pigeon.maintain()');
is(sql("SELECT pg_relation_size('${archive}_3')"), '0', 'without it the table is emptied');
done_testing();
