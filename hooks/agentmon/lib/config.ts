// The settings, from environment variables that OpenClaw reads from ~/.openclaw/.env.

import { homedir, hostname } from "node:os";
import { join } from "node:path";

export type BatchForm = "single" | "array" | "ndjson";

export interface Config {
  /** Where events are posted. Undefined if the hook is not configured. */
  url: string | undefined;
  headers: Record<string, string>;
  batch: BatchForm;
  framework: string;
  client: string;
  host: string;
  /** Send message texts, tool arguments and error messages too. */
  content: boolean;
  /** Send session keys as they are, not hashed. */
  plainSessions: boolean;
  folder: string;
  /** The file by which swarm leads events to its receiver: tap.ts. */
  receiver: string | undefined;
  /** Bytes that the spool may take on disk. */
  spoolBytes: number;
  /** Milliseconds to wait for an answer. */
  timeout: number;
}

type Environment = Record<string, string | undefined>;

const PATH = "/v1/events"; // agentmon's ingest API
// RFC 9110: a token, and a field value. Node's own check, in Headers, takes 20 ms of the first event to load.
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const TIMEOUT = 10_000;
const SPOOL_MB = 64;

/** Read the settings. `problems` receives one sentence for each setting that cannot be used. */
export function configure(env: Environment, problems: string[] = []): Config {
  const target = endpoint(env.AGENTMON_INGEST_URL, problems);
  const headers = { ...target.headers, ...authorization(env, problems) };
  const batch = env.AGENTMON_BATCH || "single";
  if (batch !== "single" && batch !== "array" && batch !== "ndjson") {
    problems.push("AGENTMON_BATCH must be single, array or ndjson; using single");
  }
  const host = env.AGENTMON_HOST || hostname();
  const state = env.OPENCLAW_STATE_DIR || join(homedir(), ".openclaw");
  return {
    url: target.url,
    headers,
    batch: batch === "array" || batch === "ndjson" ? batch : "single",
    framework: env.AGENTMON_FRAMEWORK || "openclaw",
    client: env.AGENTMON_VM_NAME || host,
    host,
    content: env.AGENTMON_CONTENT === "1",
    plainSessions: env.AGENTMON_SESSION_KEYS === "plain",
    folder: join(state, "agentmon"),
    receiver: env.XDG_RUNTIME_DIR ? join(env.XDG_RUNTIME_DIR, "agentmon-receiver") : undefined,
    spoolBytes: Math.round(megabytes(env.AGENTMON_SPOOL_MB, problems) * 1024 * 1024),
    timeout: TIMEOUT,
  };
}

function endpoint(
  text: string | undefined,
  problems: string[],
): { url?: string; headers: Record<string, string> } {
  const parsed = text ? URL.parse(text) : null;
  if (!parsed || !/^https?:$/.test(parsed.protocol)) {
    problems.push("AGENTMON_INGEST_URL is missing or is not an http(s) URL; no events are sent");
    return { headers: {} };
  }
  const headers: Record<string, string> = {};
  if (parsed.username) {
    // A URL with a password does not belong in messages.
    const pair = `${decoded(parsed.username)}:${decoded(parsed.password)}`;
    headers.authorization = `Basic ${Buffer.from(pair).toString("base64")}`;
    parsed.username = parsed.password = "";
  }
  if (parsed.pathname === "/") parsed.pathname = PATH;
  parsed.hash = "";
  return { url: parsed.href, headers };
}

/** Return a part of a URL without percent-encoding. A percent sign that encodes nothing stays as it is. */
export function decoded(part: string): string {
  return part.replace(/(?:%[0-9a-f]{2})+/gi, (codes) => {
    try {
      return decodeURIComponent(codes);
    } catch {
      return codes;
    }
  });
}

function authorization(env: Environment, problems: string[]): Record<string, string> {
  if (!env.AGENTMON_TOKEN) return {};
  const [name, scheme] = (env.AGENTMON_TOKEN_HEADER || "Authorization: Bearer")
    .split(":", 2)
    .map((part) => part.trim());
  const token = env.AGENTMON_TOKEN.trim();
  const value = scheme ? `${scheme} ${token}` : token;
  if (!HEADER_NAME.test(name ?? "") || !HEADER_VALUE.test(value)) {
    problems.push("AGENTMON_TOKEN or AGENTMON_TOKEN_HEADER cannot be sent in a header; sending no token");
    return {};
  }
  return { [(name ?? "").toLowerCase()]: value };
}

function megabytes(text: string | undefined, problems: string[]): number {
  if (!text) return SPOOL_MB;
  const size = Number(text);
  if (size >= 0.01 && size <= 1_000_000) return size;
  problems.push(`AGENTMON_SPOOL_MB must be a number of megabytes; using ${SPOOL_MB}`);
  return SPOOL_MB;
}
