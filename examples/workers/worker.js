// A worker in Node: runs a command for each message of a queue.
//
//     node worker.js CONNECTION QUEUE COMMAND [ARGUMENT...]
//
// The command gets the message's body on its standard input.  If it succeeds
// the message is deleted; if it fails the message comes back when its
// visibility timeout ends, and goes to the dead-letter queue in the end.
//
// The queue needs notify => true: the worker sleeps in LISTEN and, when it is
// woken, receives until the queue is empty.  It looks once a minute anyway,
// since notifications are not kept for who is not connected.  While a command
// runs, the visibility of its message is extended; if the message is somebody
// else's by now, the command is ended.  At SIGTERM or SIGINT the worker finishes
// its message and leaves.  Needs pg: npm install.

'use strict';

const { spawn } = require('node:child_process');
const { Client, escapeIdentifier } = require('pg');

const SLOW_POLL = 60_000; // milliseconds
const VISIBILITY = 30; // seconds, from one extension to the next a third of it

// Starts a command that reads "input", as a process group of its own.
function start([command, ...args], input) {
  const child = spawn(command, args, { stdio: ['pipe', 'inherit', 'inherit'], detached: true });
  const status = new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  child.stdin.on('error', () => {}); // it may not want to read
  child.stdin.end(input);
  return { child, status };
}

// Extends the visibility of a message; false if it is somebody else's by now.
async function extend(client, queue, receipt) {
  const { rows } = await client.query(
    'SELECT pigeon.change_visibility($1, $2::pigeon.receipt, make_interval(secs => $3)) AS extended',
    [queue, receipt, VISIBILITY]);
  return rows[0].extended;
}

// Receives and processes one message; false if there is none.
async function work(client, queue, command) {
  const { rows } = await client.query(
    'SELECT receipt, body FROM pigeon.receive($1, 1, make_interval(secs => $2))', [queue, VISIBILITY]);
  if (rows.length === 0) return false;
  const [{ receipt, body }] = rows;
  const { child, status } = start(command, body);
  const heartbeat = setInterval(() => {
    extend(client, queue, receipt)
      .then((extended) => { if (!extended && child.exitCode === null) process.kill(-child.pid); })
      .catch((error) => console.error(error.message));
  }, VISIBILITY * 1000 / 3);
  try {
    if (await status === 0) {
      await client.query('SELECT pigeon.delete($1, $2::pigeon.receipt)', [queue, receipt]);
    }
  } finally {
    clearInterval(heartbeat);
  }
  return true;
}

async function main(connectionString, queue, command) {
  const client = new Client({ connectionString });
  let stopping = false;
  let woken = false;
  let wake = () => {};

  const poke = () => { woken = true; wake(); };
  const stop = () => { stopping = true; poke(); };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  client.on('notification', poke);
  await client.connect();
  await client.query(`LISTEN ${escapeIdentifier(`pigeon.${queue}`)}`);
  while (!stopping) {
    woken = false;
    while (!stopping && await work(client, queue, command));
    // A notification that came after the last look is not slept over.
    if (!woken) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, SLOW_POLL);
        wake = () => { clearTimeout(timer); resolve(); };
      });
    }
  }
  await client.end();
}

const [connectionString, queue, ...command] = process.argv.slice(2);
if (command.length === 0) {
  console.error('usage: node worker.js CONNECTION QUEUE COMMAND [ARGUMENT...]');
  process.exit(2);
}
main(connectionString, queue, command).catch((error) => {
  console.error(error);
  process.exit(1);
});
