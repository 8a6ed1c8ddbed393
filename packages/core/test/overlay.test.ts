import fs from 'node:fs';
import type { ImportOptions } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import {
  afterwards,
  type DirectorySpec,
  directory,
  file,
  pseudoRandom,
  symlink,
  temporaryDirectory,
  writeTree,
} from './helpers.js';
import { openWorkspace, type Workspace } from './overlay-workspace.js';

const base = () =>
  directory({
    README: file('read me\n'),
    run: file('#!/bin/sh\n', true),
    link: symlink('README'),
    large: file(pseudoRandom(400_000, 1)),
    empty: directory(),
    sub: directory({
      one: file('1'),
      two: file('2'),
      inner: directory({ deep: file('deep'), deeper: directory({ deepest: file('!') }) }),
    }),
    other: directory({ one: file('other 1'), x: file('x') }),
  });

async function workspaceOver(spec: DirectorySpec, imports: ImportOptions = {}): Promise<Workspace> {
  const workspace = await openWorkspace(
    (source) => {
      fs.rmdirSync(source);
      writeTree(source, spec);
    },
    { directory: await temporaryDirectory(), imports },
  );
  afterwards(() => workspace.close());
  return workspace;
}

type Change = (at: (path: string) => string) => void;

const forms: Record<string, Change> = {
  'a new file': (at) => fs.writeFileSync(at('new'), 'new'),
  'a changed file': (at) => fs.writeFileSync(at('sub/one'), 'one'),
  'a deleted file (whiteout)': (at) => fs.unlinkSync(at('sub/one')),
  'a deleted directory': (at) => fs.rmSync(at('sub'), { recursive: true }),
  'a directory made anew (opaque)': (at) => {
    fs.rmSync(at('sub'), { recursive: true });
    fs.mkdirSync(at('sub'));
    fs.writeFileSync(at('sub/two'), 'only this');
  },
  'a renamed directory (redirect)': (at) => fs.renameSync(at('sub'), at('moved')),
  'an exec bit (metacopy)': (at) => fs.chmodSync(at('large'), 0o755),
};

describe('saving equals importing what the mount shows:', () => {
  for (const [name, change] of Object.entries(forms)) {
    it(name, async () => {
      const workspace = await workspaceOver(base());
      change(workspace.at);
      const saved = await workspace.save();
      expect(saved.root).toBe(await workspace.plain());
      expect(saved.root).not.toBe(workspace.base());
      expect((await workspace.save()).root).toBe(saved.root);
    });
  }
});
