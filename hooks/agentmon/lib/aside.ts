// Corrupt lines, which are kept for a person to look at.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";

const LIMIT = 1024 * 1024; // bytes of the file
const FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;

/** Add a line to the file of corrupt ones, unless that is full. Never rejects: the line is counted, which matters. */
export async function setAside(folder: string, line: Buffer): Promise<void> {
  const file = await open(join(folder, "corrupt.bad"), FLAGS, 0o600).catch(() => undefined);
  try {
    if (file && (await file.stat()).size + line.length <= LIMIT) await file.writeFile(line);
  } catch {
    // The disk is full, for example.
  } finally {
    await file?.close().catch(() => undefined);
  }
}
