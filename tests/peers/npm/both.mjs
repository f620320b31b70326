// One scenario, two servers: the same answers, or a difference with its reason (as python/apps/both.py).
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { inspect, isDeepStrictEqual } from 'node:util';

import { Redis } from 'ioredis';

import { startRedis, startScatterhoard } from './server.mjs';

const HERE = import.meta.dirname;
const RESULTS = path.resolve(HERE, '../../compatibility');

// What a scenario saw at one server.
class Notes {
  constructor(server, client) {
    Object.assign(this, { server, client, seen: [], asked: new Map(), began: performance.now() });
  }

  // Notes a value; with `expected` it must be that, too.
  see(label, value, ...expected) {
    if (expected.length) assert.deepEqual(value, expected[0], label);
    this.seen.push([label, value]);
    return value;
  }

  // A time to live, which may have run for as long as the scenario has, to the second.
  ttl(label, seconds, expected) {
    const least = expected - (performance.now() - this.began) / 1000 - 1;
    const right = expected > 0 ? seconds >= least && seconds <= expected + 1 : seconds === expected;
    assert.ok(right, `${label}: ${seconds} s to live, not ${expected}`);
    this.seen.push([label, `about ${expected} s`]);
  }

  // Notes the error that the promise must end with.
  async rejects(label, promise) {
    const error = await promise.then((value) => assert.fail(`${label}: ${inspect(value)}, and no error`), (e) => e);
    if (error instanceof assert.AssertionError) throw error;
    this.seen.push([label, `${error.name}: ${error.message}`]);
  }

  // A command past the library, which is not counted as its own.
  async direct(command, ...rest) {
    const name = command.toLowerCase();
    this.asked.set(name, (this.asked.get(name) ?? 0) + 1);
    return this.client.call(command, ...rest);
  }
}

// The two servers for the tests of one file, and where the results of its application go.
export class Application {
  constructor(name, packages, exercised) {
    const versions = Object.fromEntries(packages.map((one) => [one, versionOf(one)]));
    Object.assign(this, { name, versions, exercised, servers: [] });
    this.file = path.join(RESULTS, `${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.jsonl`);
    before(async () => {
      mkdirSync(RESULTS, { recursive: true });
      rmSync(this.file, { force: true });
      this.servers.push(await startRedis());
      this.servers.push(await startScatterhoard({ hotTierMb: 64 }));
    }, { timeout: 90_000 });
    after(async () => {
      for (const server of this.servers) await server.stop();
    }, { timeout: 60_000 });
  }

  // Runs `scenario(port, notes)` at both servers. `differs` names labels and why.
  test(name, scenario, differs = {}) {
    test(`${this.name}: ${name}`, { timeout: 200_000 }, async () => {
      const [seen, commands] = [[], []];
      for (const server of this.servers) {
        const client = new Redis(server.port, '127.0.0.1', { enableReadyCheck: false });
        try {
          await client.flushall();
          await client.script('FLUSH');
          if (server.name === 'redis-server') await client.config('RESETSTAT');
          const notes = new Notes(server, client);
          await scenario(server.port, notes);
          seen.push(notes.seen);
          if (server.name === 'redis-server') commands.push(...await sent(client, notes.asked));
        } finally {
          client.disconnect();
        }
      }
      compare(...seen, differs);
      appendFileSync(this.file, `${JSON.stringify({
        application: this.name, versions: this.versions, exercised: this.exercised,
        scenario: name, answers: seen[0].length, commands, differs,
      })}\n`);
    });
  }
}

function compare(real, ours, differs) {
  assert.deepEqual(ours.map(([label]) => label), real.map(([label]) => label), 'the scenario went another way');
  const told = new Set();
  real.forEach(([label, expected], index) => {
    const got = ours[index][1];
    if (isDeepStrictEqual(expected, got)) return;
    assert.ok(label in differs, `${label}: redis-server ${inspect(expected)}, scatterhoard ${inspect(got)}`);
    told.add(label);
  });
  assert.deepEqual([...told].sort(), Object.keys(differs).sort(), 'no difference any more');
}

// What redis-server was asked for since its counters were reset, but for our own.
async function sent(client, asked) {
  const counted = await client.info('commandstats');
  const calls = [...counted.matchAll(/^cmdstat_(\S+):calls=(\d+)/gm)].map(([, name, number]) => [name, +number]);
  const ours = new Map([...asked, ['info', (asked.get('info') ?? 0) + 1], ['config|resetstat', 1]]);
  return calls.filter(([name, number]) => number > (ours.get(name) ?? 0)).map(([name]) => name).sort();
}

function versionOf(name) {
  return JSON.parse(readFileSync(path.join(HERE, 'node_modules', name, 'package.json'), 'utf8')).version;
}

// Values from a byte to a few MB, always the same.
export function bodies(sizes = [1, 100, 9_000, 300_000, 3_000_000]) {
  return sizes.map((size) => {
    const body = Buffer.alloc(size);
    for (let index = 0, state = 20_265; index < size; index += 1) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      body[index] = state >>> 24;
    }
    return body;
  });
}

// One that no node holds alone; no two MB of it are alike.
export function largeBody(megabytes = 120) {
  const [block] = bodies([1 << 20]);
  return Buffer.concat(Array.from({ length: megabytes }, (_, index) => {
    const piece = Buffer.from(block);
    piece.writeUInt32BE(index);
    return piece;
  }));
}
