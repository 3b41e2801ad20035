import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, test } from "node:test";
import type { TestContext } from "node:test";
import { encode } from "../../hooks/agentmon/lib/records.ts";
import { Spool } from "../../hooks/agentmon/lib/spool.ts";
import { Clock, folder, quiet } from "./support.ts";

const MB = 1024 * 1024;
const opened: Spool[] = [];
afterEach(() => Promise.all(opened.splice(0).map((spool) => spool.close())));

function open(path: string, cap = MB, clock = quiet()): Spool {
  opened.push(new Spool(path, cap, clock, () => undefined));
  return opened.at(-1)!;
}
const logs = (path: string): string[] => readdirSync(path).filter((name) => name.endsWith(".log"));
const json = (n: number, size = 10): string => JSON.stringify({ n, pad: "x".repeat(size) });
const DEAD = "000001800000000000-000001.4194999.1.log".slice(3); // no process has this number

async function all(spool: Spool): Promise<number[]> {
  const found: number[] = [];
  for (;;) {
    const events = await spool.peek(100);
    if (events.length === 0) return found;
    found.push(...events.map((event) => JSON.parse(event).n));
    await spool.ack(events.length);
  }
}

test("events come back in order, stay until they are settled, and leave no file behind", async (t) => {
  const spool = open(folder(t));
  for (let n = 0; n < 5; n++) spool.append(json(n));
  await spool.flush();
  assert.equal((await spool.peek(2)).length, 2);
  assert.equal((await spool.peek(2)).length, 2);
  await spool.ack(1);
  assert.equal(spool.depth, 4);
  assert.deepEqual(await all(spool), [1, 2, 3, 4]);
  assert.equal(spool.depth, 0);
});

test("an event is on disk within 250 ms", async (t) => {
  const path = folder(t);
  const clock = new Clock();
  const spool = open(path, MB, clock);
  await spool.flush();
  spool.append(json(1));
  clock.pass(250);
  assert.deepEqual(await spool.peek(0), []); // comes after the write
  assert.equal(logs(path).length, 1);
});

test("the folder is 0700 and its files are 0600, whatever the umask", async (t) => {
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const path = join(folder(t), "spool");
  mkdirSync(path, { mode: 0o777 });
  const spool = open(path);
  spool.append(json(1));
  await spool.flush();
  assert.equal(statSync(path).mode & 0o777, 0o700);
  for (const name of readdirSync(path)) assert.equal(statSync(join(path, name)).mode & 0o777, 0o600);
});

test("beyond the cap the oldest events are dropped and counted", async (t) => {
  const path = folder(t);
  const spool = open(path, 64 * 1024);
  for (let n = 0; n < 1000; n++) {
    spool.append(json(n, 500));
    if (n % 50 === 0) await spool.flush();
  }
  await spool.flush();
  const bytes = logs(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);
  assert.ok(bytes <= 64 * 1024, `${bytes}`);
  const left = await all(spool);
  assert.ok(spool.counts.dropped > 0);
  assert.equal(left.length + spool.counts.dropped, 1000);
  assert.equal(left.at(-1), 999);
  assert.deepEqual(
    left,
    left.toSorted((a, b) => a - b),
  );
});

function leave(t: TestContext, text: string): string {
  const path = folder(t);
  writeFileSync(join(path, DEAD), text, { mode: 0o600 });
  return path;
}

test("a torn tail is cut, and what precedes it is delivered", async (t) => {
  const path = leave(t, encode(json(1)) + encode(json(2)) + encode(json(3)).slice(0, 15));
  const spool = open(path);
  assert.deepEqual(await all(spool), [1, 2]);
  assert.equal(spool.counts.torn, 1);
});

test("a corrupt middle is set aside and counted, and what surrounds it is delivered", async (t) => {
  const path = leave(
    t,
    encode(json(1)) + encode(json(2)).replace('"n":2', '"n":7') + "garbage\n" + encode(json(4)),
  );
  const spool = open(path);
  assert.deepEqual(await all(spool), [1, 4]);
  assert.equal(spool.counts.corrupt, 2);
  assert.match(readFileSync(join(path, "corrupt.bad"), "utf8"), /"n":7.*\ngarbage\n/);
  assert.equal(statSync(join(path, "corrupt.bad")).mode & 0o777, 0o600);
});

test("a segment of zeros, as after a power failure, is set aside and ends", async (t) => {
  const path = leave(t, "\0".repeat(600_000) + "\n" + encode(json(1)));
  assert.deepEqual(await all(open(path)), [1]);
});

test("a segment of a process that still runs is left to it", async (t) => {
  const child = spawn("sleep", ["60"]);
  t.after(() => void child.kill());
  await once(child, "spawn");
  const start = readFileSync(`/proc/${child.pid}/stat`, "latin1").split(") ")[1]!.split(" ")[19];
  const path = folder(t);
  const name = `001800000000000-000001.${child.pid}.${start}.log`;
  writeFileSync(join(path, name), encode(json(1)));
  assert.deepEqual(await all(open(path)), []);
  assert.ok(existsSync(join(path, name)));
});

