// Translates what Prisma's Python client speaks, GraphQL, to and from what the WebAssembly engine speaks, JSON.
'use strict';

const VERBS = [
  'findUnique', 'findFirst', 'findMany', 'createOne', 'createMany', 'updateOne', 'updateMany', 'deleteOne',
  'deleteMany', 'upsertOne', 'aggregate', 'groupBy',
];
const OPERATION = new RegExp(`^(${VERBS.join('|')})(.+?)(OrThrow)?$`);
// Punctuation, a string, a number, or a name.
const TOKEN = /[\s,]*(?:([{}()[\]:])|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(-?[A-Za-z_]\w*))/y;
const CONSTANTS = { true: true, false: false, null: null };

function tokens(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const match = TOKEN.exec(text);
    if (!match) break;
    const [, mark, string, number, name] = match;
    if (mark) found.push({ kind: 'mark', value: mark });
    else if (string) found.push({ kind: 'string', value: JSON.parse(string) });
    else if (number) found.push({ kind: 'number', value: number });
    else found.push({ kind: 'name', value: name });
  }
  return found;
}

class Parser {
  constructor(text) {
    this.tokens = tokens(text);
    this.at = 0;
  }

  is(mark) {
    const token = this.tokens[this.at];
    return token !== undefined && token.kind === 'mark' && token.value === mark;
  }

  next() {
    const token = this.tokens[this.at++];
    if (!token) throw new Error('GraphQL: unexpected end');
    return token;
  }

  skip(mark) {
    if (!this.is(mark)) throw new Error(`GraphQL: expected ${mark}, got ${JSON.stringify(this.tokens[this.at])}`);
    this.at++;
  }

  // Parse `NAME: value` pairs up to a closing mark.
  pairs(open, close) {
    const found = {};
    this.skip(open);
    while (!this.is(close)) {
      const name = this.next().value;
      this.skip(':');
      found[name] = this.value();
    }
    this.skip(close);
    return found;
  }

  value() {
    if (this.is('{')) return this.pairs('{', '}');
    if (this.is('[')) {
      const items = [];
      this.skip('[');
      while (!this.is(']')) items.push(this.value());
      this.skip(']');
      return items;
    }
    const { kind, value } = this.next();
    if (kind === 'string') return value;
    if (kind === 'number') {
      const exact = !/^-?\d+$/.test(value) || Number.isSafeInteger(Number(value));
      return exact ? Number(value) : { $type: 'BigInt', value };
    }
    return value in CONSTANTS ? CONSTANTS[value] : { $type: 'Enum', value };
  }

  arguments() {
    return this.is('(') ? this.pairs('(', ')') : {};
  }

  selection() {
    const found = {};
    if (!this.is('{')) return found;
    this.skip('{');
    while (!this.is('}')) {
      const name = this.next().value;
      const given = this.arguments();
      found[name] = this.is('{') ? { arguments: given, selection: this.selection() } : true;
    }
    this.skip('}');
    return found;
  }

  // Parse `query { alias: operation(arguments) { selection } }`.
  document() {
    if (!this.is('{')) this.next(); // query or mutation
    this.skip('{');
    let operation = this.next().value;
    if (this.is(':')) {
      this.skip(':');
      operation = this.next().value;
    }
    return { operation, given: this.arguments(), selection: this.selection() };
  }
}

class Schema {
  // The type of each field, by model: a string for a field of the type Json has to be marked as JSON.
  constructor(text) {
    this.models = {};
    for (const [, model, body] of text.matchAll(/^model\s+(\w+)\s*\{([\s\S]*?)^\}/gm)) {
      this.models[model] = {};
      for (const [, field, type] of body.matchAll(/^\s*(\w+)\s+(\w+)/gm)) this.models[model][field] = type;
    }
  }

  // Mark the JSON strings in the arguments of a model, in place.
  mark(model, value) {
    if (Array.isArray(value)) {
      for (const item of value) this.mark(model, item);
      return;
    }
    if (!value || typeof value !== 'object' || value.$type) return;
    const fields = this.models[model] || {};
    for (const name of Object.keys(value)) {
      const type = fields[name];
      if (type === 'Json') value[name] = marked(value[name]);
      else this.mark(this.models[type] ? type : model, value[name]);
    }
  }

  // Return the request in the engine's protocol.
  request(text) {
    const { operation, given, selection } = new Parser(text).document();
    if (operation === 'queryRaw' || operation === 'executeRaw') {
      return { action: operation, query: { arguments: { parameters: '[]', ...given }, selection: {} } };
    }
    const match = OPERATION.exec(operation);
    if (!match) throw new Error(`unknown operation ${operation}`);
    const [, action, model, suffix = ''] = match;
    for (const value of Object.values(given)) this.mark(model, value);
    return { modelName: model, action: action + suffix, query: { arguments: given, selection } };
  }
}

// A value for a field of the type Json: a string, a condition such as {set: "..."} or {equals: "..."}, or a list.
function marked(value) {
  if (Array.isArray(value)) return value.map(marked);
  if (typeof value === 'string') return { $type: 'Json', value };
  if (value && typeof value === 'object' && !value.$type) {
    for (const name of Object.keys(value)) {
      if (name !== 'path' && name !== 'mode' && !name.startsWith('string_')) value[name] = marked(value[name]);
    }
  }
  return value;
}

// Return an answer of the engine without the types of its scalars, as GraphQL has it.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (!value || typeof value !== 'object') return value;
  if (typeof value.$type === 'string' && 'value' in value) {
    return value.$type === 'BigInt' && Number.isSafeInteger(Number(value.value)) ? Number(value.value) : value.value;
  }
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]));
}

function cell(type, value) {
  if (value === null) return { prisma__type: 'null', prisma__value: null };
  if (!type.endsWith('-array')) return { prisma__type: type, prisma__value: value };
  const of = type.slice(0, -'-array'.length);
  return { prisma__type: 'array', prisma__value: value.map((each) => cell(of, each)) };
}

// Return the rows of a raw query the way engines did until 5.14: each value with its type.
function rows(data) {
  if (!data || !data.columns) return data;
  return data.rows.map((row) =>
    Object.fromEntries(row.map((value, index) => [data.columns[index], cell(data.types[index], value)])),
  );
}

// Return the data of an answer, which has one key: the operation.
function result(data) {
  const [operation, value] = Object.entries(data)[0];
  return operation === 'queryRaw' || operation === 'executeRaw' ? rows(value) : plain(value);
}

module.exports = { Schema, result };
