// Keyv with its Redis adapter, and cache-manager on top of it.
import KeyvRedis, { Keyv } from '@keyv/redis';
import { createCache } from 'cache-manager';

import { Application, bodies } from '../both.mjs';

const application = new Application('keyv and cache-manager', ['keyv', '@keyv/redis', 'cache-manager', 'redis'],
  'set with ttl, get, has, delete, *Many, iterator, namespaces, clear; wrap, mset, mget, mdel, refresh, stores');

function store(port, namespace = 'app') {
  const adapter = new KeyvRedis(`redis://127.0.0.1:${port}/3`, { throwOnErrors: true });
  const keyv = new Keyv(adapter, { namespace, throwOnErrors: true });
  return keyv;
}

const order = (list) => list.sort((a, b) => (a[0] < b[0] ? -1 : 1));

application.test('keyv', async (port, note) => {
  const [keyv, other] = [store(port), store(port, 'other')];
  try {
    for (const body of bodies()) {
      await keyv.set(`b:${body.length}`, body.toString('base64'), 100_000);
      note.see(`${body.length} bytes`, (await keyv.get(`b:${body.length}`)) === body.toString('base64'), true);
    }
    const made = { a: [1, null, 2.5], text: 'grüße', at: { deep: true } };
    note.see('set', [await keyv.set('k', made), await keyv.get('k'), await keyv.get('absent')], [true, made, undefined]);
    await keyv.set('short', 1, 77_000);
    await note.direct('SELECT', '3');
    const [key] = await note.direct('KEYS', '*short');
    note.see('its key', key);
    note.ttl('ttl', await note.direct('TTL', key), 77);
    note.see('has', [await keyv.has('k'), await keyv.has('absent'), await keyv.hasMany(['k', 'absent'])]);
    note.see('delete', [await keyv.delete('k'), await keyv.delete('k')], [true, false]);
    note.see('setMany', await keyv.setMany([{ key: 'x', value: 1 }, { key: 'y', value: 'two', ttl: 60_000 }]));
    note.see('getMany', await keyv.getMany(['x', 'y', 'z']), [1, 'two', undefined]);
    note.see('deleteMany', [await keyv.deleteMany(['x', 'z']), await keyv.get('x')]);
    await other.set('y', 'of another');
    for (let i = 0; i < 120; i += 1) await keyv.set(`n:${i}`, i);
    const found = [];
    for await (const [name, value] of keyv.iterator()) if (name.startsWith('n:')) found.push([name, value]);
    note.see('iterator', order(found), order(Array.from({ length: 120 }, (_, i) => [`n:${i}`, i])));
    await keyv.clear();
    note.see('clear', [await keyv.get('n:1'), await keyv.get('y'), await other.get('y')], [undefined, undefined, 'of another']);
  } finally {
    await keyv.disconnect();
    await other.disconnect();
  }
});

application.test('cache-manager', async (port, note) => {
  const cache = createCache({ stores: [store(port)], ttl: 90_000 });
  try {
    let made = 0;
    const dear = async () => { made += 1; return { made, body: 'x'.repeat(400_000) }; };
    const all = await Promise.all(Array.from({ length: 8 }, () => cache.wrap('dear', dear)));
    note.see('eight at once', [all.map((one) => one.made), made], [Array(8).fill(1), 1]);
    note.see('wrap again', [(await cache.wrap('dear', dear)).made, made], [1, 1]);
    note.see('set', [await cache.set('k', [1, 'a'], 50_000), await cache.get('k')], [[1, 'a'], [1, 'a']]);
    note.see('absent', await cache.get('absent') ?? null, null);
    await cache.mset([{ key: 'a', value: 1 }, { key: 'b', value: { c: 2 }, ttl: 40_000 }]);
    note.see('mget', await cache.mget(['a', 'b', 'no']));
    const left = await cache.ttl('b');
    note.ttl('ttl', (left - Date.now()) / 1000, 40);
    note.see('del', [await cache.del('a'), await cache.get('a') ?? null], [true, null]);
    note.see('mdel', [await cache.mdel(['b', 'k']), await cache.get('b') ?? null], [true, null]);
    await cache.set('last', 1);
    note.see('clear', [await cache.clear(), await cache.get('last') ?? null], [true, null]);
  } finally {
    await cache.disconnect();
  }
});
