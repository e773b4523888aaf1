# A dump of an older version of PostgreSQL is restored in a newer one (see PigeonUpgrade), with everything that lives, whichever of
# the two versions' pg_dump has written it.

use strict;
use warnings;

use PigeonTest;
use PigeonUpgrade;
use PostgreSQL::Test::Utils;
use Test::More;

my $dumps = PostgreSQL::Test::Utils::tempdir;
my $old = old_server();
my $new = new_server('new', 'pigeon.max_workers = 0');
my @receipts = fill_everything($old, 'postgres');
my $before = everything($old, 'postgres');

$new->safe_psql('postgres', 'CREATE ROLE worker; CREATE ROLE stranger');
foreach my $writer ($old, $new)
{
	my $name = $writer->name;

	$writer->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/$name", '-d', $old->connstr('postgres') ], "pg_dump of the $name version");
	$new->safe_psql('postgres', "CREATE DATABASE $name");
	$new->command_ok([ 'pg_restore', '--exit-on-error', '-d', $name, "$dumps/$name" ], "$name: restore");
	is(everything($new, $name), $before, "$name: nothing changed");
}
check_everything($new, $_->name, $_->name, @receipts) foreach $old, $new;

done_testing();
