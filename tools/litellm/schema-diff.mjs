// node schema-diff.mjs schema.prisma schema.sql: write the SQL that makes an empty database fit the schema.
//
// It uses Prisma's schema engine in WebAssembly. NODE_MODULES is the folder with the packages of package.json, and
// DATABASE_URL a running PostgreSQL.
import fs from 'fs';
import { createRequire } from 'module';
import path from 'path';

const { NODE_MODULES, DATABASE_URL } = process.env;
const require = createRequire(path.join(NODE_MODULES, 'any.js'));
const { PrismaPg } = require('adapter-pg-6');
const { bindMigrationAwareSqlAdapterFactory } = require('driver-adapter-utils-6');

const folder = path.join(NODE_MODULES, '@prisma/schema-engine-wasm');
const glue = await import(path.join(folder, 'schema_engine_bg.js'));
const code = new WebAssembly.Module(fs.readFileSync(path.join(folder, 'schema_engine_bg.wasm')));
const { exports } = new WebAssembly.Instance(code, { './schema_engine_bg.js': glue });
glue.__wbg_set_wasm(exports);
if (exports.__wbindgen_start) exports.__wbindgen_start();

const [file, target] = process.argv.slice(2);
const content = fs.readFileSync(file, 'utf8');
const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg({ connectionString: DATABASE_URL }));
const engine = await glue.SchemaEngine.new({ datamodels: [[file, content]] }, () => {}, adapter);
const { stdout } = await engine.diff({
  from: { tag: 'empty' },
  to: { tag: 'schemaDatamodel', files: [{ path: file, content }] },
  script: true,
  shadowDatabaseUrl: null,
  exitCode: null,
  filters: { externalTables: [], externalEnums: [] },
});
fs.writeFileSync(target, stdout || ''); // a pipe takes 64 KiB at once, and the rest would be lost
process.exit(0);
