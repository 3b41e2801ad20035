#!/usr/bin/env node
// Stands in for Prisma's native query engine, which is downloaded from a server that tests do not reach. It has the
// same command line and HTTP protocol, and executes the requests with Prisma's own engine in WebAssembly.
//
// NODE_MODULES is the folder with the packages of package.json.
'use strict';

if (process.argv.includes('--version')) {
  console.log('query-engine ac9d7041ed77bcc8a8dbd2ab6616b39013829574');
  process.exit(0);
}

const fs = require('fs');
const http = require('http');
const { Schema, result } = require('./graphql.cjs');
const { Database, load, userError } = require('./postgres.cjs');

const HOUR = 3_600_000; // milliseconds
const ENGINE = '@prisma/client/runtime/query_engine_bg.postgresql';

class Engine {
  async start() {
    this.database = new Database();
    try {
      await this.database.pool.query('SELECT 1');
    } catch (error) {
      console.error(JSON.stringify({ ...this.database.unreachable(), cause: error.message }));
      process.exit(1);
    }
    const { bindAdapter } = load('@prisma/driver-adapter-utils');
    const { PrismaPg } = load('@prisma/adapter-pg');
    this.adapter = bindAdapter(new PrismaPg(this.database.pool, { schema: this.database.schema }));
    const datamodel = fs.readFileSync(process.env.PRISMA_DML_PATH, 'utf8');
    this.schema = new Schema(datamodel);
    const glue = webAssembly();
    this.wasm = new glue.QueryEngine(
      {
        datamodel,
        logLevel: 'error',
        logQueries: false,
        engineProtocol: 'json',
        env: {},
        ignoreEnvVarErrors: true,
        datasourceOverrides: {},
        configDir: '.',
      },
      () => {},
      this.adapter,
    );
    await this.wasm.connect('{}');
  }

  async query(body, transaction) {
    const { batch, query, transaction: atomic } = JSON.parse(body);
    if (!batch) return this.answer(await this.run(this.schema.request(query), transaction));
    const requests = batch.map((each) => this.schema.request(each.query));
    const answer = await this.run({ batch: requests, transaction: atomic ? {} : undefined }, transaction);
    if (!answer.batchResult) return this.answer(answer);
    return { batchResult: answer.batchResult.map((each) => this.answer(each)) };
  }

  async run(request, transaction) {
    return JSON.parse(await this.wasm.query(JSON.stringify(request), '{}', transaction));
  }

  answer({ errors, data }) {
    if (errors) return { errors: errors.map((each) => this.database.error(each, this.adapter)) };
    return { data: { result: result(data) } };
  }

  async begin(body) {
    const answer = JSON.parse(await this.wasm.startTransaction(body, '{}'));
    return answer.id ? [200, { id: answer.id }] : [400, this.database.error(answer, this.adapter)];
  }

  async end(id, how) {
    const answer = JSON.parse((await this.wasm[`${how}Transaction`](id, '{}')) || '{}');
    return answer && answer.error_code ? [400, answer] : [200, {}];
  }

  // Return the status and the body of the answer to an HTTP request.
  async handle(request) {
    const path = request.url.split('?')[0];
    if (path === '/status') return [200, { status: 'ok' }];
    if (path === '/metrics') return [200, { counters: [], gauges: [], histograms: [] }];
    const body = await read(request);
    if (path === '/transaction/start') return this.begin(body);
    const ending = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(path);
    if (ending) return this.end(ending[1], ending[2]);
    if (path !== '/' || request.method !== 'POST') return [404, {}];
    return [200, await this.query(body, request.headers['x-transaction-id'])];
  }
}

function webAssembly() {
  const glue = load(`${ENGINE}.js`);
  const wasm = require.resolve(`${ENGINE}.js`, { paths: [process.env.NODE_MODULES] }).replace(/js$/, 'wasm');
  const code = new WebAssembly.Module(fs.readFileSync(wasm));
  glue.__wbg_set_wasm(new WebAssembly.Instance(code, { './query_engine_bg.js': glue }).exports);
  return glue;
}

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function serve(engine) {
  const port = Number(process.argv[process.argv.findIndex((word) => word === '-p' || word === '--port') + 1]);
  const server = http.createServer(async (request, response) => {
    let answer;
    try {
      answer = await engine.handle(request);
    } catch (error) {
      const known = userError('P2009', String((error && error.message) || error));
      answer = [200, { errors: [{ error: String((error && error.stack) || error), user_facing_error: known }] }];
    }
    const [status, body] = answer;
    const data = Buffer.from(JSON.stringify(body));
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': data.length });
    response.end(data);
  });
  server.keepAliveTimeout = HOUR; // the client keeps its connections, and takes a closed one for a dead engine
  server.headersTimeout = HOUR + 1000;
  server.requestTimeout = 0;
  server.listen(port, '127.0.0.1');
}

// Unlike the native engine, end with LiteLLM also where that was killed.
function endWithParent() {
  const parent = process.ppid;
  setInterval(() => process.ppid === parent || process.exit(0), 500).unref();
}

async function main() {
  process.on('SIGINT', () => process.exit(0));
  process.on('SIGTERM', () => process.exit(0));
  const engine = new Engine();
  await engine.start();
  serve(engine);
  endWithParent();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
