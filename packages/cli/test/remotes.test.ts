import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DAG_CBOR, formatLink, importTree, LazytreeError, type Link, type LocalStore } from '@lazytree/core';
import { remotesFile } from '@lazytree/node';
import { createLog, type Host, openHost } from '@lazytree/node/daemon';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  block,
  file,
  manyFiles,
  pseudoRandom,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from '../../core/test/helpers.ts';
import { type TestProvider, testProvider } from '../../node/test/fetch/test-provider.ts';
import { commandsOf } from '../dist/serve-commands.js';

const read = promisify(execFile);

describe('a home that has a remote, and is in no cluster', () => {
  let seed: LocalStore;
  let source: string;
  let root: Link;
  let host: Host;
  let remote: TestProvider;
  let place: string;
  /** What attaching the remote fails with. */
  let unusable: LazytreeError | undefined;

  beforeAll(async () => {
    seed = await temporaryStore();
    source = join(await temporaryDirectory(), 'tree');
    const tree = manyFiles(60, { perDirectory: 20, size: 500 });
    tree.entries.set('answer', file('42\n'));
    tree.entries.set('large', file(pseudoRandom(3 << 20, 5)));
    writeTree(source, tree);
    root = (await importTree(seed, source)).root;
    await seed.flush();
  });

  beforeEach(async () => {
    place = await temporaryDirectory();
    unusable = undefined;
    await open();
  });

  async function open(): Promise<void> {
    const home = join(place, 'home');
    fs.mkdirSync(home, { recursive: true });
    fs.writeFileSync(remotesFile(home), '{}');
    process.env.LAZYTREE_HOME = home;
    remote = testProvider(seed, { id: 'backup', tier: 'remote', batch: { bytes: 1 << 20, requests: 4 } });
    const provider = remote;
    host = await openHost({
      home,
      version: '1.2.3',
      log: createLog({ write: () => undefined }, 'error'),
      keepMs: 0,
      async openRemotes({ join: attach }) {
        let withdraw: (() => void) | undefined;
        return {
          list: () => ['backup'],
          async findRef(name, where) {
            if (name === 'app') return { root, remote: 'backup' };
            throw new LazytreeError(
              'NOT_FOUND',
              `there is no ref '${name}' at ${where ?? 'the remote backup'}`,
            );
          },
          async open(name) {
            throw new LazytreeError('NOT_FOUND', `there is no remote '${name}'`);
          },
          traffic: async () => undefined,
          async prepare() {},
          async attach() {
            if (unusable) throw unusable;
            withdraw ??= attach(provider);
          },
          async close() {
            withdraw?.();
          },
        };
      },
    });
  }

  afterEach(() => host.close());

  const before = process.env.LAZYTREE_HOME;
  afterAll(() => {
    if (before === undefined) delete process.env.LAZYTREE_HOME;
    else process.env.LAZYTREE_HOME = before;
  });

  async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
    let out = '';
    let err = '';
    const code = await commandsOf(host)(
      { argv, cwd: place, terminal: { stdout: false, progress: false }, env: {} },
      {
        signal: new AbortController().signal,
        async stdout(part) {
          out += Buffer.from(part);
          return true;
        },
        stderr: (text) => {
          err += text;
        },
        progress: () => undefined,
        endless: () => undefined,
        outcome: () => undefined,
      },
    );
    return { code, out, err };
  }

  const asked = () => remote.trees.length + remote.asked.length;

  test.each(['app', 'app@backup', 'CID'])('reads a tree that is there alone, by %s', async (name) => {
    const spec = name === 'CID' ? formatLink(root) : name;
    expect(await run('cat', `${spec}/answer`)).toEqual({ code: 0, out: '42\n', err: '' });
    expect((await run('ls', spec)).out).toMatch(/^answer\n/);
    expect(JSON.parse((await run('stat', '--json', spec)).out)).toMatchObject({ cid: formatLink(root) });
    expect(remote.trees.length).toBe(1);
  });

  test('exports, compares, and fetches all of it', async () => {
    expect((await run('export', 'app', 'exported')).code).toBe(0);
    expect(fs.readFileSync(join(place, 'exported', 'large'))).toEqual(fs.readFileSync(join(source, 'large')));
    expect(await run('diff', 'app', 'app@backup')).toMatchObject({ code: 0, out: '' });
    const before = asked();
    expect((await run('prefetch', 'app')).code).toBe(0);
    remote.behaviour = { failsAfter: 0 };
    expect((await run('cat', 'app/answer')).out).toBe('42\n');
    expect(asked()).toBe(before);
  });

  test('mounts it, also when its daemon comes back', async () => {
    const target = join(place, 'mounted');
    expect(await run('mount', '--no-prefetch', 'app', target)).toMatchObject({ code: 0, err: '' });
    expect((await read('cat', [join(target, 'answer')])).stdout).toBe('42\n');
    await host.close();
    await open();
    expect(
      (await read('sh', ['-c', `cmp '${join(target, 'large')}' '${join(source, 'large')}'`])).stdout,
    ).toBe('');
    expect(asked()).toBeGreaterThan(0);
    expect((await run('unmount', target)).code).toBe(0);
  });

  test('makes a workspace of it', async () => {
    const target = join(place, 'workspace');
    expect(await run('workspace', 'create', 'mine', target, '--from', 'app@backup')).toMatchObject({
      code: 0,
    });
    expect((await run('cat', 'mine/answer')).out).toBe('42\n');
    expect((await run('workspace', 'remove', 'mine')).code).toBe(0);
  });

  test.each(['nothing', 'nothing@backup', 'app@nobody', formatLink(block('nowhere').link)])(
    'does not find what is nowhere: %s',
    async (spec) => {
      const { code, out, err } = await run('ls', spec);
      expect({ code, out }).toEqual({ code: 4, out: '' });
      expect(err).toMatch(/backup|nobody/);
    },
  );

  test('says who could not be asked', async () => {
    remote.behaviour = { failsAfter: 0 };
    const { code, err } = await run('ls', formatLink(root));
    expect(code).toBe(7);
    expect(err).toContain('remote backup: it is on fire');
  });

  test('says why a remote cannot be used, and reads what is here without it', async () => {
    expect((await run('cat', 'app/answer')).code).toBe(0);
    await host.close();
    unusable = new LazytreeError('REFUSED', 'backup: no credentials', { hint: 'log in' });
    await open();
    const { code, out, err } = await run('cat', `${formatLink(root)}/answer`);
    expect({ code, out }).toEqual({ code: 0, out: '42\n' });
    expect(err).toContain('backup: no credentials');
    const missing = await run('ls', formatLink(block('nowhere', DAG_CBOR).link));
    expect(missing.code).toBe(7);
    expect(missing.err).toContain('backup: no credentials');
    expect(missing.err).toContain('log in');
  });
});
