import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { BlobServiceClient } from '@azure/storage-blob';

/** Azurite, Microsoft's own server for tests, in a process of its own. Nothing of vitest in here: benchmarks use it, too. */
export interface Azurite {
  account: string;
  /** Made for this server. */
  key: string;
  port: number;
  /** Of the account. */
  endpoint: string;
  connectionString: string;
  /** Makes a container, and returns its name. */
  createContainer(name?: string): Promise<string>;
  /** Resolves when its process has ended. */
  close(): Promise<void>;
}

export interface AzuriteOptions {
  /** Where it keeps what is stored; by default in memory. */
  directory?: string;
  account?: string;
  key?: string;
  /** By default one that is free. */
  port?: number;
}

export async function startAzurite(options: AzuriteOptions = {}): Promise<Azurite> {
  const { account = 'lazytreetest', key = randomBytes(64).toString('base64'), port: wanted = 0 } = options;
  const main = join(
    dirname(createRequire(import.meta.url).resolve('azurite/package.json')),
    'dist/src/blob/main.js',
  );
  // It writes to its current directory whatever it is told.
  const scratch = await mkdtemp(join(tmpdir(), 'lazytree-azurite-'));
  const place = options.directory ? ['--location', options.directory] : ['--inMemoryPersistence'];
  const flags = ['--blobHost', '127.0.0.1', '--blobPort', String(wanted), '--silent', '--disableTelemetry'];
  const child = spawn(process.execPath, [main, ...flags, '--skipApiVersionCheck', ...place], {
    cwd: scratch,
    env: { ...process.env, AZURITE_ACCOUNTS: `${account}:${key}`, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const port = await listening(child);
  const endpoint = `http://127.0.0.1:${port}/${account}`;
  const connectionString = `DefaultEndpointsProtocol=http;AccountName=${account};AccountKey=${key};BlobEndpoint=${endpoint};`;
  const service = BlobServiceClient.fromConnectionString(connectionString);
  let containers = 0;
  return {
    account,
    key,
    port,
    endpoint,
    connectionString,
    async createContainer(name = `container-${containers++}`) {
      await service.getContainerClient(name).create();
      return name;
    },
    async close() {
      process.off('exit', kill);
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        const slow = setTimeout(kill, 5000);
        await ended;
        clearTimeout(slow);
      }
      await rm(scratch, { recursive: true, force: true });
    },
  };
}

function listening(child: ChildProcess): Promise<number> {
  let said = '';
  return new Promise((resolve, reject) => {
    const read = (part: Buffer) => {
      said += part;
      const port = /listens on http:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1];
      if (port !== undefined) resolve(Number(port));
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.once('error', reject);
    child.once('exit', () => reject(new Error(`Azurite has ended: ${said}`)));
  });
}
