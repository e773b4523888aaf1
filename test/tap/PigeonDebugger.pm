# Lets a session run SQL while others do something else at a certain point of
# it: where its backend comes to a function, gdb stops it.
package PigeonDebugger;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(why_no_debugger stopped_at);

# Starts gdb on a backend, to let it go on to a function.
sub attach
{
	my ($pid, $where) = @_;
	my %gdb = (output => '', timeout => IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));

	$gdb{stdin} = join "\n", 'set confirm off', 'set pagination off', 'set width 0', 'handle all nostop noprint pass',
	  "break $where", 'echo attached\n', 'continue', 'echo stopped\n', '';
	$gdb{run} = IPC::Run::start([ 'gdb', '-nx', '-q', '-iex', 'set debuginfod enabled off', '-p', $pid ],
		'<', \$gdb{stdin}, '>', \$gdb{output}, '2>&1', $gdb{timeout});
	return \%gdb;
}

# Waits for what gdb prints.
sub await
{
	my ($gdb, $what) = @_;

	return pump_until($gdb->{run}, $gdb->{timeout}, \$gdb->{output}, $what);
}

# Takes gdb off the backend, which goes on.
sub detach
{
	my ($gdb) = @_;

	$gdb->{stdin} .= "delete\ndetach\nquit\n";
	$gdb->{run}->finish;
	note $gdb->{output} =~ /(Breakpoint 1.*)/s;
	return;
}

# What keeps gdb from stopping backends here, an empty string if nothing does.
sub why_no_debugger
{
	my ($node) = @_;

	return 'gdb is not there' unless eval { IPC::Run::run([ 'gdb', '--version' ], '>', \my $version) };
	my $session = $node->background_psql('postgres');
	my $gdb = attach(scalar $session->query('SELECT pg_backend_pid()'), 'pg_sleep');
	await($gdb, qr/\battached\n/);
	my $denied = $gdb->{output} =~ /(ptrace: .*)/ ? "gdb may not stop a backend: $1" : '';
	$session->query_until(qr/asked/, "\\echo asked\nSELECT pg_sleep(0);\n");
	await($gdb, qr/\bstopped\n/);
	detach($gdb);
	$session->quit;
	return $denied;
}

# Runs SQL in a session, calls a function where its backend comes to "where" (a
# function in C, perhaps with a condition), and returns what the session prints,
# then the SQLSTATE and the message of an error.
sub stopped_at
{
	my ($session, $where, $sql, $meanwhile) = @_;
	my $gdb = attach(scalar $session->query('SELECT pg_backend_pid()'), $where);

	await($gdb, qr/\battached\n/) or die "gdb did not start: $gdb->{output}";
	$session->query_until(qr/asked/, "\\echo asked\n$sql;\n\\echo :SQLSTATE :LAST_ERROR_MESSAGE\n");
	ok(await($gdb, qr/Continuing\..*Breakpoint 1[.,].*\bstopped\n/s), "stopped at $where");
	$meanwhile->();
	detach($gdb);
	return $session->query('\echo done');
}

1;
