// Reads the allowed fields of an event, and cleans each value by its kind.

import { createHmac } from "node:crypto";
import type { Fields, Kind, Row } from "./mapping.ts";

/** An event as both halves hand it on; see lib/mapping.ts for the paths. */
export interface Input {
  event: unknown;
  ctx: unknown;
}

const REDACTED = "[redacted]";
const TEXT_LIMIT = 16_384; // characters of one content field, so that no event outgrows a request
// With a bar, since the id of a tool call in OpenAI's Responses API is `call_…|fc_…`.
const NAME = /^[\p{L}\p{N}._:/@+|-]{1,128}$/u;
const WORD = /^[a-z][a-z0-9_. -]{0,47}$/i;
// The shapes of well-known secrets: API keys, GitHub, Slack, AWS, Telegram, JSON Web Tokens, and schemes of headers.
const SECRET = new RegExp(
  [
    String.raw`\b(?:sk|pk|rk)[-_][\w-]{6,}`,
    String.raw`\bgh[opsur]_\w{16,}|\bgithub_pat_\w{16,}`,
    String.raw`\bxox[a-z]-[\w-]{8,}`,
    String.raw`\bA(?:KIA|SIA)[A-Z0-9]{12,}`,
    String.raw`\b\d{5,12}:[\w-]{30,}`,
    String.raw`\beyJ[\w-]{8,512}\.[\w-]{8,}`, // without the bound, a text of many eyJ takes seconds
    String.raw`\b(?:bearer|basic)\s+[\w.~+/=-]{8,}`,
    String.raw`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*`,
  ].join("|"),
  "gi",
);

/** Return the value at the first of the paths `a.b|c.d` that has one. Getters that throw count as missing. */
export function pick(input: Input, paths: string): unknown {
  for (const path of paths.split("|")) {
    let value: unknown = input;
    try {
      for (const part of path.split(".")) {
        value =
          value !== null && typeof value === "object" ? (value as Record<string, unknown>)[part] : undefined;
      }
    } catch {
      value = undefined;
    }
    if (value !== undefined && value !== null && value !== "") return value;
  }
  return undefined;
}

/** Cleans values. `salt` keeps hashed values from being looked up in a table of known ones. */
export class Cleaner {
  readonly #salt: Uint8Array;
  readonly #secrets: readonly string[];

  /** `secrets` are replaced wherever they occur, whatever their shape. */
  constructor(salt: Uint8Array, secrets: readonly string[] = []) {
    this.#salt = salt;
    this.#secrets = secrets.toSorted((a, b) => b.length - a.length); // one may contain another
  }

  /** Return the allowed attributes of a row that have a value. */
  attributes(row: Row, input: Input, content: boolean): Record<string, unknown> {
    const found = this.fields(row.attributes, input);
    return { ...row.fixed, ...found, ...(content && row.content ? this.fields(row.content, input) : {}) };
  }

  fields(fields: Fields, input: Input): Record<string, unknown> {
    const found: Record<string, unknown> = {};
    for (const [name, [path, kind]] of Object.entries(fields)) {
      const value = this.#clean(pick(input, path), kind);
      if (value !== undefined) found[name] = value;
    }
    return found;
  }

  /** Return 16 hexadecimal digits that are the same for the same text. */
  hash(text: string): string {
    return createHmac("sha256", this.#salt).update(text).digest("hex").slice(0, 16);
  }

  /** Replace what looks like a secret. */
  redact(text: string): string {
    let clean = text;
    for (const secret of this.#secrets) clean = clean.replaceAll(secret, REDACTED);
    return clean.replace(SECRET, REDACTED);
  }

  #clean(value: unknown, kind: Kind): unknown {
    if (value === undefined) return undefined;
    if (kind === "number") return typeof value === "number" && Number.isFinite(value) ? value : undefined;
    if (kind === "flag") return typeof value === "boolean" ? value : undefined;
    if (kind === "text") return this.#text(value);
    if (typeof value !== "string" && typeof value !== "number") return undefined;
    const text = String(value);
    if (kind === "hash") return this.hash(text);
    return (kind === "word" ? WORD : NAME).test(text) ? this.redact(text) : REDACTED;
  }

  #text(found: unknown): string | undefined {
    try {
      const value = sized(found);
      const text =
        typeof value === "string"
          ? value.slice(0, 2 * TEXT_LIMIT)
          : bounded(value, (part) => this.redact(part));
      // Redact before the cut, or the cut could leave half a secret. It may leave half a character, which is no
      // Unicode: endpoints and databases refuse it.
      return text === undefined ? undefined : this.redact(text).slice(0, TEXT_LIMIT).toWellFormed();
    } catch {
      return undefined; // a cycle, or a getter that throws
    }
  }
}

/** Return `value` as JSON with its strings redacted (a secret may look different once JSON has escaped it), without
 * what goes beyond the limit, so that a huge result costs no more than a large one. */
function bounded(value: unknown, redact: (text: string) => string): string | undefined {
  let left = 2 * TEXT_LIMIT;
  return JSON.stringify(value, (key, part: unknown) => {
    const room = Math.max(0, left - key.length);
    left -= key.length + (typeof part === "string" ? part.length : 8);
    if (left < 0 && key !== "") return typeof part === "string" ? redact(part.slice(0, room)) : undefined;
    if (part !== null && typeof part === "object") return front(part, Math.max(1, left));
    return typeof part === "string" ? redact(part) : part;
  });
}

/** Return the first values of an array or object. JSON would visit the others too, only to leave them out. */
function front(part: object, count: number): object {
  if (Array.isArray(part)) return part.slice(0, count).map(sized);
  const names = Object.keys(part);
  const inner = part as Record<string, unknown>;
  if (names.length <= count && !names.some((name) => ArrayBuffer.isView(inner[name]))) return part;
  return Object.fromEntries(names.slice(0, count).map((name) => [name, sized(inner[name])]));
}

/** Return the size of binary data in place of it: as JSON it would take a key or a number for each byte. */
function sized(value: unknown): unknown {
  return ArrayBuffer.isView(value) ? `[${value.byteLength} bytes]` : value;
}
