// Starts the real binary, and redis-server, on free loopback ports; ends each by its own pid.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const START_LIMIT_MS = 60_000;

export async function freePort() {
  const probe = net.createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}

async function answersPing(port) {
  const socket = net.connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write('PING\r\n');
    const [data] = await once(socket, 'data');
    return data.toString() === '+PONG\r\n';
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

export async function startScatterhoard({ hotTierMb = 0, port: wanted, nodes = 14, more = [] } = {}) {
  const binary = process.env.SCATTERHOARD_BIN;
  if (!binary) throw new Error('SCATTERHOARD_BIN must name the scatterhoard program');
  const [port, admin] = [wanted ?? await freePort(), await freePort()];
  return start('scatterhoard', port, binary, (folder) => [
    'serve', '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${admin}`,
    '--nodes', `${nodes}`, '--node-memory-mb', '256', '--data-parity', '10+2',
    '--hot-tier-mb', `${hotTierMb}`, '--data-dir', path.join(folder, 'data'), ...more,
  ]);
}

export async function startRedis() {
  const port = await freePort();
  return start('redis-server', port, 'redis-server', () => [
    '--bind', '127.0.0.1', '--port', `${port}`, '--save', '', '--appendonly', 'no', '--daemonize', 'no',
  ]);
}

async function start(name, port, program, argumentsIn) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'scatterhoard-npm-'));
  const child = spawn(program, argumentsIn(folder), { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] });
  let log = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { log += data; });

  for (const started = Date.now(); !(await answersPing(port)); await sleep(20)) {
    if (child.exitCode !== null || Date.now() - started > START_LIMIT_MS) {
      child.kill('SIGKILL');
      throw new Error(`${name} does not start:\n${log}`);
    }
  }
  return {
    name,
    port,
    async stop() {
      child.kill('SIGTERM');
      if (child.exitCode === null) await once(child, 'exit');
      await rm(folder, { recursive: true, force: true });
      if (child.exitCode !== 0) throw new Error(`${name} ended with ${child.exitCode}:\n${log}`);
    },
  };
}
