// ioredis and node-redis store and read buffers; every byte is compared.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';

import { Redis } from 'ioredis';
import { createClient, RESP_TYPES } from 'redis';

import { startScatterhoard } from './server.mjs';

const SIZES = [1, 100, 9_000, 262_145, 1_000_000, 5_000_000];
let server;

before(async () => { server = await startScatterhoard(); }, { timeout: 90_000 });
after(async () => { await server.stop(); }, { timeout: 60_000 });

async function withIoredis(work) {
  const client = new Redis(server.port, '127.0.0.1', { maxRetriesPerRequest: 0, retryStrategy: null });
  try {
    await client.flushall();
    await work(client);
  } finally {
    client.disconnect();
  }
}

async function withNodeRedis(protocol, work) {
  const client = createClient({
    RESP: protocol,
    socket: { host: '127.0.0.1', port: server.port, reconnectStrategy: false },
  });
  client.on('error', () => {}); // each command's own promise tells
  await client.connect();
  try {
    await client.flushAll();
    await work(client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }), client);
  } finally {
    client.destroy();
  }
}

test('ioredis: buffers of all sizes', async () => withIoredis(async (client) => {
  for (const size of SIZES) {
    const body = randomBytes(size);
    assert.equal(await client.set(`io:${size}`, body), 'OK');
    assert.ok(body.equals(await client.getBuffer(`io:${size}`)), `${size} bytes`);
    assert.equal(await client.strlen(`io:${size}`), size);
  }
  assert.equal(await client.getBuffer('absent'), null);
  assert.equal(await client.del(SIZES.map((size) => `io:${size}`)), SIZES.length);
}));

test('ioredis: a pipeline answers in order', async () => withIoredis(async (client) => {
  const bodies = Array.from({ length: 60 }, (_, index) => randomBytes(index % 20 === 0 ? 2_000_000 : 500));
  const pipeline = client.pipeline();
  bodies.forEach((body, index) => pipeline.set(`p:${index}`, body).getBuffer(`p:${index}`));
  const replies = await pipeline.exec();
  bodies.forEach((body, index) => {
    assert.deepEqual(replies[2 * index], [null, 'OK']);
    assert.equal(replies[2 * index + 1][0], null);
    assert.ok(body.equals(replies[2 * index + 1][1]), `reply ${index}`);
  });
}));

test('ioredis: expiry, conditions and errors', async () => withIoredis(async (client) => {
  assert.equal(await client.set('k', 'v', 'EX', 100, 'NX'), 'OK');
  assert.equal(await client.set('k', 'w', 'NX'), null);
  assert.ok([99, 100].includes(await client.ttl('k')));
  await assert.rejects(client.call('NOSUCH', 'a'), /ERR unknown command 'NOSUCH'/);
  assert.equal(await client.get('k'), 'v');
}));

test('ioredis: a scan stream finds every key', async () => withIoredis(async (client) => {
  await Promise.all(Array.from({ length: 500 }, (_, index) => client.set(`s:${index}`, 'v')));
  const found = new Set();
  for await (const keys of client.scanStream({ match: 's:*', count: 40 })) keys.forEach((key) => found.add(key));
  assert.equal(found.size, 500);
}));

for (const protocol of [2, 3]) {
  test(`node-redis, RESP${protocol}: buffers of all sizes`, async () => withNodeRedis(protocol, async (buffers) => {
    for (const size of SIZES) {
      const body = randomBytes(size);
      await buffers.set(`nr:${size}`, body);
      assert.ok(body.equals(await buffers.get(`nr:${size}`)), `${size} bytes`);
    }
    assert.equal(await buffers.get('absent'), null);
  }));

  test(`node-redis, RESP${protocol}: commands sent together`, async () => withNodeRedis(protocol, async (buffers, plain) => {
    const bodies = Array.from({ length: 40 }, (_, index) => randomBytes(index === 7 ? 5_000_000 : 3_000));
    // Sent without waiting: the client pipelines them by itself.
    await Promise.all(bodies.map((body, index) => buffers.set(`q:${index}`, body)));
    const read = await Promise.all(bodies.map((_, index) => buffers.get(`q:${index}`)));
    bodies.forEach((body, index) => assert.ok(body.equals(read[index]), `value ${index}`));
    assert.equal(await plain.dbSize(), 40);
    assert.equal(await plain.set('q:0', 'x', { expiration: { type: 'EX', value: 50 } }), 'OK');
    assert.ok((await plain.ttl('q:0')) > 40);
  }));
}
