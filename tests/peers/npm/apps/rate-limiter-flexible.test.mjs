// rate-limiter-flexible with either client.
import { Redis } from 'ioredis';
import { BurstyRateLimiter, RateLimiterRedis, RLWrapperBlackAndWhite } from 'rate-limiter-flexible';
import { createClient } from 'redis';

import { Application } from '../both.mjs';

const application = new Application('rate-limiter-flexible', ['rate-limiter-flexible', 'ioredis', 'redis'],
  'consume, block, penalty, reward, get, set, delete, bursts, in-memory block, with ioredis and with node-redis');

const CLIENTS = {
  ioredis: async (port) => {
    const client = new Redis(port, '127.0.0.1', { db: 5, enableOfflineQueue: true });
    return [client, () => client.disconnect()];
  },
  'node-redis': async (port) => {
    const client = createClient({ url: `redis://127.0.0.1:${port}/5` });
    client.on('error', () => {});
    await client.connect();
    return [client, () => client.destroy()];
  },
};

// Points left and consumed, and the seconds until more, about.
const told = (result) => (result instanceof Error ? String(result) : {
  consumed: result.consumedPoints, remaining: result.remainingPoints,
  first: result.isFirstInDuration, seconds: Math.round(result.msBeforeNext / 10_000) * 10,
});

for (const [name, connect] of Object.entries(CLIENTS)) {
  application.test(name, async (port, note) => {
    const [storeClient, end] = await connect(port);
    try {
      const useRedisPackage = name === 'node-redis';
      const limiter = new RateLimiterRedis({ storeClient, useRedisPackage, keyPrefix: 'rl', points: 5, duration: 100, blockDuration: 200 });
      const consume = (key, points) => limiter.consume(key, points).then(told, told);
      const said = [];
      for (let i = 0; i < 7; i += 1) said.push(await consume('user'));
      note.see('seven of five', said);
      await note.direct('SELECT', '5');
      note.ttl('blocked for', await note.direct('TTL', 'rl:user'), 200);
      note.see('get', told(await limiter.get('user')));
      note.see('get of nobody', await limiter.get('nobody'), null);
      note.see('penalty and reward', [told(await limiter.penalty('b', 3)), told(await limiter.reward('b', 1)), await consume('b', 2)]);
      note.see('set', [told(await limiter.set('c', 4, 100)), await consume('c'), await consume('c')]);
      note.see('block', [told(await limiter.block('d', 100)), await consume('d')]);
      note.see('delete', [await limiter.delete('d'), await limiter.delete('d'), await consume('d')]);
      const at = await Promise.all(Array.from({ length: 20 }, () => limiter.consume('e').then(() => 1, () => 0)));
      note.see('five of twenty at once', at.reduce((a, b) => a + b), 5);
      const forever = new RateLimiterRedis({ storeClient, useRedisPackage, keyPrefix: 'ever', points: 2, duration: 0 });
      await forever.consume('x');
      note.ttl('no duration', await note.direct('TTL', 'ever:x'), -1);
      const bursty = new BurstyRateLimiter(
        new RateLimiterRedis({ storeClient, useRedisPackage, keyPrefix: 'slow', points: 1, duration: 100 }),
        new RateLimiterRedis({ storeClient, useRedisPackage, keyPrefix: 'burst', points: 3, duration: 100 }),
      );
      note.see('bursts', await Promise.all([1, 2, 3, 4, 5, 6].map(() => bursty.consume('y').then(() => 1, () => 0))).then((all) => all.reduce((a, b) => a + b)), 4);
      const listed = new RLWrapperBlackAndWhite({ limiter, whiteList: ['white'], blackList: ['black'] });
      note.see('lists', [await listed.consume('white').then(() => 'yes', () => 'no'), await listed.consume('black').then(() => 'yes', () => 'no')], ['yes', 'no']);
    } finally {
      end();
    }
  });
}
