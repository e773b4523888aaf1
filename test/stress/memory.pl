# A backend's memory does not grow with the number of its calls.

use strict;
use warnings;

use PigeonTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
$node->safe_psql('postgres', q{
	CREATE EXTENSION pigeon;
	SELECT pigeon.create_queue('dead');
	SELECT pigeon.create_queue('work', visibility_timeout => '1 h', dead_letter_queue => 'dead', max_receive_count => 1)});

# One round of calls; some of them fail.
my @calls = (
	q{SELECT pigeon.send('work', repeat('x', 100), '{"a": 1}')},
	q{SELECT pigeon.send_batch('work', ARRAY['a', 'b', 'c', 'd'])},
	q{SELECT pigeon.delete('work', receipt) FROM pigeon.receive('work', 2)},
	q{SELECT pigeon.change_visibility('work', receipt, '0') FROM pigeon.receive('work', 1)},
	q{SELECT pigeon.receive('work', 1, '0')},
	q{SELECT pigeon.peek('work', 2)},
	q{SELECT pigeon.pop('work', 2)},
	q{SELECT pigeon.pop('dead', 2)},
	q{SELECT pigeon.receive('dead')},
	q{SELECT pigeon.send('nobody', 'x')},
	q{SELECT pigeon.send('work', '')},
	q{SELECT pigeon.delete('work', '9-9-9-9')},
	q{SELECT 1 / (pigeon.send('work', 'undone') - pigeon.send('work', 'undone') + 1)});
$node->safe_psql('postgres', q{
	CREATE PROCEDURE call_all(calls text[], rounds integer) LANGUAGE plpgsql AS $$
	DECLARE
		call text;
	BEGIN
		FOR i IN 1 .. rounds LOOP
			FOREACH call IN ARRAY calls LOOP
				BEGIN
					EXECUTE call;
				EXCEPTION WHEN OTHERS THEN NULL;
				END;
			END LOOP;
			COMMIT;
		END LOOP;
	END $$});
my $call = 'CALL call_all(ARRAY[' . join(', ', map { "\$q\$$_\$q\$" } @calls) . '], %d);';
my $size = 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts;';

my ($before, $after) = split /\n/, $node->safe_psql('postgres',
	sprintf("$call\n$size\n", 200) . sprintf($call, 385) x 20 . "\n$size");
cmp_ok($before, '>', 0, "after a warm-up the backend has $before bytes");
cmp_ok($after, '<', $before + 256 * 1024, 'and ' . 20 * 385 * @calls . " calls later $after");
all_is_well($node, 'postgres', 'all is well');

done_testing();
