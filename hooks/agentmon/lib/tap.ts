// Where events go while `inv hook.deploy` or `inv hook.test` proves the hook: to swarm's receiver.

import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from "node:fs";

const SIZE = 16; // bytes; a port has five
const LASTS = 3_600_000; // ms that swarm's file counts if it had no chance to remove it; a proof takes 20 min at most

/**
 * Return the receiver's URL, or undefined if events go to their endpoint.
 * The file at `path` holds a port of this machine, which an SSH connection leads to the receiver. Never throws.
 */
export function tap(path: string | undefined, now: number): string | undefined {
  // Asked before each request: an error of open() would cost more than the rest.
  if (!path || !existsSync(path)) return undefined;
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      if (Math.abs(now - fstatSync(file).mtimeMs) > LASTS) return undefined;
      const buffer = Buffer.alloc(SIZE);
      const port = buffer.latin1Slice(0, readSync(file, buffer, 0, SIZE, 0)).trim();
      return /^[1-9]\d{0,4}$/.test(port) ? `http://127.0.0.1:${port}/v1/events` : undefined;
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined; // it has just been removed
  }
}
