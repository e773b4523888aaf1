# A queue or topic is dropped while a call that has found it looks at its
# rights.  What the call says is that it does not exist.

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

sql(q{CREATE EXTENSION pigeon; CREATE ROLE workers; CREATE ROLE worker IN ROLE workers;
	CREATE ROLE owner; GRANT CREATE ON SCHEMA pigeon TO owner});

# What a call of a new session says, if meanwhile, at a function, something is
# dropped.
sub while_dropped
{
	my ($where, $call, $drop) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $result = stopped_at($session, $where, $call, sub { sql($drop) });

	$session->quit;
	return $result;
}

# The first right needs a look at the roles that the role is in, which takes
# note of what was dropped.
sql(q{SELECT pigeon.create_queue('q'); SELECT pigeon.grant_access('q', 'workers', '{receive, delete}')});
like(while_dropped('pgn_has_right', q{SET ROLE worker; SELECT pigeon.pop('q')}, q{SELECT pigeon.drop_queue('q')}),
	qr/^42704 queue "q" does not exist$/m, 'a queue, while its rights are checked');

# The first look in this session.
sql(q{SET ROLE owner; SELECT pigeon.create_queue('q')});
like(while_dropped('pgn_is_owner', q{SET ROLE owner; SELECT pigeon.alter_queue('q', delay => '1 s')}, q{SELECT pigeon.drop_queue('q')}),
	qr/^42704 queue "q" does not exist$/m, 'a queue, while its owner is checked');
sql(q{SET ROLE owner; SELECT pigeon.create_topic('t')});
like(while_dropped('pgn_is_owner', q{SET ROLE owner; SELECT pigeon.alter_topic('t', tags => '{}')}, q{SELECT pigeon.drop_topic('t')}),
	qr/^42704 topic "t" does not exist$/m, 'a topic, while its owner is checked');

# Counters of a topic that is gone are NULL.
sql(q{SELECT pigeon.create_topic('t')});
my $topic = sql(q{SELECT id FROM pigeon.topic});
like(while_dropped('pgn_has_right', qq{SELECT c IS NULL FROM pigeon.topic_counters($topic) AS c}, q{SELECT pigeon.drop_topic('t')}),
	qr/^t\n00000/m, 'a topic, while it is asked for its counters');

all_is_well($node, 'postgres', 'all is well');
done_testing();
