// The number of dropped events on disk, so that a killed process does not take it along.

import { constants } from "node:fs";
import { open, readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import { alive, OWN } from "./segments.ts";

const NAME = /^dropped\.(\d+)\.(\d+)$/; // <pid>.<start of that process in jiffies>
const DIGITS = 15; // always as many, so that one write replaces the whole number
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_NOFOLLOW;

/** Keep the number of events that this process has dropped or inherited as dropped. */
export async function keep(folder: string, count: number): Promise<void> {
  const file = await open(join(folder, `dropped.${process.pid}.${OWN}`), FLAGS, 0o600);
  try {
    await file.write(`${String(count).padStart(DIGITS, "0")}\n`, 0);
  } finally {
    await file.close();
  }
}

/** Return the sum of what dead processes have kept, and remove it once `take` has kept it elsewhere. */
export async function inherit(folder: string, take: (count: number) => Promise<void>): Promise<void> {
  const dead: string[] = [];
  let sum = 0;
  for (const name of await readdir(folder)) {
    const parts = NAME.exec(name);
    if (!parts || alive(Number(parts[1]), parts[2]!)) continue;
    const count = Number(await readFile(join(folder, name), "latin1").catch(() => "0"));
    if (Number.isSafeInteger(count) && count > 0) sum += count;
    if (name !== `dropped.${process.pid}.${OWN}`) dead.push(name);
  }
  await take(sum);
  for (const name of dead) await unlink(join(folder, name)).catch(() => undefined);
}
