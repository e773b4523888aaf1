# A full disk: sends fail with 53100 and leave nothing behind, what is there can
# be popped, and when there is room all goes on.

use strict;
use warnings;

use File::Temp ();
use PigeonTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# A file system of 48 MB, in a mount namespace that only the server is in; an
# ordinary user may have one where user namespaces are allowed.
my $disk = File::Temp::tempdir('pigeon_XXXXXX', TMPDIR => 1, CLEANUP => 1);
my @namespace = ('unshare', '--user', '--mount', '--map-current-user', '--keep-caps', 'sh', '-c',
	"mount -t tmpfs -o size=48m tmpfs $disk && \"\$@\"", 'sh');
plan skip_all => 'no file system can be mounted here' if system("@namespace[0..6] 'mount -t tmpfs tmpfs $disk' 2>/dev/null") != 0;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', q{
	shared_preload_libraries = 'pigeon'
	log_statement = none
	pigeon.log_segment_size = 4MB
	autovacuum_naptime = 1s});
my @start = ('pg_ctl', '-s', '-w', '-D', $node->data_dir, '-l', $node->logfile, 'start');
is(system(@namespace, @start), 0, 'a server with a small disk');
$node->_update_pid(1);

sub sql { return $node->safe_psql('postgres', $_[0]) }

# The tablespace's directory must be there, in the server's namespace.
sql(qq{COPY (SELECT 1) TO PROGRAM 'mkdir $disk/space && head -c 1000000 /dev/zero >$disk/ballast'});
sql(qq{CREATE TABLESPACE small LOCATION '$disk/space'});
sql(q{CREATE DATABASE shop});
my $shop = sub { $node->safe_psql('shop', $_[0]) };
$shop->(q{CREATE EXTENSION pigeon; SELECT pigeon.create_queue('q'); SELECT pigeon.create_queue('f', fifo => true);
	CREATE TABLE sent (message_id bigint)});
$shop->(q{SELECT format('ALTER %s %s SET TABLESPACE small', CASE relkind WHEN 'i' THEN 'INDEX' ELSE 'TABLE' END, oid::regclass)
	FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace AND relkind IN ('r', 'i')
	AND relname ~ '^(log_|[qgd]_[0-9])' \gexec});

# Fill it, with the messages noted down in the same transactions.
foreach my $send (
	q{SELECT pigeon.send('q', repeat('x', 1000))},
	q{SELECT pigeon.send_batch('q', array_fill(repeat('x', 50), ARRAY[100]))},
	q{SELECT pigeon.send('f', repeat('x', 1000), group_id => n::text, deduplication_id => n::text || random())})
{
	my $error = '';

	for (my $n = 0; $n < 100 && $error eq ''; $n++)
	{
		$node->psql('shop', qq{\\set VERBOSITY sqlstate
			DO \$\$ BEGIN FOR n IN 1 .. 1000 LOOP
				INSERT INTO sent $send; COMMIT;
			END LOOP; END \$\$}, stderr => \$error);
	}
	like($error, qr/ERROR:  53100/, "the disk is full: $send");
}
my $check = sub {
	my ($what) = @_;

	is($shop->(q{SELECT count(*) FROM sent FULL JOIN
			(SELECT * FROM pigeon.peek('q', 100000) UNION ALL SELECT * FROM pigeon.peek('f', 100000)) AS m USING (message_id)
			WHERE sent.message_id IS NULL OR m.message_id IS NULL OR m.body IS NULL}),
		'0', "$what: what was sent is there, and nothing else");
	all_is_well($node, 'shop', "$what: all is well");
	return;
};
$check->('full');

# To pop needs no room.  (A receive may need some for the next versions of its
# rows.)
$shop->(q{CREATE TABLE received (message_id bigint)});
my $pop = q{INSERT INTO received SELECT message_id
	FROM (VALUES ('q'), ('f')) AS q (queue), pigeon.pop(queue, 1000) RETURNING 1};
1 while $shop->($pop) ne '';
is($shop->(q{SELECT count(*) FROM sent FULL JOIN received USING (message_id)
		WHERE sent.message_id IS NULL OR received.message_id IS NULL}), '0', 'all that was sent is received');

# To empty the log needs very little.
sql(qq{COPY (SELECT 1) TO PROGRAM 'rm $disk/ballast'});
ok($node->poll_query_until('shop', q{CALL pigeon.maintain();
	SELECT sum(pg_relation_size(oid)) < 4 * 1024 * 1024 FROM pg_class WHERE relname ~ '^log_[0-9]$'}, "CALL\nt"),
	'the log gives its room back');
is($shop->(q{SELECT count(*) FROM pigeon.send_batch('q', array_fill(repeat('x', 1000), ARRAY[1000]))}), '1000',
	'messages can be sent again');
all_is_well($node, 'shop', 'all is well again');

done_testing();
