import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CORPUS, hasCorpus, makeWorkspace } from '../scripts/lib/corpus.mjs';
import { diskUsage, expectSameTree, pseudoRandom, ROOT, type Sandbox, sandbox } from './helpers.ts';

/** The workspace, installed when a test first needs it and kept for the next run. Nobody writes to it. */
function workspace(): string {
  const lock = fs.readFileSync(join(hasCorpus() ? CORPUS : ROOT, 'package-lock.json'));
  const digest = createHash('sha256').update(lock).digest('hex').slice(0, 16);
  const cached = join(tmpdir(), `lazytree-corpus-${process.getuid?.() ?? ''}-${digest}`);
  if (fs.existsSync(cached)) return cached;
  const draft = `${cached}.${process.pid}`;
  try {
    const { notice } = makeWorkspace(draft);
    if (notice) console.warn(`corpus: a copy of ${ROOT}/node_modules, since ${notice}`);
    // Not under the corpus's name when it is the substitute: the next run tries again.
    const place = notice && hasCorpus() ? `${cached}-copy` : cached;
    if (fs.existsSync(place)) return place;
    fs.renameSync(draft, place);
    return place;
  } finally {
    fs.rmSync(draft, { recursive: true, force: true });
  }
}

interface Imported {
  root: string;
  size: number;
  files: number;
  read: number;
  added: { blocks: number; bytes: number };
}

describe('a real workspace', () => {
  let box: Sandbox;
  let source: string;
  let first: Imported;

  beforeAll(async () => {
    source = workspace();
    box = sandbox();
    first = await box.json<Imported>('import', source, '--name', 'work');
  });

  test('is imported whole', async () => {
    expect(first.files).toBeGreaterThan(10_000);
    expect(first.read).toBe(first.files);
    expect(await box.json('verify')).toMatchObject({ sound: true, bad: [], damage: [] });
    expect(first.added.bytes).toBeLessThan(first.size);
  });

  test('an unchanged import reads nothing', async () => {
    expect(await box.json('import', source)).toEqual({
      root: first.root,
      size: first.size,
      files: first.files,
      read: 0,
      added: { blocks: 0, bytes: 0 },
      warnings: [],
    });
  });

  test('export gives it back, and its update writes nothing', async () => {
    expect(await box.json('export', 'work', 'out')).toMatchObject({ files: first.files, bytes: first.size });
    expectSameTree(source, box.path('out'));
    const again = await box.json('export', 'work', 'out', '--update');
    expect(again).toMatchObject({ files: 0, bytes: 0, removed: 0 });

    // The export is the second workspace: the same but for a file edited, one more, one less.
    const name = 'package.json';
    const edited = fs.existsSync(box.path(`out/${name}`)) ? name : '.package-lock.json';
    fs.appendFileSync(box.path(`out/${edited}`), '\n');
    fs.writeFileSync(box.path('out/a-new-file.txt'), 'new\n');
    const before = diskUsage(box.home);
    const second = await box.json<Imported>('import', 'out');
    expect(second).toMatchObject({ files: first.files + 1, size: first.size + 5 });
    expect(second.root).not.toBe(first.root);
    expect(second.added.blocks).toBeLessThan(20);
    expect(second.added.bytes).toBeLessThan(first.added.bytes / 100);
    // Besides blocks the store keeps what it knows of the new directory's files, for the next import of it.
    expect(diskUsage(join(box.home, 'store', 'segments'))).toBeLessThan(first.added.bytes * 1.01 + 65536);
    expect(diskUsage(box.home) - before).toBeLessThan(before * 0.2);
    const lines = await box.ok('diff', 'work', second.root);
    expect(lines.split('\n').sort()).toEqual(['A\ta-new-file.txt', `M\t${edited}`]);

    // And back.
    const back = await box.json('export', 'work', 'out', '--update');
    expect(back).toMatchObject({ files: 1, removed: 1 });
    expect(await box.ok('import', 'out', '--no-cache')).toBe(first.root);
  });

  test.each([
    ['snappy', 'work.image', []],
    ['zstd', 'work.zstd', ['--compression', 'zstd']],
    ['CAR', 'work.car', []],
  ])('saved as %s and loaded elsewhere', async (kind, file, options) => {
    await box.ok('save', 'work', file, ...options);
    const { size } = fs.statSync(box.path(file));
    if (kind !== 'CAR') {
      // The bounds are for the corpus; its substitute holds programs, which compress less.
      const slack = hasCorpus() ? 1 : 1.5;
      expect(size).toBeLessThan(first.size * (kind === 'zstd' ? 0.25 : 0.27) * slack);
      expect((await box.ok('ls', '-R', `image:${file}`)).split('\n').length).toBeGreaterThan(first.files);
    }
    const other = sandbox();
    expect(await other.ok('load', box.path(file))).toBe(first.root);
    expect(await other.json('verify', first.root)).toMatchObject({ sound: true });
  });
});

describe('memory', () => {
  const LIMIT_KIB = 300 * 1024;

  /**
   * The most memory that an import has had, in KiB. Not getrusage's maximum, which counts what the process that
   * started it had as well.
   */
  async function peakOf(box: Sandbox, ...args: string[]): Promise<number> {
    const report = box.path('peak');
    const source = `
      import { isMainThread } from 'node:worker_threads';
      import { readFileSync, writeFileSync } from 'node:fs';
      if (isMainThread) process.on('exit', () => {
        const status = readFileSync('/proc/self/status', 'utf8');
        writeFileSync(${JSON.stringify(report)}, /^VmHWM:\\s+(\\d+)/m.exec(status)[1]);
      });`;
    const url = `data:text/javascript,${encodeURIComponent(source)}`;
    const { code, err } = await box.run(args, { env: { NODE_OPTIONS: `--import=${url}` } });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const peak = Number(fs.readFileSync(report, 'utf8'));
    console.log(`${args.join(' ')}: ${Math.round(peak / 1024)} MiB`);
    return peak;
  }

  test('importing and exporting a file of 1 GB stays below 300 MB', async () => {
    const box = sandbox();
    fs.mkdirSync(box.path('w'));
    const large = fs.openSync(box.path('w/large'), 'w');
    const part = pseudoRandom(32 << 20);
    for (let i = 0; i < 32; i++) {
      part.writeUInt32LE(i, (i * 1000003) % (part.length - 4));
      fs.writeSync(large, part);
    }
    fs.closeSync(large);
    expect(await peakOf(box, 'import', 'w', '--name', 'w')).toBeLessThan(LIMIT_KIB);
    expect(await peakOf(box, 'export', 'w', 'out')).toBeLessThan(LIMIT_KIB);
    expectSameTree(box.path('w'), box.path('out'));
  });

  test('importing 50,000 small files stays below 300 MB', async () => {
    const box = sandbox();
    for (let i = 0; i < 500; i++) {
      const directory = box.path(`w/d${i % 20}/d${i}`);
      fs.mkdirSync(directory, { recursive: true });
      for (let j = 0; j < 100; j++)
        fs.writeFileSync(`${directory}/file-number-${j}.txt`, `${i} ${j}\n`.repeat(20));
    }
    expect(await peakOf(box, 'import', 'w', '--name', 'w')).toBeLessThan(LIMIT_KIB);
    expect(await peakOf(box, 'import', 'w')).toBeLessThan(LIMIT_KIB);
    expect(await box.json('stat', 'w')).toMatchObject({ files: 50_000 });
  });
});
