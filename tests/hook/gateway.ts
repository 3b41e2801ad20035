// A process that takes events until it is killed, for the test of that: `gateway.ts FOLDER`. Its endpoint is down.
// Each line says how many events are on disk.

import { Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { quiet, settings } from "./support.ts";

const emitter = new Emitter(settings("http://127.0.0.1:9", process.argv[2]!), quiet());
for (let n = 0; ;) {
  for (let i = 0; i < 50; i++) {
    emitter.accept("plugin", "cron_changed", { event: { action: "added", jobId: `job-${n++}` }, ctx: {} });
  }
  const before = n;
  await new Promise((resolve) => setTimeout(resolve, 250)); // the limit within which an event is written
  process.stdout.write(`${before - 50}\n`);
}
