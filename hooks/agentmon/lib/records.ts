// The format of a spool: one event per line, `<CRC-32 as 8 hexadecimal digits> <JSON>\n`.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { crc32 } from "node:zlib";

/** The longest line, in bytes. Longer events are refused, so that a reader needs no more memory than this. */
export const LINE_LIMIT = 256 * 1024;

const CHUNK = 64 * 1024;
const NEWLINE = 0x0a;

/** Return the line of an event, with its newline. */
export function encode(json: string): string {
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

/** Return the JSON of a line without its newline, or undefined if the checksum does not match. */
export function decode(line: Buffer): string | undefined {
  if (line.length < 10 || line[8] !== 0x20) return undefined;
  const json = line.subarray(9);
  return crc32(json) === Number.parseInt(line.toString("latin1", 0, 8), 16)
    ? json.toString("utf8")
    : undefined;
}

/** The lines at the front of a piece of a segment. */
export interface Piece {
  events: string[];
  /** Where each event ends, in bytes from the start of the piece. */
  ends: number[];
  /** A corrupt line that comes first. Good lines behind it are left for the next read. */
  corrupt: Buffer | undefined;
}

/** Split a piece into at most `limit` events, up to a corrupt line. `last` says that nothing follows in the segment. */
export function split(piece: Buffer, limit: number, last: boolean): Piece {
  const found: Piece = { events: [], ends: [], corrupt: undefined };
  let start = 0;
  while (found.events.length < limit && start < piece.length) {
    const newline = piece.indexOf(NEWLINE, start);
    if (newline < 0 && start > 0 && !last) break;
    const end = newline < 0 ? piece.length : newline;
    const json = newline < 0 ? undefined : decode(piece.subarray(start, end));
    if (json === undefined) {
      if (start === 0) found.corrupt = piece.subarray(0, newline < 0 ? end : end + 1);
      break;
    }
    start = end + 1;
    found.events.push(json);
    found.ends.push(start);
  }
  return found;
}

/** Count the lines of a file from `offset` on, and find where the last complete one ends. Uses constant memory. */
export async function measure(
  path: string,
  offset = 0,
): Promise<{ lines: number; end: number; size: number }> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const chunk = Buffer.allocUnsafe(CHUNK);
    let lines = 0;
    let end = offset;
    let size = offset;
    for (;;) {
      const { bytesRead } = await file.read(chunk, 0, CHUNK, size);
      if (bytesRead === 0) return { lines, end, size };
      for (let at = chunk.indexOf(NEWLINE); at >= 0 && at < bytesRead; at = chunk.indexOf(NEWLINE, at + 1)) {
        lines += 1;
        end = size + at + 1;
      }
      size += bytesRead;
    }
  } finally {
    await file.close();
  }
}
