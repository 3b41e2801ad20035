// What an answer of the endpoint means, and how long to wait after it.

export type Verdict = "delivered" | "refused" | "too large" | "retry" | "misconfigured";

const FIRST = 500; // ms; doubles with each attempt
const LONGEST = 60_000; // ms between two attempts while the endpoint is down
const SLOW = 300_000; // ms between two attempts while something is misconfigured
const PATIENCE = 3_600_000; // ms; the longest Retry-After that is honored

/** Return what a status means. 0 stands for no answer. */
export function judge(status: number): Verdict {
  if (status >= 200 && status < 300) return "delivered";
  if (status === 400 || status === 422) return "refused";
  if (status === 413) return "too large";
  if (status === 0 || status >= 500 || status === 408 || status === 425 || status === 429) return "retry";
  // 401, 403, 404, 405, redirects, and everything that agentmon would not answer: nothing is wrong with the event.
  return "misconfigured";
}

/** Return the milliseconds to wait before attempt number `attempt` (from 1): the full delay, less up to half of it. */
export function delay(verdict: Verdict, attempt: number, random: number, asked: number | undefined): number {
  if (verdict === "misconfigured") return SLOW * (1 - random / 2);
  // Up to a tenth more than asked, so that many hosts do not come back at once. "At once" is not followed: 0, or a date
  // that this clock has passed, would make a busy loop.
  if (asked !== undefined && asked >= FIRST) return Math.min(asked, PATIENCE) * (1 + random / 10);
  return Math.min(LONGEST, FIRST * 2 ** Math.min(attempt - 1, 20)) * (1 - random / 2);
}

/** Return the milliseconds that a Retry-After header (seconds, or an HTTP date) asks for, if it asks for any. */
export function retryAfter(header: string | undefined, now: number): number | undefined {
  if (!header) return undefined;
  if (/^\d+$/.test(header.trim())) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
