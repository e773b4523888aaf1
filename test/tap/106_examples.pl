# The example workers: each drains its queue when it is woken, extends the
# visibility of a long job, and leaves cleanly.

use strict;
use warnings;

use File::Basename;
use File::Copy;
use IPC::Run;
use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $workers = dirname(__FILE__) . '/../../examples/workers';
my $directory = PostgreSQL::Test::Utils::tempdir;
my $uri = 'postgresql:///postgres?host=' . $node->host . '&port=' . $node->port;

sub sql { return $node->safe_psql('postgres', $_[0]) }

sub becomes_true
{
	my ($name, $sql) = @_;

	ok($node->poll_query_until('postgres', "SELECT $sql"), $name);
	return;
}

# What the command of a worker has written.
sub written
{
	my ($file) = @_;

	return -e $file ? slurp_file($file) : '';
}

# Waits until a file has this content.
sub file_becomes
{
	my ($name, $file, $expected) = @_;
	my $patience = 10 * $PostgreSQL::Test::Utils::timeout_default;

	select undef, undef, undef, 0.1 while written($file) ne $expected && $patience-- > 0;
	is(written($file), $expected, $name);
	return;
}

# A worker that writes each body to a file, one that runs long, one that fails.
sub check_worker
{
	my ($name, @program) = @_;
	my $queue = "Queue of $name";
	my $file = "$directory/$name";
	my $command = qq{read -r body; case \$body in bad) exit 1;; endless) exec sleep 3600;; long) until [ -e '$file.go' ]; do sleep 0.2; done;; esac; echo "\$body" >>'$file'};

	sql(qq{SELECT pigeon.create_queue('dead $name');
		SELECT pigeon.create_queue('$queue', notify => true, dead_letter_queue => 'dead $name', max_receive_count => 1);
		SELECT pigeon.send('$queue', 'first')});
	my $worker = IPC::Run::start([ @program, $uri, $queue, 'sh', '-c', $command ],
		'<', \undef, '>&', "$directory/$name.log");
	file_becomes("$name: works on what is there", $file, "first\n");
	sql(qq{SELECT pigeon.send_batch('$queue', ARRAY['second', 'third'])});
	file_becomes("$name: is woken", $file, "first\nsecond\nthird\n");
	sql(qq{SELECT pigeon.send('$queue', 'bad')});
	becomes_true("$name: does not delete what failed",
		qq{in_flight = 1 FROM pigeon.queue_metrics WHERE queue = '$queue'});

	# The message of a job is taken away; the worker gets free for the next one.
	sql(qq{SELECT pigeon.purge_queue('$queue'); SELECT pigeon.send('$queue', 'endless')});
	becomes_true("$name: has no end in sight", qq{in_flight = 1 FROM pigeon.queue_metrics WHERE queue = '$queue'});
	$node->poll_query_until('postgres', qq{SELECT pigeon.purge_queue('$queue') \\g /dev/null
		SELECT count(*) = 0 FROM pigeon.peek('$queue')}) or die 'not purged';
	sql(qq{SELECT pigeon.send('$queue', 'next')});
	file_becomes("$name: gives up a message that is not its own any more", $file, "first\nsecond\nthird\nnext\n");

	$node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pigeon.peek('$queue')}) or die 'not deleted';

	# A job longer than its visibility timeout, and a signal in the middle of it.
	sql(qq{SELECT pigeon.send('$queue', 'long')});
	becomes_true("$name: is at it", qq{in_flight = 1 FROM pigeon.queue_metrics WHERE queue = '$queue'});
	my $visible_at = sql(qq{SELECT visible_at FROM pigeon.peek('$queue')});
	becomes_true("$name: extends the visibility",
		qq{visible_at > '$visible_at' FROM pigeon.peek('$queue')});
	sql(qq{SELECT pigeon.send('$queue', 'for another')});
	$worker->signal('TERM');
	append_to_file("$file.go", '');
	$worker->finish;
	is($worker->result(0), 0, "$name: leaves cleanly") or note written("$directory/$name.log");
	is(written($file), "first\nsecond\nthird\nnext\nlong\n", "$name: after it has finished");
	is(sql(qq{SELECT string_agg(body, ',') FROM pigeon.peek('$queue')}), 'for another',
		"$name: and leaves the rest to others");
	return;
}

sql(q{CREATE EXTENSION pigeon});

# The examples extend every ten seconds; the test has less time.
foreach my $file ('worker.py', 'worker.js')
{
	my $source = slurp_file("$workers/$file");

	is($source =~ s/VISIBILITY = 30/VISIBILITY = 15/, 1, "$file has a visibility timeout");
	append_to_file("$directory/$file", $source);
}

SKIP:
{
	skip 'psycopg2 is not there', 10 if system('/usr/bin/python3 -c "import psycopg2" 2>/dev/null') != 0;
	check_worker('Python', '/usr/bin/python3', "$directory/worker.py");
}

SKIP:
{
	copy("$workers/package.json", $directory);
	skip 'npm is not there', 10 if system('npm --version >/dev/null 2>&1') != 0;
	skip 'npm cannot install pg', 10
	  if system("cd '$directory' && HOME='$directory' npm install --silent >npm.log 2>&1") != 0;
	check_worker('Node', 'node', "$directory/worker.js");
}

# The one inside of the database.
sql(q{SELECT pigeon.create_queue('sql dead');
	SELECT pigeon.create_queue('sql', visibility_timeout => '1 s', dead_letter_queue => 'sql dead', max_receive_count => 2); SELECT pigeon.send('sql', 'first')});
my ($output, $errors) = ('', '');
my $worker = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr('postgres'), '-v', 'queue=sql', '-f', "$workers/worker.sql" ],
	'<', \undef, '>', \$output, '2>', \$errors);
$node->poll_query_until('postgres', q{SELECT to_regclass('processed') IS NOT NULL});
becomes_true('SQL: works on what is there', q{string_agg(body, ',' ORDER BY message_id) = 'first' FROM processed});
sql(q{SELECT pigeon.send_batch('sql', ARRAY['second', 'third'])});
becomes_true('SQL: is woken', q{string_agg(body, ',' ORDER BY message_id) = 'first,second,third' FROM processed});
becomes_true('SQL: holds no snapshot while it waits', q{count(*) = 1 FROM pg_stat_activity
	WHERE query = 'CALL work(''sql'');' AND wait_event_type = 'Extension' AND backend_xmin IS NULL});
sql(q{ALTER TABLE processed ADD CHECK (body <> 'poison'); SELECT pigeon.send_batch('sql', ARRAY['poison', 'fourth'])});
becomes_true('SQL: goes on when a message fails', q{count(*) = 1 FROM processed WHERE body = 'fourth'});
becomes_true('SQL: which ends in the dead-letter queue', q{count(*) = 1 FROM pigeon.peek('sql dead') WHERE body = 'poison'});
$worker->signal('INT');
$worker->finish;
like($errors, qr/WARNING:  message \d+ failed: new row .* violates check constraint/, 'SQL: tells why');
like($errors, qr/canceling statement due to user request/, 'SQL: can be stopped');
sql(q{SELECT pigeon.send('sql', 'for another')});
is(sql(q{SELECT body FROM pigeon.peek('sql')}), 'for another', 'SQL: and has stopped');

$node->stop;
done_testing();
