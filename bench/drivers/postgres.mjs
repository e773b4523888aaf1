// Any queue that is called through SQL statements: pigeon, PGMQ, plain SQL. A connection for each client, every statement
// prepared; the first column of what a receive returns goes to delete. The harness makes the queue.

import pg from 'pg';

export async function open({ settings, clients, batch }) {
  const { statements, ...connection } = settings;
  const connections = await Promise.all(Array.from({ length: clients }, async () => {
    const client = new pg.Client(connection);
    await client.connect();
    return client;
  }));
  const run = (client, name, value) => connections[client].query(
    { name, text: statements[name], values: value === undefined ? [] : [value], rowMode: 'array' });
  const whole = (list) => (batch === 1 ? list[0] : list);
  return {
    send: (client, bodies) => run(client, 'send', whole(bodies)),
    receive: async (client) => {
      const { rows } = await run(client, 'receive');
      if (rows.length) await run(client, 'delete', whole(rows.map((row) => row[0])));
      return rows.length;
    },
    close: () => Promise.all(connections.map((client) => client.end())),
  };
}
