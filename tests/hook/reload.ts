// A process that ends just after a newer version of the emitter has replaced the one that has events to write.

import { accept, emitter } from "../../hooks/agentmon/lib/emitter.ts";

const occur = (job: string): void =>
  accept("plugin", "cron_changed", { event: { action: "added", jobId: job }, ctx: {} });

emitter();
occur("old");
Object.assign((globalThis as { [key: symbol]: object })[Symbol.for("swarm.agentmon")]!, { version: 0 });
emitter();
occur("new");
process.exit(0);
