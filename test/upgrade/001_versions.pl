# ALTER EXTENSION pigeon UPDATE: from every version that ever was installed to the current one, and on to a next one that this
# test makes up. An updated database has the same catalog as a new one, queues answer as before, and before the update the old
# SQL works with the new library.
#
# Scripts of versions that are not installed any more are not forgotten: the oldest script there is stays in the repository
# with all steps from it.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $directory = $node->config_data('--sharedir') . '/extension';
my $current = $node->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'pigeon'});
my $next = "$current.next";
my @made;

# Writes a script into the server's directory of extensions, to be removed at the end.
sub make_script
{
	my ($name, $sql) = @_;

	push @made, "$directory/$name";
	open my $file, '>', $made[-1] or die "could not write \"$made[-1]\": $!";
	print $file $sql;
	close $file or die "could not write \"$made[-1]\": $!";
	return;
}

END { unlink @made; }

# Everything that is known of the extension, as text: what a dump of its members has, rights as they stand, and what is dumped
# of the contents of tables. Numbers that differ from database to database are left out.
sub catalog
{
	my ($database) = @_;
	my $dump = '';

	IPC::Run::run([ 'pg_dump', '--schema-only', '--binary-upgrade', '-d', $node->connstr($database) ], '>', \$dump)
	  or die 'pg_dump failed';
	$dump =~ s/^.*binary_upgrade_set_.*\n//mg;
	$dump =~ s/^.*binary_upgrade_create_empty_extension.*\n//mg;
	$dump =~ s/^(SET rel(frozenxid|minmxid)|UPDATE pg_catalog\.pg_(class|database)|WHERE oid).*\n//mg;
	$dump =~ s/^--.*\n|^\\(un)?restrict.*\n//mg;
	return $dump . $node->safe_psql($database, q{
		SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pigeon')
		ORDER BY 1;
		SELECT config::regclass, condition FROM pg_extension, unnest(extconfig, extcondition) AS c (config, condition)
		WHERE extname = 'pigeon' ORDER BY config::regclass::text;
		SELECT oid::regclass, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(relacl) a)
		FROM pg_class WHERE relnamespace = 'pigeon'::regnamespace ORDER BY oid::regclass::text;
		SELECT oid::regprocedure, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(proacl) a), obj_description(oid, 'pg_proc')
		FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace ORDER BY oid::regprocedure::text;
		SELECT evtname, evtevent, evtenabled, evttags, evtfoid::regproc FROM pg_event_trigger ORDER BY evtname;});
}

# A new database with a version of the extension, updated to others.
sub new_database
{
	my ($database, $version, @updates) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, "CREATE EXTENSION pigeon VERSION '$version'");
	$node->safe_psql($database, "ALTER EXTENSION pigeon UPDATE TO '$_'") foreach @updates;
	return $database;
}

# One update, with queues that are in use.
my $tested = 0;

sub test_update
{
	my ($from, $to) = @_;
	my ($old, $new, $filled) = map { "db_${_}_$tested" } 'old', 'new', 'filled';

	$tested++;
	is(catalog(new_database($old, $from, $to)), catalog(new_database($new, $to)),
		"$from to $to: the catalog is that of a new installation");

	$node->safe_psql('postgres', "CREATE DATABASE $filled");
	my @receipts = fill($node, $filled, $from);
	my $before = state($node, $filled);
	$node->safe_psql('postgres', "CREATE DATABASE kept TEMPLATE $filled");
	check_filled($node, 'kept', "$from with the library of $current", @receipts);
	$node->safe_psql($filled, "ALTER EXTENSION pigeon UPDATE TO '$to'");
	is(state($node, $filled), $before, "$from to $to: nothing changed");
	check_filled($node, $filled, "$from to $to", @receipts);
	$node->safe_psql('postgres', "DROP DATABASE $_") foreach $old, $new, $filled, 'kept';
	$node->safe_psql('postgres', 'DROP ROLE worker, stranger');
	return;
}

# Every version that has a script of its own can be updated.
my @versions = sort map { m{/pigeon--((?:(?!--).)+)\.sql$} ? $1 : () } glob "$directory/pigeon--*.sql";
ok(scalar(grep { $_ eq $current } @versions), "version $current can be installed");
test_update($_, $current) foreach grep { $_ ne $current } @versions;

# The made-up next version has one change of each kind that an update makes.
my $step = q{
	CREATE FUNCTION pigeon.queue_number(queue_table regclass) RETURNS integer
		LANGUAGE sql STABLE STRICT
		RETURN pg_catalog.substr(queue_table::pg_catalog.text, 10)::pg_catalog.int4;
	COMMENT ON FUNCTION pigeon.queue_number(regclass) IS 'the number of a queue';
	REVOKE ALL ON FUNCTION pigeon.queue_number(regclass) FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION pigeon.queue_number(regclass) TO PUBLIC;
	CREATE TABLE pigeon.note (queue_id integer PRIMARY KEY, note text NOT NULL);
	COMMENT ON TABLE pigeon.note IS 'notes on queues';
	SELECT pg_catalog.pg_extension_config_dump('pigeon.note', '');
	ALTER TABLE pigeon.redrive_task ADD COLUMN note text;
	CREATE OR REPLACE FUNCTION pigeon.topic_view(topic_id integer) RETURNS regclass
		LANGUAGE sql STABLE STRICT PARALLEL SAFE
		RETURN pg_catalog.to_regclass(pg_catalog.concat('pigeon.t_', topic_id));
};
my $base = slurp_file("$directory/pigeon--$current.sql");
make_script("pigeon--$next.sql", $base . $step);
make_script("pigeon--$current--$next.sql", $step);
test_update($current, $next);

# What the comparison is good for: it notices whatever a step forgets.
my $reference = catalog(new_database('reference', $next));
my @forgotten = $step =~ /^\t((?:COMMENT|REVOKE|SELECT|ALTER|CREATE OR REPLACE)[^;]*;)/mg;
is(scalar @forgotten, 6, 'the step has six statements that are easily forgotten');
foreach my $number (0 .. $#forgotten)
{
	my $faulty = $step;

	$faulty =~ s/\Q$forgotten[$number]\E//;
	# Without the REVOKE, nobody notices a GRANT to PUBLIC.
	$faulty =~ s/GRANT EXECUTE[^;]*;// if $forgotten[$number] =~ /^REVOKE/;
	make_script("pigeon--$current--$current.faulty$number.sql", $faulty);
	isnt(catalog(new_database("faulty$number", $current, "$current.faulty$number")), $reference,
		'noticed: ' . ($forgotten[$number] =~ s/\s+/ /gr));
}

done_testing();
