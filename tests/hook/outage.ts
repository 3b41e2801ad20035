// Half an hour of a gateway under load whose endpoint is down, on a fake clock: `outage.ts FOLDER CAP_BYTES`.
// Says how many events it made and how it stands once all of them are on disk, then waits to be killed.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Emitter } from "../../hooks/agentmon/lib/emitter.ts";
import { real } from "../../hooks/agentmon/lib/runtime.ts";
import { Clock, settings, until } from "./support.ts";

const [, , folder, cap] = process.argv;
const SECONDS = 1_800;
const LOAD = 5; // events per second
const clock = new Clock();
clock.bytes = real.bytes; // two gateways must not make the same ids
const emitter = new Emitter(settings("http://127.0.0.1:9", folder!, { spoolBytes: Number(cap) }), clock);

for (let second = 0; second < SECONDS; second++) {
  for (let n = 0; n < LOAD; n++) {
    const event = { action: "added", jobId: `job-${second * LOAD + n}` };
    emitter.accept("plugin", "cron_changed", { event, ctx: {} });
  }
  clock.pass(1_000);
  await new Promise((resolve) => setImmediate(resolve)); // for the disk, and for the endpoint's refusals
}
clock.pass(200); // the last write
await until(() => lines() === emitter.stats().depth && settled(), "everything on disk");
const made = SECONDS * LOAD + SECONDS / 60; // with a metric of the hook itself each minute
process.stdout.write(`${JSON.stringify({ made, ...emitter.stats() })}\n`);
setInterval(() => undefined, 1_000);

function lines(): number {
  const files = readdirSync(folder!).filter((name) => name.endsWith(".log"));
  return files.reduce((sum, name) => sum + readFileSync(join(folder!, name), "latin1").split("\n").length - 1, 0);
}

function settled(): boolean {
  const kept = readdirSync(folder!).find((name) => name.startsWith(`dropped.${process.pid}.`));
  return Number(kept ? readFileSync(join(folder!, kept), "latin1") : 0) === emitter.stats().dropped;
}