test("symbolic links in the folder are not followed, and a folder that is a link is not used", async (t) => {
  const path = folder(t);
  const outside = join(folder(t), "outside");
  writeFileSync(outside, encode(json(1)));
  symlinkSync(outside, join(path, DEAD));
  assert.deepEqual(await all(open(path)), []);
  assert.equal(readFileSync(outside, "utf8"), encode(json(1)));
  const link = join(path, "link");
  symlinkSync(dirname(outside), link);
  const spool = open(link);
  spool.append(json(2));
  await spool.flush();
  assert.deepEqual(readdirSync(dirname(outside)), ["outside"]);
  assert.deepEqual(await all(spool), [2]); // from memory
});

test("an event that is longer than a line may be is dropped and counted", async (t) => {
  const spool = open(folder(t));
  spool.append(json(1, 300_000));
  spool.append(json(2));
  await spool.flush();
  assert.deepEqual(await all(spool), [2]);
  assert.equal(spool.counts.dropped, 1);
});

test("a segment that cannot be opened for want of file descriptors is kept", async (t) => {
  const spool = open(folder(t));
  spool.append(json(1));
  await spool.flush();
  const limit = (soft: string): void =>
    void execFileSync("prlimit", ["--pid", `${process.pid}`, `--nofile=${soft}:`]);
  const before = /Max open files +(\d+)/.exec(readFileSync("/proc/self/limits", "utf8"))![1]!;
  limit("64");
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync("/dev/null", "r"));
  } catch {
    assert.deepEqual(await spool.peek(1), []);
  } finally {
    taken.forEach((file) => closeSync(file));
    limit(before);
  }
  assert.deepEqual(await all(spool), [1]);
  assert.equal(spool.counts.dropped, 0);
});

async function full(spool: Spool): Promise<void> {
  for (let n = 0; n < 200; n++) spool.append(json(n, 200_000));
  await spool.flush();
  const left = await all(spool);
  assert.ok(spool.counts.errors > 0);
  assert.ok(spool.counts.dropped > 0);
  assert.equal(left.length + spool.counts.dropped, 200);
  assert.equal(left.at(-1), 199);
}

test("without a usable folder, events wait in memory within a bound, and what goes beyond it is counted", async (t) => {
  const path = join(folder(t), "file");
  writeFileSync(path, "");
  const warnings: string[] = [];
  await full(new Spool(join(path, "spool"), MB, quiet(warnings), () => undefined));
  assert.equal(warnings.filter((line) => line.includes("cannot write")).length, 1);
});

test(
  "a full disk loses nothing that fits into memory, and counts the rest",
  { skip: process.getuid?.() !== 0 },
  async (t) => {
    const path = mkdtempSync(join(tmpdir(), "agentmon-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", path]);
    t.after(() => {
      execFileSync("umount", [path]);
      rmdirSync(path);
    });
    const spool = open(path, 64 * MB);
    await full(spool);
    spool.append(json(200));
    await spool.close();
    assert.deepEqual(await all(open(path)), [200]); // there is room again
  },
);

const CHILD = join(import.meta.dirname, "child.ts");

test("a process that is killed loses nothing that it had written", async (t) => {
  const path = folder(t);
  const child = spawn(process.execPath, [CHILD, "write", path], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  for await (const part of child.stdout) {
    said += part;
    if (said.split("\n").length > 20) break;
  }
  child.kill("SIGKILL");
  await once(child, "exit");
  const written = Number(said.trim().split("\n").at(-1)); // the child says a number after its write
  const left = await all(open(path));
  assert.ok(written > 100);
  assert.deepEqual(
    left.slice(0, written),
    Array.from({ length: written }, (_, n) => n),
  );
});

test("a process that exits writes what was pending", async (t) => {
  const path = folder(t);
  const child = spawn(process.execPath, [CHILD, "exit", path], { stdio: "inherit" });
  await once(child, "exit");
  assert.deepEqual(await all(open(path)), [0, 1, 2]);
});

test("a spool at its cap of 64 MB is replayed with less than 20 MB of memory", async (t) => {
  const path = folder(t);
  const lines = Array.from({ length: 2000 }, (_, n) => encode(json(n, 500))).join("");
  for (let bytes = 0, n = 0; bytes < 63 * MB; bytes += lines.length, n++) {
    writeFileSync(join(path, `0018${String(n).padStart(11, "0")}-000001.4194999.1.log`), lines);
  }
  const child = spawn(process.execPath, ["--expose-gc", CHILD, "replay", path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  for await (const part of child.stdout) said += part;
  const { events, grown } = JSON.parse(said);
  t.diagnostic(`${events} events, ${(grown / MB).toFixed(1)} MB`);
  assert.ok(events > 100_000);
  assert.ok(grown < 20 * MB, `${grown / MB} MB`);
});
