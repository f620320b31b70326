// node-redis as caches use it, with RESP2 and RESP3.
import { createClient, defineScript, RESP_TYPES } from 'redis';

import { Application, bodies } from '../both.mjs';

const application = new Application('node-redis', ['redis'],
  'RESP2 and RESP3: strings and buffers, expiry, hashes, commands sent together, transactions with WATCH, scripts, scans, pub/sub, errors');

const add = defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: "return redis.call('INCRBY', KEYS[1], ARGV[1])",
  parseCommand(parser, key, number) { parser.pushKey(key); parser.push(`${number}`); },
  transformReply: (reply) => reply,
});

async function connected(port, RESP, work) {
  const client = createClient({
    RESP, database: 2, scripts: { add }, socket: { host: '127.0.0.1', port, reconnectStrategy: false },
  });
  client.on('error', () => {}); // each command's own promise tells
  await client.connect();
  try {
    return await work(client);
  } finally {
    client.destroy();
  }
}

const plain = (value) => JSON.parse(JSON.stringify(value instanceof Map ? Object.fromEntries(value) : value));

for (const RESP of [2, 3]) {
  application.test(`values, RESP${RESP}`, (port, note) => connected(port, RESP, async (client) => {
    const buffers = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    for (const body of bodies()) {
      await client.set(`b:${body.length}`, body, { expiration: { type: 'EX', value: 100 } });
      note.see(`${body.length} bytes`, body.equals(await buffers.get(`b:${body.length}`)), true);
    }
    note.see('set', [await client.set('k', 'v', { condition: 'NX' }), await client.set('k', 'w', { condition: 'NX' }), await client.set('k', 'w', { GET: true })], ['OK', null, 'v']);
    note.ttl('ttl', await client.ttl('b:1'), 100);
    note.see('mset', [await client.mSet({ a: '1', b: 'two' }), await client.mGet(['a', 'b', 'absent'])]);
    note.see('counters', [await client.incr('n'), await client.incrBy('n', 5), await client.incrByFloat('f', 0.5)]);
    note.see('expire', [await client.expire('n', 50, 'NX'), await client.persist('n'), await client.ttl('n'), await client.expireTime('absent')]);
    note.see('getEx, getDel', [await client.getEx('k', { type: 'PX', value: 9000 }), await client.getDel('k'), await client.get('k')]);
    note.see('hashes', plain([await client.hSet('h', { f: 1, g: 'x' }), await client.hGetAll('h'), await client.hmGet('h', ['f', 'no']), await client.hIncrBy('h', 'f', 2), await client.hKeys('h')]));
    note.see('bits', [await client.setBit('bits', 9, 1), await client.bitCount('bits'), await client.bitPos('bits', 1)]);
    note.see('keys', [await client.exists(['a', 'b', 'no']), await client.type('h'), await client.unlink(['a', 'b']), await client.rename('n', 'm'), await client.copy('m', 'c')]);
    await note.rejects('a wrong type', client.get('h'));
    await note.rejects('not a number', client.incr('h'));
    await note.rejects('an unknown command', client.sendCommand(['NOSUCH', 'a']));
  }));

  application.test(`together, RESP${RESP}`, (port, note) => connected(port, RESP, async (client) => {
    await Promise.all(Array.from({ length: 300 }, (_, i) => client.set(`p:${i}`, `${i}`)));
    note.see('sent together', await Promise.all(Array.from({ length: 300 }, (_, i) => client.get(`p:${i}`))));
    note.see('a transaction', plain(await client.multi().set('t', '1').incr('t').hSet('h', 'f', 'v').mGet(['t', 'u']).exec()));
    note.see('typed', await client.multi().ttl('t').exists('t').execTyped(), [-1, 1]);
    const failed = await client.multi().set('t', 'x').incr('t').get('t').exec().catch((error) => error);
    note.see('an error within', failed.replies.map(String));
    await client.watch('w');
    await note.direct('SELECT', '2');
    await note.direct('SET', 'w', 'changed');
    await note.rejects('a watched key', client.multi().set('w', 'mine').exec());
    note.see('a script', [await client.add('s', 5), await client.add('s', 6)], [5, 11]);
    note.see('eval', plain(await client.eval('return {1, ARGV[1], {KEYS[1]}, false}', { keys: ['k'], arguments: ['a'] })));
    let found = 0;
    for await (const keys of client.scanIterator({ MATCH: 'p:*', COUNT: 40 })) found += keys.length;
    note.see('scan', found, 300);
    const fields = [];
    for await (const entries of client.hScanIterator('h')) fields.push(...entries);
    note.see('hash scan', plain(fields));
  }));

  application.test(`publish and subscribe, RESP${RESP}`, (port, note) => connected(port, RESP, (client) => connected(port, RESP, async (listener) => {
    const heard = [];
    let hear;
    const enough = new Promise((resolve) => {
      hear = (message, channel) => { heard.push([channel, message.slice(0, 20), message.length]); if (heard.length === 3) resolve(); };
    });
    await listener.subscribe('news', hear);
    await listener.pSubscribe('x*', hear);
    note.see('publish', [await client.publish('news', 'one'), await client.publish('xyz', 'x'.repeat(500_000)), await client.publish('news', 'two')], [1, 1, 1]);
    await enough;
    note.see('heard', heard);
    note.see('channels', [await client.pubSubChannels(), await client.pubSubNumPat(), plain(await client.pubSubNumSub(['news', 'no']))]);
    await listener.unsubscribe('news');
    await listener.pUnsubscribe();
    note.see('free again', String(await listener.ping()), 'PONG');
  })));
}
