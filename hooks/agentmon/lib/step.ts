// One event of OpenClaw, and what its row of the table says about it.

import type { Entry } from "./envelope.ts";
import { pick } from "./fields.ts";
import type { Input } from "./fields.ts";
import type { Row } from "./mapping.ts";

export type Half = "hook" | "plugin";

/** One event on its way through the tracer. */
export class Step {
  readonly row: Row;
  readonly input: Input;
  readonly half: Half;
  readonly out: Entry[];
  readonly attributes: Record<string, unknown>;
  session: string | undefined;
  alias: string | undefined;

  constructor(row: Row, input: Input, half: Half, out: Entry[], attributes: Record<string, unknown>) {
    this.row = row;
    this.input = input;
    this.half = half;
    this.out = out;
    this.attributes = attributes;
  }

  get failed(): boolean {
    return this.row.failed !== undefined && pick(this.input, this.row.failed) !== undefined;
  }

  key(): string {
    return [
      this.row.name,
      ...(this.row.key ?? []).map((path) => String(pick(this.input, path) ?? "").slice(0, 256)),
    ].join(":");
  }

  /** Return "ok", or "error" for every outcome that is not known to be good. */
  status(): string {
    const outcome = this.row.status && pick(this.input, this.row.status.join("|"));
    return outcome === undefined || outcome === "completed" || outcome === "ok" ? "ok" : "error";
  }
}

/** Return token counts under agentmon's short names: input_tokens, output_tokens and so on. */
export function usage(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts).map(([name, n]) => [name.replace(/^gen_ai\.usage\./, "").replaceAll(".", "_"), n]),
  );
}
