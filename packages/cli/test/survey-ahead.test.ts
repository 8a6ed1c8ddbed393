import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importTree, statCacheFile } from '@lazytree/core';
import { openHome } from '@lazytree/node';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Caller } from '../dist/caller.js';
import { EXPORT_USE, importUse } from '../dist/stat-cache-use.js';
import { surveyAhead } from '../dist/survey-ahead.js';

let base: string;
let source: string;
let caller: Caller;
const plain = importUse({ ignore: true });
const whole = importUse({ preserve: true, ignore: false });
const cacheFor = (use: string) => statCacheFile(join(base, 'home', 'store'), use, source);

/** A home with a stat cache for each use of a directory. */
beforeAll(async () => {
  base = fs.mkdtempSync(join(tmpdir(), 'survey-ahead-'));
  source = join(base, 'source');
  fs.mkdirSync(source);
  vi.stubEnv('LAZYTREE_HOME', join(base, 'home'));
  const { store, close } = await openHome({ create: true });
  for (const use of [plain, whole, EXPORT_USE]) await importTree(store, source, { statCache: cacheFor(use) });
  await close();
  caller = { directory: base } as Caller;
});

afterAll(() => {
  vi.unstubAllEnvs();
  fs.rmSync(base, { recursive: true, force: true });
});

describe('a survey ahead', () => {
  it.each([
    [plain, ['import', 'source']],
    [plain, ['--json', 'import', './source/', '--name', 'app', '-m', 'some text']],
    [plain, ['import', '--message=text', '--name=app', 'other/../source']],
    [whole, ['import', '--no-ignore', 'source', '--preserve']],
    [EXPORT_USE, ['export', 'app', 'source', '--update']],
    [EXPORT_USE, ['export', '--force', 'app', 'source']],
  ])('is one for "%s" with %j', (use, args) => {
    fs.mkdirSync(join(base, 'other'), { recursive: true });
    const ahead = surveyAhead(args, caller);
    expect(ahead?.of(cacheFor(use))?.root).toBe(fs.realpathSync(source));
    expect(ahead?.of(cacheFor('another use'))).toBeUndefined();
    ahead?.stop();
  });

  it.each([
    [['import']],
    [['import', '']],
    [['import', 'source', '--no-cache']],
    [['import', 'missing']],
    [['export', 'app', 'source']],
    [['export', '--update', 'app']],
    [['workspace', 'exec', 'app', 'import', 'source']],
  ])('is none with %j', (args) => {
    expect(surveyAhead(args, caller)).toBeUndefined();
  });

  it('is none where the current directory is gone', () => {
    expect(surveyAhead(['import', source], { ...caller, directory: undefined })).toBeUndefined();
  });
});
