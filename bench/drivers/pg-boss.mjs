// pg-boss: send() or insert(), fetch() and complete(). A pool of as many connections as there are clients. Its maintenance
// (which archives what is complete) is off: it would have nothing to do in so short a time.

import PgBoss from 'pg-boss';

const QUEUE = 'bench';

export async function open({ settings, clients }) {
  const boss = new PgBoss({ ...settings, max: clients, supervise: false, schedule: false });
  boss.on('error', (error) => { throw error; });
  await boss.start();
  return {
    create: async () => {
      await boss.clearStorage();
      await boss.createQueue(QUEUE);
    },
    send: (_, bodies) => (bodies.length === 1
      ? boss.send(QUEUE, JSON.parse(bodies[0]))
      : boss.insert(bodies.map((body) => ({ name: QUEUE, data: JSON.parse(body) })))),
    receive: async (_, batchSize) => {
      const jobs = await boss.fetch(QUEUE, { batchSize });
      if (jobs.length) await boss.complete(QUEUE, jobs.map((job) => job.id));
      return jobs.length;
    },
    close: () => boss.stop({ graceful: false, wait: true }),
  };
}
