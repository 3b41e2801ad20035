// The files of a spool's folder: their names, their owners, and the segments that a dead process has left.

import { constants, readFileSync } from "node:fs";
import { chmod, lstat, mkdir, open, readdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { measure } from "./records.ts";

export interface Segment {
  path: string;
  /** Bytes of complete lines. */
  size: number;
  /** Events that are not settled yet. */
  events: number;
  /** Bytes at the front that are settled. */
  offset: number;
}

// <milliseconds since 1970>-<number>.<pid>.<start of that process in jiffies>.log: sorts by age, and names its owner.
const NAME = /^(\d{15})-(\d{6})\.(\d+)\.(\d+)\.log$/;

/** When this process started. */
export const OWN = started(process.pid) ?? "0";

/** Create the folder if it is missing, and make it private. Throws if it is not a directory of this user. */
export async function secure(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const status = await lstat(folder);
  if (!status.isDirectory()) throw new Error(`${folder} is not a directory`);
  if (status.uid !== process.getuid?.()) throw new Error(`${folder} belongs to another user`);
  if ((status.mode & 0o077) !== 0) await chmod(folder, 0o700);
}

/** Return the name of a new segment. `number` tells segments of the same millisecond apart. */
export function name(now: number, number: number): string {
  const age = String(Math.max(0, Math.floor(now))).padStart(15, "0");
  return `${age}-${String(number % 1_000_000).padStart(6, "0")}.${process.pid}.${OWN}.log`;
}

/** Open flags for a segment: never through a symbolic link, never over an existing file. */
export const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Take over the segments of dead processes, oldest first, and cut torn tails. `torn` is called for each cut.
 * A rename claims a segment, so two processes never send the same one. `first` says that this process has made none
 * yet, so that one with its name is an earlier process's.
 */
export async function adopt(folder: string, torn: () => void, first = true): Promise<Segment[]> {
  const found: Segment[] = [];
  for (const entry of (await readdir(folder)).sort()) {
    const parts = NAME.exec(entry);
    if (!parts || alive(Number(parts[3]), parts[4]!)) continue;
    if (!first && entry.endsWith(`.${process.pid}.${OWN}.log`)) continue;
    const path = join(folder, entry);
    const claimed = join(folder, `${parts[1]}-${parts[2]}.${process.pid}.${OWN}.log`);
    try {
      if (!(await lstat(path)).isFile()) continue;
      if (claimed !== path) await rename(path, claimed);
      const { lines, end, size } = await measure(claimed);
      if (end < size) {
        torn();
        await truncate(claimed, end);
      }
      found.push({ path: claimed, size: end, events: lines, offset: 0 });
    } catch {
      // Another process has claimed it, or it cannot be read. It stays where it is.
    }
  }
  return found;
}

/** Read what is left of a segment into `buffer`, as far as it fits. Returns the part that was read, or undefined.
 * Throws if it is there but can't be read now, such as for want of file descriptors. */
export async function front(segment: Segment, buffer: Buffer): Promise<Buffer | undefined> {
  const file = await open(segment.path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(absent);
  if (!file) return undefined;
  try {
    const size = Math.min(buffer.length, segment.size - segment.offset);
    const { bytesRead } = await file.read(buffer, 0, size, segment.offset);
    return bytesRead > 0 ? buffer.subarray(0, bytesRead) : undefined;
  } finally {
    await file.close();
  }
}

/** Return undefined if the error says that there is no such file, or a link in its place. */
function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT" && error.code !== "ELOOP") throw error;
}

async function truncate(path: string, size: number): Promise<void> {
  const file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW);
  try {
    await file.truncate(size);
  } finally {
    await file.close();
  }
}

/** Whether the process that made a segment still runs. This process only asks before it has made one. */
export function alive(pid: number, start: string): boolean {
  if (pid === process.pid) return false;
  const now = started(pid);
  return now !== undefined && now === start;
}

/** Return when a process started, in jiffies since the boot, or undefined if there is none or only its remains. */
function started(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The second field, the program's name, may contain spaces and parentheses. The start is field 22.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
