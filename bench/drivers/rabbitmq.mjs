// RabbitMQ: a quorum queue (written to disk and synchronised), publisher confirms, consumers with a prefetch of one batch
// that acknowledge by hand. A connection and a channel for each client.

import amqp from 'amqplib';

const QUEUE = 'bench';

export async function open({ settings, clients, batch }) {
  const connections = await Promise.all(Array.from({ length: clients }, () => amqp.connect(settings)));
  const channels = await Promise.all(connections.map((connection) => connection.createConfirmChannel()));
  return {
    create: async () => {
      await channels[0].deleteQueue(QUEUE);
      await channels[0].assertQueue(QUEUE, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
    },
    send: (client, bodies) => {
      for (const body of bodies) channels[client].sendToQueue(QUEUE, Buffer.from(body), { persistent: true });
      return channels[client].waitForConfirms();
    },
    consume: async (done) => {
      await Promise.all(channels.map(async (channel) => {
        let waiting = 0;
        await channel.prefetch(batch);
        await channel.consume(QUEUE, (message) => {
          if (message === null || ++waiting < batch) return;
          channel.ack(message, batch > 1);
          waiting = 0;
          done(batch);
        });
      }));
      return () => {};
    },
    close: () => Promise.all(connections.map((connection) => connection.close())),
  };
}
