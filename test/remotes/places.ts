import fs from 'node:fs';
import { join } from 'node:path';
import type { Storage } from '@lazytree/node/remotes';
import { expect } from 'vitest';
import { openStorage } from '../../packages/node/dist/remotes/open-storage.js';
import { type Azurite, startAzurite } from '../../packages/node/test/remotes/azurite.ts';
import {
  type HttpFaultProxy,
  startHttpFaultProxy,
} from '../../packages/node/test/remotes/http-fault-proxy.ts';
import { afterwards, type Sandbox, sandbox } from '../helpers.ts';
import { stopDaemon } from '../mount/mountable.ts';
import { shOk } from '../mount/mounted.ts';

export type Kind = 'azure' | 'directory';
export const KINDS: Kind[] = ['azure', 'directory'];

/** Somewhere trees can be kept: a container of Azurite or a directory. */
export interface Place {
  kind: Kind;
  /** What `remote add` takes after the name. */
  address: string[];
  /** What a command needs to open it. */
  env: NodeJS.ProcessEnv;
  /** What is in it, past the command. */
  storage: Storage;
  /** Another one beside it, which is empty. */
  another(): Promise<Place>;
}

export interface AzurePlace extends Place {
  azurite: Azurite;
  /** Between commands and Azurite. In this process: whoever blocks it must not wait for a mount. */
  proxy: HttpFaultProxy;
}

const signal = new AbortController().signal;

export function openPlace(kind: Kind): Promise<Place> {
  return kind === 'azure' ? openAzurePlace() : openDirectoryPlace();
}

async function openDirectoryPlace(): Promise<Place> {
  const directory = join(sandbox().directory, 'share');
  fs.mkdirSync(directory);
  const url = `file://${directory}`;
  const storage = await openStorage({ url }, { env: {} });
  return { kind: 'directory', address: [url], env: {}, storage, another: openDirectoryPlace };
}

/** @param directory where Azurite keeps it, so that another one can go on from there */
export async function openAzurePlace(directory?: string): Promise<AzurePlace> {
  const azurite = await startAzurite(directory === undefined ? {} : { directory });
  const proxy = await startHttpFaultProxy({ host: '127.0.0.1', port: azurite.port });
  afterwards(async () => {
    await proxy.close();
    await azurite.close();
  });
  const open = async (): Promise<AzurePlace> => {
    const url = `azure://${azurite.account}/${await azurite.createContainer()}`;
    const env = { AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString };
    const storage = await openStorage({ url }, { env });
    const endpoint = `http://127.0.0.1:${proxy.port}/${azurite.account}`;
    return {
      kind: 'azure',
      address: [url, '--endpoint', endpoint],
      env,
      storage,
      another: open,
      azurite,
      proxy,
    };
  };
  return open();
}

/** A home with the place as its remote `r`, and no daemon when the tests are done. */
export async function newMachine(place: Place, directory?: string): Promise<Sandbox> {
  const box = sandbox(directory, { env: place.env });
  afterwards(() => stopDaemon(box));
  await box.ok('remote', 'add', 'r', ...place.address);
  return box;
}

/** As if the machine had never been. */
export async function destroy(box: Sandbox): Promise<void> {
  await stopDaemon(box);
  fs.rmSync(box.home, { recursive: true, force: true });
}

/** Bytes of what there is, by name. */
export async function objectsIn({ storage }: Place, prefix = ''): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for await (const { name, size } of storage.list(prefix, { signal })) found.set(name, size);
  return found;
}

/** `diff -r` by a process of its own, which has to find nothing: the second one may be a mount. */
export async function expectSame(box: Sandbox, a: string, b: string): Promise<void> {
  expect(await shOk(box, `diff -r --no-dereference '${a}' '${b}'`)).toBe('');
}

export async function bytesAt(place: Place): Promise<number> {
  return [...(await objectsIn(place)).values()].reduce((sum, size) => sum + size, 0);
}

/** Bytes of an object, behind everybody's back. */
export async function readObject({ storage }: Place, name: string): Promise<Buffer> {
  const object = await storage.get(name, { signal });
  if (!object) throw new Error(`there is no ${name}`);
  return object.bytes;
}

export async function writeObject({ storage }: Place, name: string, bytes: Buffer): Promise<void> {
  await storage.put(name, [bytes], { signal });
}

export async function removeObject({ storage }: Place, name: string): Promise<void> {
  await storage.delete(name, { signal });
}
