// graphile-worker: addJob() or its SQL function for many, and its own worker with as many jobs at a time as there are
// clients and a task that does nothing. It takes one job at a time from the database.

import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';

const TASK = 'bench';
const ADD_MANY = `SELECT graphile_worker.add_jobs(ARRAY(SELECT
  ROW($1::text, body, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec FROM unnest($2::json[]) AS body))`;

export async function open({ settings, clients }) {
  const pgPool = new pg.Pool({ ...settings, max: clients + 2 });
  const logger = new Logger(() => (level, message) => { if (level === 'error') console.error(message); });
  const utils = await makeWorkerUtils({ pgPool, logger });
  return {
    create: async () => {
      await utils.migrate();
      await pgPool.query('TRUNCATE graphile_worker._private_jobs');
    },
    send: (_, bodies) => (bodies.length === 1
      ? utils.addJob(TASK, JSON.parse(bodies[0]))
      : pgPool.query({ name: 'add', text: ADD_MANY, values: [TASK, bodies] })),
    consume: async (done) => {
      const runner = await run({
        pgPool, logger, concurrency: clients, noHandleSignals: true, parsedCronItems: [], taskList: { [TASK]: () => {} },
      });
      runner.events.on('job:complete', () => done(1));
      return () => runner.stop();
    },
    close: async () => {
      await utils.release();
      await pgPool.end();
    },
  };
}
