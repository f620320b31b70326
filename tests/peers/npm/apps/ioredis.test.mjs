// ioredis as caches use it.
import { Redis } from 'ioredis';

import { Application, bodies, largeBody } from '../both.mjs';

const application = new Application('ioredis', ['ioredis'],
  'strings and buffers, expiry, hashes, pipelines, transactions with WATCH, defineCommand, scan streams, pub/sub, errors; 120 MB');

function connect(port, options = {}) {
  return new Redis(port, '127.0.0.1', { maxRetriesPerRequest: 0, retryStrategy: null, db: 1, ...options });
}

async function connected(port, work, options) {
  const client = connect(port, options);
  try {
    return await work(client);
  } finally {
    client.disconnect();
  }
}

application.test('values', (port, note) => connected(port, async (client) => {
  for (const body of bodies()) {
    await client.set(`b:${body.length}`, body, 'EX', 100);
    note.see(`${body.length} bytes`, body.equals(await client.getBuffer(`b:${body.length}`)), true);
  }
  note.see('set', [await client.set('k', 'v', 'PX', 100_000, 'NX'), await client.set('k', 'w', 'NX'), await client.get('k')], ['OK', null, 'v']);
  note.ttl('pttl', await client.pttl('k') / 1000, 100);
  note.see('mset', [await client.mset({ a: 1, b: 'two' }), await client.mget('a', 'b', 'absent')]);
  note.see('counters', [await client.incr('n'), await client.incrby('n', 5), await client.decr('n'), await client.incrbyfloat('f', 0.5)]);
  note.see('expire', [await client.expire('n', 50), await client.persist('n'), await client.ttl('n'), await client.ttl('absent')]);
  note.see('strings', [await client.append('t', 'hello'), await client.getrange('t', 1, 2), await client.strlen('t'), await client.getset('t', 'new'), await client.getdel('t')]);
  note.see('hashes', [await client.hset('h', { f: 1, g: 'x' }), await client.hgetall('h'), await client.hmget('h', 'f', 'no'), await client.hincrby('h', 'f', 2), await client.hdel('h', 'g')]);
  note.see('keys', [await client.exists('a', 'b', 'no'), await client.type('h'), await client.unlink('a', 'b'), await client.del('no')]);
  await note.rejects('a wrong type', client.get('h'));
  await note.rejects('not a number', client.incr('k'));
  await note.rejects('an unknown command', client.call('NOSUCH', 'a', 'b'));
}));

application.test('together', (port, note) => connected(port, async (client) => {
  const pipeline = client.pipeline();
  for (let i = 0; i < 300; i += 1) pipeline.set(`p:${i}`, i).get(`p:${i}`);
  note.see('a pipeline', await pipeline.exec());
  note.see('a transaction', await client.multi().set('t', 1).incr('t').hset('h', 'f', 'v').mget('t', 'u').exec());
  note.see('an error within', (await client.multi().set('t', 'x').incr('t').get('t').exec()).map(([e, v]) => [e?.message ?? null, v]));
  await connected(port, async (other) => {
    await client.watch('w');
    await other.set('w', 'changed');
    note.see('a watched key', await client.multi().set('w', 'mine').exec(), null);
  });
  client.defineCommand('take', { numberOfKeys: 1, lua: "local n = redis.call('INCRBY', KEYS[1], ARGV[1]); return {n, redis.call('GET', KEYS[1])}" });
  note.see('a command of our own', [await client.take('s', 5), await client.take('s', 6)], [[5, '5'], [11, '11']]);
  await note.rejects('a script that fails', client.eval("return redis.call('INCR', KEYS[1])", 1, 'h'));
  const found = new Set();
  for await (const keys of client.scanStream({ match: 'p:*', count: 30 })) keys.forEach((key) => found.add(key));
  note.see('a scan stream', found.size, 300);
  await client.hset('many', Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`f${i}`, i])));
  let fields = 0;
  for await (const pairs of client.hscanStream('many', { count: 20 })) fields += pairs.length / 2;
  note.see('a hash scan stream', fields, 100);
  await Promise.all(Array.from({ length: 200 }, () => client.incr('count')));
  note.see('200 increments', await client.get('count'), '200');
}, { enableAutoPipelining: true }));

application.test('publish and subscribe', (port, note) => connected(port, async (client) => connected(port, async (listener) => {
  const heard = [];
  const enough = new Promise((resolve) => {
    const hear = (...message) => { heard.push(message.map(String)); if (heard.length === 3) resolve(); };
    listener.on('message', (channel, message) => hear('message', channel, message));
    listener.on('pmessage', (pattern, channel, message) => hear('pmessage', pattern, channel, message.slice(0, 20)));
  });
  note.see('subscribe', [await listener.subscribe('news', 'more'), await listener.psubscribe('x*')], [2, 3]);
  note.see('publish', [await client.publish('news', 'one'), await client.publish('nobody', 'x'), await client.publish('more', 'two'), await client.publish('xyz', 'x'.repeat(500_000))], [1, 0, 1, 1]);
  await enough;
  note.see('heard', heard);
  note.see('unsubscribe', [await listener.unsubscribe('news', 'more'), await listener.punsubscribe('x*')]);
  note.see('free again', await listener.ping(), 'PONG');
})));

application.test('one large value', (port, note) => connected(port, async (client) => {
  const body = largeBody();
  note.see('set', await client.set('large', body, 'EX', 100), 'OK');
  note.see('120 MB', body.equals(await client.getBuffer('large')), true);
  note.see('del', await client.del('large'), 1);
}));
