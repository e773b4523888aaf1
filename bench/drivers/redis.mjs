// Redis streams: XADD, then XREADGROUP by a consumer group, and XACK with XDEL in one transaction. A connection for each
// client. The harness starts the server with `appendfsync always`.

import Redis from 'ioredis';

const STREAM = 'bench';
const GROUP = 'workers';

export async function open({ settings, clients }) {
  const connections = Array.from({ length: clients }, () => new Redis(settings));
  await Promise.all(connections.map((connection) => connection.ping()));
  const checked = async (transaction) => {
    const failure = (await transaction.exec()).find(([error]) => error);
    if (failure) throw failure[0];
  };
  return {
    create: async () => {
      await connections[0].flushall();
      await connections[0].xgroup('CREATE', STREAM, GROUP, '$', 'MKSTREAM');
    },
    send: (client, bodies) => {
      if (bodies.length === 1) return connections[client].xadd(STREAM, '*', 'body', bodies[0]);
      return checked(bodies.reduce((all, body) => all.xadd(STREAM, '*', 'body', body), connections[client].multi()));
    },
    receive: async (client, count) => {
      const answer = await connections[client].xreadgroup(
        'GROUP', GROUP, `c${client}`, 'COUNT', count, 'STREAMS', STREAM, '>');
      if (!answer) return 0;
      const ids = answer[0][1].map(([id]) => id);
      await checked(connections[client].multi().xack(STREAM, GROUP, ...ids).xdel(STREAM, ...ids));
      return ids.length;
    },
    close: () => Promise.all(connections.map((connection) => connection.quit())),
  };
}
