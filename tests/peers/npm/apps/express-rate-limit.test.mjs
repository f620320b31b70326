// express-rate-limit with its Redis store, before an express application on loopback.
import { once } from 'node:events';

import express from 'express';
import { rateLimit } from 'express-rate-limit';
import { RedisStore } from 'rate-limit-redis';
import { createClient } from 'redis';

import { Application } from '../both.mjs';

const application = new Application('express-rate-limit', ['rate-limit-redis', 'express-rate-limit', 'express', 'redis'],
  'an express application: requests of several users one by one and at once, headers, windows that end, skipped failures, reset');

async function shop(port, options, work) {
  const client = createClient({ url: `redis://127.0.0.1:${port}/6` });
  client.on('error', () => {});
  await client.connect();
  const store = new RedisStore({ sendCommand: (...command) => client.sendCommand(command), prefix: 'rl:' });
  const limiter = rateLimit({
    windowMs: 100_000, limit: 5, standardHeaders: 'draft-7', legacyHeaders: false, store,
    keyGenerator: (request) => request.get('x-user'), ...options,
  });
  const app = express();
  app.use(limiter);
  app.get('/', (request, response) => response.send('here'));
  app.get('/fails', (request, response) => response.status(500).send('no'));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const ask = async (user, path = '/') => {
    const answer = await fetch(`http://127.0.0.1:${server.address().port}${path}`, { headers: { 'x-user': user } });
    await answer.text();
    return [answer.status, answer.headers.get('ratelimit').replace(/reset=\d+/, 'reset=some')];
  };
  try {
    await work(ask, limiter);
  } finally {
    server.closeAllConnections();
    server.close();
    client.destroy();
  }
}

application.test('requests', (port, note) => shop(port, {}, async (ask, limiter) => {
  const said = [];
  for (let i = 0; i < 7; i += 1) said.push(await ask('ann'));
  note.see('seven of five', said);
  note.see('their codes', said.map(([code]) => code), [200, 200, 200, 200, 200, 429, 429]);
  note.see('another user', await ask('bob'), [200, 'limit=5, remaining=4, reset=some']);
  await note.direct('SELECT', '6');
  note.ttl('ttl', await note.direct('TTL', 'rl:ann'), 100);
  const many = await Promise.all(Array.from({ length: 20 }, () => ask('eve')));
  note.see('five of twenty at once', many.filter(([code]) => code === 200).length, 5);
  const key = await limiter.getKey('bob');
  note.see('getKey', key.totalHits, 1);
  await limiter.resetKey('ann');
  note.see('reset', await ask('ann'), [200, 'limit=5, remaining=4, reset=some']);
  await note.direct('PEXPIRE', 'rl:bob', '1');
  while (await note.direct('EXISTS', 'rl:bob'));
  note.see('a new window', await ask('bob'), [200, 'limit=5, remaining=4, reset=some']);
}));

application.test('failures that do not count', (port, note) => shop(port, { skipFailedRequests: true }, async (ask, limiter) => {
  for (let i = 0; i < 8; i += 1) note.see(`failure ${i}`, (await ask('ann', '/fails'))[0], 500);
  // A failure is taken back when its answer is finished.
  while ((await limiter.getKey('ann')).totalHits);
  note.see('still five', (await ask('ann'))[1], 'limit=5, remaining=4, reset=some');
}));
