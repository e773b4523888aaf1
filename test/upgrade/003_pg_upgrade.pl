# pg_upgrade from an older version of PostgreSQL (see PigeonUpgrade), by the commands in docs/operations.md: everything that lives
# is still there and goes on, and the extension is that of a new installation.

use strict;
use warnings;

use File::Basename;
use File::Copy;
use File::Path;
use PigeonTest;
use PigeonUpgrade;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $new = PostgreSQL::Test::Cluster->new('new');

# The first block of commands in a section of the page.
sub commands
{
	my ($section) = @_;
	my $page = slurp_file(dirname(__FILE__) . '/../../docs/operations.md');

	$page =~ /^## \Q$section\E\n(?:(?!^## ).)*?^```sh\n(.*?)^```\n/ms or die "no commands under \"$section\"";
	return $1;
}

# The members of the extension, who may use them, their comments, and whose contents are dumped. Rights that are the default may
# be written down or not.
sub members
{
	my ($database) = @_;

	return $new->safe_psql($database, q{
		SELECT pg_describe_object(d.classid, d.objid, d.objsubid) AS member,
			(SELECT array_agg(acl ORDER BY acl::text) FROM unnest(CASE
				WHEN relkind = 'S' THEN coalesce(relacl, acldefault('s', relowner))
				WHEN r.oid IS NOT NULL THEN coalesce(relacl, acldefault('r', relowner))
				ELSE coalesce(proacl, acldefault('f', proowner)) END) AS acl),
			obj_description(d.objid, d.classid::regclass::text),
			(SELECT c.condition FROM unnest(extconfig, extcondition) AS c (config, condition) WHERE c.config = r.oid)
		FROM pg_extension AS e JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
			LEFT JOIN pg_class AS r ON d.classid = 'pg_class'::regclass AND r.oid = d.objid
			LEFT JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
		WHERE extname = 'pigeon' ORDER BY member});
}

my $commands = commands('Upgrading PostgreSQL');
my $old = old_server();
my @receipts = fill_everything($old, 'postgres');
$old->safe_psql('postgres', 'CREATE DATABASE unused');
$old->safe_psql('unused', 'CREATE EXTENSION pigeon');
my $before = everything($old, 'postgres');

# The commands make a cluster in the current directory; it takes the place of this one, which it has the settings from.
$new->init;
$new->append_conf('postgresql.conf', "$_\n") foreach "shared_preload_libraries = 'pigeon'", 'pigeon.max_workers = 0';
{
	local $ENV{OLD} = $old->config_data('--bindir');
	local $ENV{NEW} = $new->config_data('--bindir');
	local $ENV{PGDATA} = $old->data_dir;
	local $ENV{PGUSER} = $old->safe_psql('postgres', 'SELECT current_user');

	chdir PostgreSQL::Test::Utils::tempdir or die "could not change directory: $!";
	# These stop the old server.
	command_ok([ 'bash', '-euxo', 'pipefail', '-c', $commands ], 'the documented commands');
	$old->_update_pid(0);
}
copy($new->data_dir . "/$_", "upgraded/$_") or die "could not copy \"$_\": $!" foreach 'postgresql.conf', 'pg_hba.conf';
rmtree $new->data_dir;
rename 'upgraded', $new->data_dir or die "could not move the cluster: $!";

$new->start;
is(everything($new, 'postgres'), $before, 'nothing changed');
is($new->safe_psql('postgres', q{SELECT receipt FROM pigeon.receive('steps', 1, receive_attempt_id => 'try')}), $receipts[0],
	'even an attempt to receive is known');
$new->safe_psql('postgres', 'CREATE DATABASE fresh');
$new->safe_psql('fresh', 'CREATE EXTENSION pigeon');
is(members('unused'), members('fresh'), 'the extension is that of a new installation');
check_everything($new, 'postgres', 'upgraded', @receipts);

done_testing();
