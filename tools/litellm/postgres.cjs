// The connections of the stand-in engine to PostgreSQL, and their errors as Prisma's native engine reports them.
'use strict';

const { NODE_MODULES } = process.env;
const load = (name) => require(require.resolve(name, { paths: [NODE_MODULES] }));
const pg = load('pg');

const TEXT = 25;
const NAMES = 1003; // name[]
const TEXTS = 1009; // text[]
// Types that the adapter rejects, such as name, "char", interval, regclass and void, are read as text.
const AS_TEXT = new Set([18, 19, 28, 705, 1186, 2202, 2205, 2206, 2278, 3220]);

function retype(answer) {
  for (const each of [answer].flat()) {
    for (const field of (each && each.fields) || []) {
      if (AS_TEXT.has(field.dataTypeID)) field.dataTypeID = TEXT;
      else if (field.dataTypeID === NAMES) field.dataTypeID = TEXTS;
    }
  }
  return answer;
}

function readUnusualTypes() {
  pg.types.setTypeParser(NAMES, pg.types.getTypeParser(TEXTS));
  const { query } = pg.Client.prototype;
  pg.Client.prototype.query = function retyped(...given) {
    const callback = given.at(-1);
    if (typeof callback === 'function') {
      given[given.length - 1] = (error, answer) => callback(error, answer && retype(answer));
      return query.apply(this, given);
    }
    const promise = query.apply(this, given);
    return promise && promise.then ? promise.then(retype) : promise;
  };
}

function address() {
  let url = process.env.DATABASE_URL;
  const [source] = JSON.parse(process.env.OVERWRITE_DATASOURCES || '[]');
  if (source && source.url) url = source.url;
  return new URL(url);
}

class Database {
  constructor() {
    readUnusualTypes();
    const url = address();
    this.options = url.searchParams;
    this.where = `${url.hostname}:${url.port || 5432}`;
    this.pool = new pg.Pool({
      host: url.hostname,
      port: Number(url.port || 5432),
      user: decodeURIComponent(url.username),
      password: decodeURIComponent(url.password) || undefined,
      database: url.pathname.slice(1),
      max: Number(this.options.get('connection_limit') || 5),
      connectionTimeoutMillis: 1000 * Number(this.options.get('pool_timeout') || 10),
      idleTimeoutMillis: 0,
      keepAlive: true,
      options: `${this.options.get('options') || ''} -c timezone=UTC`.trim(),
    });
    this.pool.on('error', () => {}); // a connection that breaks while idle is replaced by the next request
  }

  get schema() {
    return this.options.get('schema') || undefined;
  }

  unreachable() {
    const server = `at \`${this.where}\``;
    const text =
      `Can't reach database server ${server}\n\nPlease make sure your database server is running ${server}.`;
    return userError('P1001', text, { database_location: this.where });
  }

  // Return the engine's error, or in place of P2036, "an error in the driver", what the native engine would report.
  error(error, adapter) {
    const known = error.user_facing_error || error;
    if (known.error_code !== 'P2036' || !adapter.errorRegistry) return error;
    const entry = adapter.errorRegistry.consumeError(known.meta && known.meta.id);
    const cause = (entry && entry.error) || {};
    const text = String(cause.message || cause);
    const native = this.native(cause, text);
    return { error: `${native.message} [${text}]`, user_facing_error: native };
  }

  native(cause, text) {
    if (/ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|ETIMEDOUT/.test(cause.code || text)) return this.unreachable();
    if (/timeout exceeded when trying to connect/.test(text)) {
      const { max, connectionTimeoutMillis } = this.pool.options;
      const meta = { connection_limit: max, timeout: connectionTimeoutMillis / 1000 };
      return userError('P2024', 'Timed out fetching a new connection from the connection pool.', meta);
    }
    if (/terminated|ECONNRESET|closed|not queryable/i.test(text)) {
      return userError('P1017', 'Server has closed the connection.');
    }
    return userError('P2010', text, { message: text });
  }
}

function userError(code, message, meta = {}) {
  return { is_panic: false, message, meta, error_code: code };
}

module.exports = { Database, load, userError };
