# A server with a clock of its own, which a test can set forward and back.
package PigeonClock;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use PigeonTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(new_server_with_clock set_clock);

my $clock = PostgreSQL::Test::Utils::tempdir . '/clock';

# Sets the clock of all processes of the server, which is this machine's and some seconds.
sub set_clock
{
	my ($seconds) = @_;

	# All eight bytes at once, in the file that the processes have mapped.
	open my $file, -e $clock ? '+<' : '>', $clock or die "could not set the clock: $!";
	syswrite $file, pack 'q', $seconds or die "could not set the clock: $!";
	close $file;
	return;
}

# A new, running server as new_server makes one.
sub new_server_with_clock
{
	my ($name, @settings) = @_;
	my $library = PostgreSQL::Test::Utils::tempdir . '/clock.so';

	system_or_bail('cc', '-Wall', '-Werror', '-O', '-shared', '-fPIC', '-o', $library, dirname(__FILE__) . '/clock.c');
	set_clock(0);
	local %ENV = (%ENV, LD_PRELOAD => $library, PIGEON_CLOCK => $clock);
	return new_server($name, @settings);
}

1;
