// The load driver of the workload "systems": one program that drives every system in the same way, so that all of them pay
// for the same kind of client.
//
// node driver.mjs TASK, where TASK is a JSON object:
//   system       the module beside this file that knows the system; see below
//   settings     what that module needs to connect
//   operation    "create" (an empty queue, whatever was there before), "send" or "receive" (and acknowledge)
//   clients      how many of them at a time
//   batch        messages a call
//   seconds      how long; or
//   messages     how many (of a send)
//   body         what to send
//
// It prints a JSON object: messages, seconds, p50_us and p99_us of the calls (where there are calls to be timed) and
// cpu_seconds of this program, all without the time for connecting.
//
// A module exports `open(task)`, which connects and returns an object with
//   create()                an empty queue
//   send(client, bodies)    resolves when the messages are as durable as the system makes them
//   receive(client, count)  receives up to `count` messages, acknowledges them, and resolves to their number; or
//   consume(done)           for a system that pushes: calls done(n) for every n messages acknowledged, until the function
//                           that it resolves to is called
//   close()

const task = JSON.parse(process.argv[2]);

/** Calls work(client) again and again, for every client at the same time, until the task's time or number is reached. */
async function repeat(work) {
  const end = task.seconds ? performance.now() + 1000 * task.seconds : Infinity;
  const times = [];
  let left = task.messages ?? Infinity;
  let messages = 0;
  await Promise.all(Array.from({ length: task.clients }, async (_, client) => {
    while (left > 0 && performance.now() < end) {
      left -= task.batch;
      const start = performance.now();
      const count = await work(client);
      times.push(1000 * (performance.now() - start));
      messages += count;
      if (count === 0) break;
    }
  }));
  return { messages, times };
}

/** Lets a system push messages for the task's time. */
async function pushed(system) {
  let messages = 0;
  const stop = await system.consume((count) => { messages += count; });
  await new Promise((resolve) => setTimeout(resolve, 1000 * task.seconds));
  const received = messages;
  return { messages: received, times: [], stop };
}

function percentile(times, share) {
  return times.length ? times[Math.min(times.length - 1, Math.floor(share * times.length))] : null;
}

const { open } = await import(`./${task.system}.mjs`);
const system = await open(task);
if (task.operation === 'create') {
  await system.create();
} else {
  const bodies = Array(task.batch).fill(task.body);
  const cpu = process.cpuUsage();
  const start = performance.now();
  let done;
  if (task.operation === 'send') {
    done = await repeat(async (client) => { await system.send(client, bodies); return bodies.length; });
  } else if (system.receive) {
    done = await repeat((client) => system.receive(client, task.batch));
  } else {
    done = await pushed(system);
  }
  const seconds = (performance.now() - start) / 1000;
  const { user, system: kernel } = process.cpuUsage(cpu);
  await done.stop?.();
  done.times.sort((a, b) => a - b);
  console.log(JSON.stringify({
    messages: done.messages,
    seconds,
    p50_us: percentile(done.times, 0.5),
    p99_us: percentile(done.times, 0.99),
    cpu_seconds: (user + kernel) / 1e6,
  }));
}
await system.close();
