// Azurite, Microsoft's emulator of Azure Blob Storage, for a demonstration. Nothing here waits for an event: the steps of
// a demonstration are synchronous. This file runs on whatever Node the system has (20 or newer), so: built-ins only.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './prepare.mjs';

/** Azurite's well-known account: published, and no secret. */
const ACCOUNT = 'devstoreaccount1';
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';
const PATIENCE_MS = 30_000;

/**
 * Starts it with one container, in memory and on a free port.
 * @param {string} container
 * @param {{ directory: string, env: NodeJS.ProcessEnv }} options where it may write
 */
export function startAzurite(container, { directory, env }) {
  const log = join(directory, 'azurite.log');
  const said = openSync(log, 'w');
  const main = join(ROOT, 'node_modules', 'azurite', 'dist', 'src', 'blob', 'main.js');
  const flags = ['--blobHost', '127.0.0.1', '--blobPort', '0', '--inMemoryPersistence', '--silent'];
  const child = spawn('node', [main, ...flags, '--disableTelemetry', '--skipApiVersionCheck'], {
    cwd: directory,
    env: { ...env, NODE_OPTIONS: '' },
    stdio: ['ignore', said, said],
  });
  closeSync(said);
  // Whoever fails is not kept by it.
  child.unref();
  const stop = () => void child.kill('SIGKILL');
  process.once('exit', stop);
  const endpoint = `http://127.0.0.1:${portIn(log)}/${ACCOUNT}`;
  createContainer(container, { endpoint, env });
  return {
    url: `azure://${ACCOUNT}/${container}`,
    endpoint,
    stop() {
      process.off('exit', stop);
      stop();
    },
  };
}

/** @param {string} log */
function portIn(log) {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (
    const late = performance.now() + PATIENCE_MS;
    performance.now() < late;
    Atomics.wait(pause, 0, 0, 50)
  ) {
    const port = /listens on http:\/\/127\.0\.0\.1:(\d+)/.exec(readFileSync(log, 'utf8'))?.[1];
    if (port) return port;
  }
  throw new Error(`Azurite does not start: ${readFileSync(log, 'utf8')}`);
}

/**
 * @param {string} name
 * @param {{ endpoint: string, env: NodeJS.ProcessEnv }} options
 */
function createContainer(name, { endpoint, env }) {
  const connection = `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${KEY};BlobEndpoint=${endpoint}`;
  const script = `import { BlobServiceClient } from '@azure/storage-blob';
    await BlobServiceClient.fromConnectionString('${connection}').createContainer('${name}');`;
  const { status, stderr } = spawnSync('node', ['--input-type=module', '--eval', script], {
    cwd: ROOT,
    env,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`the container cannot be made: ${stderr}`);
}
