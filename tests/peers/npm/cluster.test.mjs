// ioredis' and node-redis' cluster clients against three proxies that share the slots.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';

import { Cluster } from 'ioredis';
import { createCluster } from 'redis';

import { freePort, startScatterhoard } from './server.mjs';

const SLOTS = ['0-5460', '5461-10922', '10923-16383'];
let proxies = [];

before(async () => {
  const ports = await Promise.all(SLOTS.map(freePort));
  const members = SLOTS.map((slots, i) => `127.0.0.1:${ports[i]} ${slots}`).join(',');
  const start = (port) => startScatterhoard({ port, nodes: 14, more: ['--cluster', members] });
  for (const port of ports) proxies.push(await start(port));
}, { timeout: 180_000 });
after(async () => { for (const proxy of proxies) await proxy.stop(); }, { timeout: 120_000 });

test('ioredis: keys find their proxies, whichever is asked first', async () => {
  const client = new Cluster([{ host: '127.0.0.1', port: proxies[1].port }]);
  try {
    const bodies = new Map();
    for (let i = 0; i < 60; i += 1) bodies.set(`key:${i}`, randomBytes(i % 10 === 0 ? 500_000 : 100));
    await Promise.all([...bodies].map(([key, body]) => client.set(key, body)));
    for (const [key, body] of bodies) assert.ok(body.equals(await client.getBuffer(key)), key);
    const shares = await Promise.all(client.nodes('master').map((node) => node.dbsize()));
    assert.equal(shares.length, 3);
    assert.ok(shares.every((keys) => keys > 0), `${shares}`);
    assert.equal(shares.reduce((a, b) => a + b), bodies.size);
    assert.deepEqual(await client.multi().set('{t}a', 1).incr('{t}a').exec(), [[null, 'OK'], [null, 2]]);
    await assert.rejects(client.mget('key:1', 'key:2'), /CROSSSLOT/);
    assert.equal(await client.eval("return redis.call('GET', KEYS[1])", 1, '{t}a'), '2');
  } finally {
    client.disconnect();
  }
});

test('node-redis: the same', async () => {
  const client = createCluster({ rootNodes: [{ url: `redis://127.0.0.1:${proxies[2].port}` }] });
  client.on('error', () => {}); // each command's own promise tells
  await client.connect();
  try {
    for (let i = 0; i < 30; i += 1) assert.equal(await client.set(`node:${i}`, `${i}`), 'OK');
    for (let i = 0; i < 30; i += 1) assert.equal(await client.get(`node:${i}`), `${i}`);
    assert.deepEqual(await client.multi().set('{n}a', '1').incr('{n}a').exec(), ['OK', 2]);
    assert.deepEqual(await client.mGet(['{n}a', '{n}b']), ['2', null]);
  } finally {
    client.destroy();
  }
});
