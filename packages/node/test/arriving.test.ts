import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importTree, LazytreeError } from '@lazytree/core';
import { createLog, openHost } from '@lazytree/node/daemon';
import { afterAll, expect, test } from 'vitest';

const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-arriving-'));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

test('whoever reads what is arriving is told that the disk is full, even when all has come', async () => {
  const host = await openHost({
    home: join(directory, 'home'),
    version: '1.2.3',
    log: createLog({ write: () => undefined }, 'info'),
    keepMs: 0,
  });
  try {
    const { store } = host.home;
    fs.mkdirSync(join(directory, 'tree'));
    fs.writeFileSync(join(directory, 'tree/file'), 'content');
    const { root, files, size } = await importTree(store, join(directory, 'tree'));
    const { flush } = store;
    const full = new LazytreeError('NO_SPACE', 'the index: no space left on the device');
    const signal = new AbortController().signal;
    const entry = { kind: 'directory', name: '', link: root, files, size } as const;
    const arriving = host.arriving(entry, { signal });
    await arriving.ended;
    expect(arriving.problem()).toBeUndefined();
    store.flush = () => Promise.reject(full);
    await expect(arriving.store.flush()).rejects.toBe(full);
    expect(arriving.problem()).toBe(full);
    store.flush = flush;
  } finally {
    await host.close();
  }
});
