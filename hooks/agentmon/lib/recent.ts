// A map that forgets its oldest entries, so that it cannot grow without bound.

export class Recent<Value> {
  readonly #limit: number;
  readonly #entries = new Map<string, Value>();

  /** Keep at most `limit` entries. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string): Value | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: Value): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    if (this.#entries.size > this.#limit) this.#entries.delete(this.#entries.keys().next().value as string);
  }
}
