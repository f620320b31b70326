// connect-redis: the sessions of an express application that is asked over HTTP on loopback.
import { once } from 'node:events';

import { RedisStore } from 'connect-redis';
import express from 'express';
import session from 'express-session';
import { createClient } from 'redis';

import { Application } from '../both.mjs';

const application = new Application('connect-redis', ['connect-redis', 'express-session', 'express', 'redis'],
  'an express application: cookies, counting, regenerate, destroy, rolling expiry, many users; all, ids, length, clear');

async function shop(port, work) {
  const client = createClient({ url: `redis://127.0.0.1:${port}/4` });
  client.on('error', () => {});
  await client.connect();
  const store = new RedisStore({ client, prefix: 'shop:', ttl: 300 });
  const app = express();
  app.use(session({ store, secret: 'of no worth', resave: false, saveUninitialized: false, name: 'sid' }));
  app.get('/visit', (request, response) => {
    request.session.visits = (request.session.visits ?? 0) + 1;
    response.json({ visits: request.session.visits });
  });
  app.get('/fill', (request, response) => {
    request.session.basket = 'x'.repeat(300_000);
    response.json({ length: request.session.basket.length });
  });
  app.get('/basket', (request, response) => response.json({ length: request.session.basket?.length ?? 0 }));
  app.get('/login', (request, response, next) => {
    const { visits } = request.session;
    request.session.regenerate((error) => {
      if (error) return next(error);
      request.session.visits = visits;
      return response.json({ visits });
    });
  });
  app.get('/short', (request, response) => {
    request.session.cookie.maxAge = 60_000;
    request.session.short = true;
    response.json({ short: true });
  });
  app.get('/logout', (request, response, next) => request.session.destroy((error) => (error ? next(error) : response.json({ out: true }))));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${server.address().port}`;
  try {
    await work({ store, ask: (path, user) => ask(url + path, user) });
  } finally {
    server.closeAllConnections();
    server.close();
    client.destroy();
  }
}

// Asks as a browser does, with the user's cookie.
async function ask(url, user) {
  const answer = await fetch(url, { headers: user.cookie ? { cookie: user.cookie } : {} });
  const cookie = answer.headers.getSetCookie()[0]?.split(';')[0];
  if (cookie) user.cookie = cookie;
  return [answer.status, await answer.json()];
}

const idOf = (user) => decodeURIComponent(user.cookie.split('=')[1]).slice(2).split('.')[0];

application.test('sessions', (port, note) => shop(port, async ({ store, ask: get }) => {
  const [ann, bob] = [{}, {}];
  note.see('visits', [await get('/visit', ann), await get('/visit', ann), await get('/visit', bob), await get('/visit', ann)].map(([, body]) => body.visits), [1, 2, 1, 3]);
  note.see('a full basket', [await get('/fill', ann), await get('/basket', ann), await get('/basket', bob)]);
  await note.direct('SELECT', '4');
  note.ttl('ttl', await note.direct('TTL', `shop:${idOf(ann)}`), 300);
  await get('/short', bob);
  note.ttl('its cookie decides', await note.direct('TTL', `shop:${idOf(bob)}`), 60);
  const before = idOf(ann);
  note.see('login', await get('/login', ann), [200, { visits: 3 }]);
  note.see('another id', [idOf(ann) === before, await note.direct('EXISTS', `shop:${before}`)], [false, 0]);
  note.see('visit after it', await get('/visit', ann), [200, { visits: 4 }]);
  note.see('logout', await get('/logout', ann), [200, { out: true }]);
  note.see('gone', [await note.direct('EXISTS', `shop:${idOf(ann)}`), (await get('/visit', ann))[1].visits], [0, 1]);
  const users = Array.from({ length: 60 }, () => ({}));
  await Promise.all(users.map((user) => get('/visit', user)));
  note.see('sixty more', await Promise.all(users.map(async (user) => (await get('/visit', user))[1].visits)), Array(60).fill(2));
  note.see('length', await store.length(), 62);
  note.see('ids', (await store.ids()).length, 62);
  note.see('all', (await store.all()).filter((one) => one.visits === 2).length, 60);
  await store.clear();
  note.see('clear', [await store.length(), (await get('/visit', bob))[1].visits], [0, 1]);
}));
