// The write-ahead queue on disk: events are written within 200 ms and removed after they have been delivered.
//
// It survives a killed process (nothing that was written is lost), not a power failure: it does not call fsync.

import { closeSync, openSync, writeSync } from "node:fs";
import { open, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { setAside } from "./aside.ts";
import { inherit, keep } from "./dropped.ts";
import { encode, LINE_LIMIT, split } from "./records.ts";
import type { Runtime } from "./runtime.ts";
import { adopt, CREATE, front, name, secure } from "./segments.ts";
import type { Segment } from "./segments.ts";

export interface SpoolCounts {
  /** Events that were given up since the folder was made: spool full, event too long, or its file vanished. */
  dropped: number;
  /** Lines that were set aside because their checksum did not match. */
  corrupt: number;
  /** Segments whose last line was cut because it was incomplete. */
  torn: number;
  /** Failed attempts to write, such as on a full disk. */
  errors: number;
}

const DELAY = 200; // ms from an event to its write
const RETRY = 1_000; // ms after a failed write
const WRITE = 1024 * 1024; // bytes per write, and per segment unless the spool is small
const MEMORY = 16 * 1024 * 1024; // bytes of events that wait for a write

export class Spool {
  readonly counts: SpoolCounts = { dropped: 0, corrupt: 0, torn: 0, errors: 0 };
  readonly #folder: string;
  readonly #cap: number;
  readonly #segmentBytes: number;
  readonly #runtime: Runtime;
  readonly #wake: () => void;
  #segments: Segment[] = [];
  #active: { file: FileHandle; segment: Segment } | undefined;
  #pending: string[] = [];
  #pendingBytes = 0;
  #writing: string[] = [];
  #number: number;
  #timer: (() => void) | undefined;
  #failing = false;
  #buffer: Buffer | undefined;
  /** What the last `peek` returned and `ack` has not settled. */
  #taken: { segment: Segment; ends: number[]; base: number } | undefined;
  /** Events that the last `peek` returned and whose segment was dropped since: they may yet be delivered. */
  #orphans = 0;
  /** `counts.dropped` as it is on disk. */
  #kept = 0;
  /** What the last `peek` returned from memory. */
  #lent: string[] = [];
  #chain: Promise<unknown>;

  /** `wake` is called when there is something new to read. The folder is read after `before`, in which an earlier spool
   * of this process writes the rest. Nothing here throws; failures are counted. */
  constructor(folder: string, capBytes: number, runtime: Runtime, wake: () => void, before?: Promise<void>) {
    this.#folder = folder;
    this.#cap = capBytes;
    this.#segmentBytes = Math.max(1024, Math.min(WRITE, Math.floor(capBytes / 8)));
    this.#runtime = runtime;
    this.#wake = wake;
    this.#number = Math.floor(runtime.random() * 1_000_000); // two processes may start in the same millisecond
    this.#chain = before ? before.then(() => this.#open()) : this.#open();
  }

  /** How many events are waiting, on disk and in memory. */
  get depth(): number {
    return (
      this.#segments.reduce((sum, segment) => sum + segment.events, 0) +
      this.#pending.length +
      this.#writing.length
    );
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.size, 0);
  }

  /** Queue an event. Returns at once. */
  append(json: string): void {
    const line = encode(json);
    if (Buffer.byteLength(line) > LINE_LIMIT) {
      this.counts.dropped += 1;
      return;
    }
    this.#pending.push(line);
    this.#pendingBytes += line.length;
    if (this.#pendingBytes > MEMORY) this.#shed();
    this.#schedule(DELAY);
  }

  /** Write what is pending now. Resolves when it is written, or when that has failed. */
  flush(): Promise<void> {
    return this.#locked(() => this.#write());
  }

  /** Return the oldest events, at most `limit`, without removing them. */
  peek(limit: number): Promise<string[]> {
    return this.#locked(() => this.#read(limit), []);
  }

  /** Remove the first `count` of the events that `peek` returned last. */
  ack(count: number): Promise<void> {
    return this.#locked(() => this.#settle(count));
  }

  /** Write what is pending to a file of its own, without waiting for anything: the process is about to exit. */
  spill(): void {
    const lines = [...this.#writing, ...this.#pending];
    this.#pending = [];
    if (lines.length === 0) return;
    try {
      const path = join(this.#folder, name(this.#runtime.now(), ++this.#number));
      const file = openSync(path, CREATE, 0o600);
      writeSync(file, lines.join(""));
      closeSync(file);
    } catch {
      this.counts.errors += 1;
    }
  }

  /** Take over what processes that have ended since have left, such as a command of OpenClaw beside the gateway. */
  adopt(): Promise<void> {
    return this.#locked(() => this.#adopt(false));
  }

  /** Stop the timer and close the file. Pending events are written first. */
  async close(): Promise<void> {
    this.#timer?.();
    await this.flush();
    await this.#locked(() => this.#rotate());
    await this.#chain;
  }

  /** Run one operation at a time. An operation that fails is counted, and yields `otherwise`. */
  #locked<T>(action: () => Promise<T>, otherwise?: T): Promise<T> {
    const result = this.#chain.then(action).catch(() => {
      this.counts.errors += 1;
      return otherwise as T;
    });
    this.#chain = result.then(() => this.#keep());
    return result;
  }

  async #keep(): Promise<void> {
    const { dropped } = this.counts;
    if (dropped === this.#kept) return;
    await keep(this.#folder, dropped).then(
      () => (this.#kept = dropped),
      () => undefined, // tried again after the next operation
    );
  }

  async #open(): Promise<void> {
    try {
      await secure(this.#folder);
      await this.#adopt(true);
      await inherit(this.#folder, (count) => {
        this.counts.dropped += count;
        return this.#keep();
      });
    } catch (error) {
      this.counts.errors += 1;
      this.#runtime.warn(`cannot use the spool (${(error as Error).message}); events wait in memory`);
    }
    this.#wake();
  }

  async #adopt(first: boolean): Promise<void> {
    const adopted = await adopt(this.#folder, () => void (this.counts.torn += 1), first);
    if (adopted.length === 0) return;
    this.#segments = [...adopted, ...this.#segments];
    await this.#trim();
    this.#wake();
  }

  #schedule(ms: number): void {
    this.#timer ??= this.#runtime.after(ms, () => {
      this.#timer = undefined;
      void this.flush();
    });
  }

  /** Drop the oldest tenth of what waits in memory. */
  #shed(): void {
    const gone = this.#pending.splice(0, Math.max(1, Math.ceil(this.#pending.length / 10)));
    this.#pendingBytes -= gone.reduce((sum, line) => sum + line.length, 0);
    this.counts.dropped += gone.length;
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      this.#takePending();
      try {
        await this.#writeOut();
        this.#failing = false;
      } catch (error) {
        this.#pending = this.#writing.concat(this.#pending);
        this.#pendingBytes += this.#writing.reduce((sum, line) => sum + line.length, 0);
        this.#writing = [];
        this.counts.errors += 1;
        if (!this.#failing)
          this.#runtime.warn(
            `cannot write to the spool (${(error as Error).message}); events wait in memory`,
          );
        this.#failing = true;
        this.#schedule(RETRY);
        break;
      }
    }
    this.#wake();
  }

  #takePending(): void {
    let bytes = 0;
    let count = 0;
    while (
      count < this.#pending.length &&
      (count === 0 || bytes + this.#pending[count]!.length <= this.#segmentBytes)
    ) {
      bytes += this.#pending[count++]!.length;
    }
    this.#writing = this.#pending.splice(0, count);
    this.#pendingBytes -= bytes;
  }

  async #writeOut(): Promise<void> {
    const active = (this.#active ??= await this.#create());
    const data = Buffer.from(this.#writing.join(""));
    try {
      await active.file.writeFile(data);
    } catch (error) {
      // Cut what was written of it. If that fails too, the reader sees an incomplete line and sets it aside.
      await active.file.truncate(active.segment.size).catch(() => undefined);
      await this.#rotate();
      throw error;
    }
    active.segment.size += data.length;
    active.segment.events += this.#writing.length;
    this.#writing = [];
    if (active.segment.size >= this.#segmentBytes) await this.#rotate();
    await this.#trim();
  }

  async #create(): Promise<{ file: FileHandle; segment: Segment }> {
    await secure(this.#folder);
    const path = join(this.#folder, name(this.#runtime.now(), ++this.#number));
    const segment: Segment = { path, size: 0, events: 0, offset: 0 };
    const file = await open(path, CREATE, 0o600);
    this.#segments.push(segment);
    return { file, segment };
  }

  async #rotate(): Promise<void> {
    const active = this.#active;
    this.#active = undefined;
    await active?.file.close().catch(() => undefined);
    if (active && active.segment.size === 0) await this.#remove(active.segment);
  }

  /** Drop the oldest segments until the spool is within its cap. */
  async #trim(): Promise<void> {
    while (this.bytes > this.#cap && this.#segments.length > 0) {
      const oldest = this.#segments[0]!;
      this.counts.dropped += oldest.events;
      if (this.#taken?.segment === oldest) {
        this.#orphans = this.#taken.ends.length;
        this.#taken = undefined;
      }
      await this.#remove(oldest);
    }
  }

  async #remove(segment: Segment): Promise<void> {
    this.#segments = this.#segments.filter((other) => other !== segment);
    if (this.#active?.segment === segment) {
      const { file } = this.#active;
      this.#active = undefined;
      await file.close().catch(() => undefined);
    }
    await unlink(segment.path).catch(() => undefined);
  }

  async #read(limit: number): Promise<string[]> {
    this.#taken = undefined;
    this.#orphans = 0;
    this.#lent = [];
    if (limit < 1) return [];
    for (;;) {
      const segment = this.#segments[0];
      if (!segment) return this.#fromMemory(limit);
      if (segment.offset >= segment.size) {
        await this.#remove(segment);
        continue;
      }
      // One buffer for all reads: a new one for each would leave gigabytes of garbage while a full spool is sent.
      const piece = await front(segment, (this.#buffer ??= Buffer.allocUnsafeSlow(LINE_LIMIT)));
      const found = piece && split(piece, limit, segment.offset + piece.length >= segment.size);
      if (found?.events.length) {
        this.#taken = { segment, ends: found.ends, base: segment.offset };
        return found.events;
      }
      if (found?.corrupt) await this.#setAside(segment, found.corrupt);
      else {
        this.counts.dropped += segment.events;
        await this.#remove(segment);
      }
    }
  }

  /** While the disk refuses writes, events are read from memory, so that a reachable endpoint still gets them. */
  #fromMemory(limit: number): string[] {
    if (!this.#failing) return [];
    this.#lent = this.#pending.slice(0, limit);
    return this.#lent.map((line) => line.slice(9, -1));
  }

  async #setAside(segment: Segment, line: Buffer): Promise<void> {
    this.counts.corrupt += 1;
    segment.offset += line.length;
    segment.events = Math.max(0, segment.events - 1);
    await setAside(this.#folder, line);
  }

  async #settle(count: number): Promise<void> {
    const taken = this.#taken;
    for (const line of this.#lent.splice(0, count)) {
      // A write may have put it on disk meanwhile. Then it is delivered twice, under the same id.
      if (this.#pending[0] !== line) continue;
      this.#pending.shift();
      this.#pendingBytes -= line.length;
    }
    const found = Math.min(this.#orphans, Math.max(0, count));
    this.#orphans -= found;
    this.counts.dropped -= found;
    if (!taken || count <= 0) return;
    const ends = taken.ends.splice(0, count);
    taken.segment.offset = taken.base + (ends.at(-1) ?? 0);
    taken.segment.events = Math.max(0, taken.segment.events - ends.length);
    if (taken.ends.length === 0) this.#taken = undefined;
    if (taken.segment.offset >= taken.segment.size) await this.#remove(taken.segment);
  }
}
