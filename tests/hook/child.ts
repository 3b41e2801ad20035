// Processes of the tests of the spool: `write FOLDER` until killed, `exit FOLDER` with events pending, `replay FOLDER`.

import { Spool } from "../../hooks/agentmon/lib/spool.ts";
import { real } from "../../hooks/agentmon/lib/runtime.ts";

const [, , what, folder] = process.argv;
const before = process.memoryUsage.rss();
const spool = new Spool(folder!, 64 * 1024 * 1024, real, () => undefined);

if (what === "write") {
  for (let n = 0; ;) {
    for (let i = 0; i < 20; i++) spool.append(JSON.stringify({ n: n++ }));
    await spool.flush();
    process.stdout.write(`${n}\n`);
  }
} else if (what === "exit") {
  await spool.flush();
  process.on("exit", () => spool.spill());
  for (let n = 0; n < 3; n++) spool.append(JSON.stringify({ n }));
  process.exit(0);
} else {
  let events = 0;
  let peak = 0;
  for (;;) {
    const batch = await spool.peek(200);
    if (batch.length === 0) break;
    events += batch.length;
    await spool.ack(batch.length);
    peak = Math.max(peak, process.memoryUsage.rss());
  }
  console.log(JSON.stringify({ events, grown: peak - before }));
}
