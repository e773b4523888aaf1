-- mark_processed
BEGIN;
SELECT plan(10);
SELECT pigeon.create_queue('q', retention => '60 s');
SELECT pigeon.create_queue('other');
CREATE ROLE reader;
SELECT is(pigeon.mark_processed('q', 1), true, 'a message is marked');
SELECT is(pigeon.mark_processed('q', 1), false, 'once');
SELECT is(pigeon.mark_processed('other', 1), true, 'in another queue it is another');
SAVEPOINT s;
SELECT is(pigeon.mark_processed('q', 2), true, 'what is rolled back');
ROLLBACK TO s;
SELECT is(pigeon.mark_processed('q', 2), true, 'was not marked');
UPDATE pigeon.processed SET processed_at = processed_at - interval '61 s' WHERE message_id = 1;
SELECT pigeon.mark_processed('q', 3);
SELECT is((SELECT array_agg(message_id ORDER BY message_id) FROM pigeon.processed JOIN pigeon.queue ON id = queue_id WHERE name = 'q'), '{2,3}',
	'notes older than the retention are removed');
SELECT pigeon.create_queue('for ever', retention => '10000 years');
SELECT is(pigeon.mark_processed('for ever', 1), true, 'or for as long as can be');
SELECT pigeon.drop_queue('for ever');
SELECT throws_ok($$SELECT pigeon.mark_processed(NULL, 1)$$, '22023', NULL, 'a queue is needed');
SET ROLE reader;
SELECT throws_ok($$SELECT pigeon.mark_processed('q', 1)$$, '42501', NULL, 'and the right to delete');
RESET ROLE;
SELECT pigeon.drop_queue('q');
SELECT is((SELECT count(*) FROM pigeon.processed), 1::bigint, 'drop_queue forgets the notes of the queue');
SELECT * FROM finish();
ROLLBACK;
