import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { encode } from '@ipld/dag-cbor';
import { linkToCid, type parseLink } from '@lazytree/core';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  afterwards,
  BIN,
  beAlone,
  describeHome,
  listing,
  loudly,
  mounted,
  NOBODY,
  pseudoRandom,
  type Result,
  ROOT,
  type RunOptions,
  remount,
  type Sandbox,
  sandbox,
  start,
  whyNotMount,
  whyNotNobody,
  writeFiles,
} from './helpers.ts';

const ABSENT = 'bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy';

interface Refused {
  code: number;
  /** The line on stderr has to contain each of these. */
  names: (string | RegExp)[];
  /** Directories and files that have to be as they were, besides the home. */
  targets?: string[];
  options?: Partial<RunOptions>;
  forms?: Form[];
  /** Blocks that nothing refers to may be left, for gc. */
  leaves?: 'nothing' | 'garbage';
}

type Form = 'text' | 'json';

/** Runs a bad command line, as text and with --json: one line, the right code, and nothing changed. */
async function expectRefused(
  box: Sandbox,
  args: string[],
  { code, names, targets = [box.directory], options = {}, forms = ['text', 'json'], leaves }: Refused,
): Promise<void> {
  const state = async () => ({
    home: await (leaves === 'garbage' ? contentOf(box.home) : describeHome(box.home)),
    targets: targets.map((target) => listing(target, (path) => path === box.home)),
  });
  const before = await state();
  for (const form of forms) {
    const result = await box.run(form === 'json' ? [...args, '--json'] : args, options);
    expectOneLine(result, code, names, form);
  }
  if (leaves === 'garbage') {
    await beAlone(box.home);
    await box.ok('gc');
  }
  expect(await state()).toEqual(before);
}

/** What a home holds, wherever gc has moved it. */
async function contentOf(home: string): Promise<unknown> {
  const { blocks, refs, pins, imports } = (await describeHome(home)) as Record<string, string[]>;
  return { blocks: blocks.map((line) => line.split(' ')[0]), refs, pins, imports };
}

function expectOneLine(result: Result, code: number, names: (string | RegExp)[], form: Form = 'text'): void {
  expect({ code: result.code, out: result.out, err: result.err }).toEqual({
    code,
    out: form === 'json' ? result.err : '',
    err: expect.stringMatching(/^[^\n]+\n$/),
  });
  let line = result.err;
  if (form === 'json') {
    const { error } = JSON.parse(result.err);
    expect(Object.keys(error).filter((key) => !['code', 'message', 'hint'].includes(key))).toEqual([]);
    expect(error.code).toMatch(/^[A-Z_]+$/);
    line = error.message;
  } else expect(line).toMatch(/^lazytree: /);
  for (const name of names) {
    if (typeof name === 'string') expect(line).toContain(name);
    else expect(line).toMatch(name);
  }
}

/** A home with a few trees in it, and files beside it to make mistakes with. Never changed by a test. */
let box: Sandbox;
let root: string;

beforeAll(async () => {
  box = sandbox();
  writeFiles(box.path('w'), {
    'a.txt': 'hello',
    'dir/file': 'in a directory',
    'dir/big': pseudoRandom(400_000),
    link: { symlink: 'a.txt' },
  });
  root = await box.ok('import', 'w', '--name', 'work');
  await box.ok('pin', 'add', root);
  writeFiles(box.path('filled'), { mine: 'mine', 'sub/more': 'more' });
  writeFiles(box.directory, {
    'a-file': 'not a directory',
    'text.image': 'some text\n',
    'text.car': 'some text\n',
  });
  fs.writeFileSync(box.path('noise.image'), pseudoRandom(100_000, 'noise'));
  fs.writeFileSync(box.path('noise.car'), pseudoRandom(100_000, 'noise'));
});

describe('usage: 2', () => {
  test.each<[string, string[], (string | RegExp)[]]>([
    ['an unknown command', ['frobnicate'], ['frobnicate']],
    ['no command', [], [/command|usage/i]],
    ['an unknown option', ['ls', '--frobnicate', 'work'], ['--frobnicate']],
    ['an unknown option before the command', ['--frobnicate', 'ls', 'work'], ['--frobnicate']],
    ['an unknown action', ['ref', 'frobnicate'], ['frobnicate']],
    ['a group without its action', ['ref'], [/ref|command|usage/i]],
    ['a missing argument', ['ls'], ['tree']],
    ['a missing second argument', ['export', 'work'], ['dir']],
    ['an argument too many', ['ls', 'work', 'surplus'], [/surplus|too many/]],
    ['an option without its value', ['import', 'w', '--name'], ['--name']],
    [
      '--update and --force together',
      ['export', 'work', 'out', '--update', '--force'],
      ['--update', '--force'],
    ],
    ['an unknown compression', ['save', 'work', 'x.image', '--compression', 'gzip'], ['gzip']],
    ['--keep of nothing', ['gc', '--keep', '0'], ['--keep', "'0'"]],
    ['--keep of no number', ['gc', '--keep', 'x1'], ['--keep', 'x1']],
    ['import of a file', ['import', 'a-file'], ['a-file']],
    ['a CID that does not parse', ['ls', ABSENT.slice(0, 40)], [ABSENT.slice(0, 40)]],
    ['a CID with a letter too many', ['ls', `${ABSENT}a`], [`${ABSENT}a`]],
    ['cat of a directory', ['cat', 'work/dir'], ['work/dir', 'directory']],
    ['cat of a symlink', ['cat', 'work/link'], ['work/link', 'symlink']],
    ['export of a file', ['export', 'work/a.txt', 'out'], ['work/a.txt']],
    ['save of a file', ['save', 'work/a.txt', 'out.image'], ['work/a.txt']],
    ['diff with a file', ['diff', 'work', 'work/a.txt'], ['work/a.txt']],
    ['a ref to a file', ['ref', 'set', 'x', 'work/a.txt'], ['work/a.txt']],
    ['a pin of a symlink', ['pin', 'add', 'work/link'], ['work/link']],
    ['export onto a file', ['export', 'work', 'a-file'], ['a-file']],
    ['save onto a directory', ['save', 'work', 'filled'], ['filled']],
    ['a ref name with a slash', ['ref', 'set', 'a/b', 'work'], ['a/b']],
    ['a ref name with a dot first', ['ref', 'set', '..', 'work'], ["'..'"]],
    ['an empty ref name', ['ref', 'set', '', 'work'], ["''"]],
    ['import to a ref name with a space', ['import', 'filled', '--name', 'a b'], ['a b']],
  ])('%s', async (_, args, names) => {
    await expectRefused(box, args, { code: 2, names });
  });

  test('load to a ref name that cannot be', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'file' });
    await other.ok('import', 'w');
    await box.ok('save', 'work', other.path('work.image'));
    await expectRefused(other, ['load', 'work.image', '--name', 'a b'], { code: 2, names: ['a b'] });
  });

  test('a ref name that is a CID', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'file' });
    await other.ok('import', 'w', '--name', 'work');
    await expectRefused(other, ['ref', 'set', ABSENT, 'work'], { code: 2, names: [ABSENT] });
    await expectRefused(other, ['import', 'w', '--name', ABSENT], { code: 2, names: [ABSENT] });
  });
});

describe('not found: 4', () => {
  test.each<[string, string[], string[]]>([
    ['import of a missing path', ['import', 'missing/path'], ['missing/path']],
    ['a root that is not here', ['ls', ABSENT], [ABSENT]],
    ['export of a root that is not here', ['export', ABSENT, 'out'], [ABSENT]],
    ['save of a root that is not here', ['save', ABSENT, 'out.image'], [ABSENT]],
    ['diff with a root that is not here', ['diff', 'work', ABSENT], [ABSENT]],
    ['verify of a root that is not here', ['verify', ABSENT], [ABSENT]],
    ['pin of a root that is not here', ['pin', 'add', ABSENT], [ABSENT]],
    ['a ref to a root that is not here', ['ref', 'set', 'x', ABSENT], [ABSENT]],
    ['pin rm of what is not pinned', ['pin', 'rm', 'work/dir'], ['pin']],
    ['an unknown ref', ['ls', 'nobody'], ['nobody']],
    ['ref get of an unknown ref', ['ref', 'get', 'nobody'], ['nobody']],
    ['ref rm of an unknown ref', ['ref', 'rm', 'nobody'], ['nobody']],
    ['log of an unknown ref', ['log', 'nobody'], ['nobody']],
    ['a path that is not in the tree', ['cat', 'work/dir/no/such'], ['dir/no']],
    ['a path below a file', ['cat', 'work/a.txt/x'], ['a.txt']],
    ['a path below a symlink', ['cat', 'work/link/x'], ['link']],
    ['ls of a path that is not there', ['ls', 'work/nothing'], ['nothing']],
    ['export into a missing parent', ['export', 'work', 'no/such/out'], ['no/such']],
    ['export below a file', ['export', 'work', 'a-file/out'], ['a-file']],
    ['save into a missing directory', ['save', 'work', 'no/such/x.image'], ['no/such/x.image']],
    ['save to a CAR in a missing directory', ['save', 'work', 'no/such/x.car'], ['no/such/x.car']],
    ['ls of a missing image', ['ls', 'image:gone.image'], ['gone.image']],
    ['load of a missing image', ['load', 'gone.image'], ['gone.image']],
    ['load of a missing CAR', ['load', 'gone.car'], ['gone.car']],
  ])('%s', async (_, args, names) => {
    await expectRefused(box, args, { code: 4, names });
  });

  test('an image that vanishes', async () => {
    await box.ok('save', 'work', 'vanishing.image');
    expect(await box.ok('cat', 'image:vanishing.image/a.txt')).toBe('hello');
    fs.rmSync(box.path('vanishing.image'));
    for (const args of [
      ['cat', 'image:vanishing.image/a.txt'],
      ['load', 'vanishing.image'],
      ['export', 'image:vanishing.image', 'out'],
    ]) {
      await expectRefused(box, args, { code: 4, names: ['vanishing.image'] });
    }
  });

  test('a path that is not in an image', async () => {
    await box.ok('save', 'work', 'some.image');
    await expectRefused(box, ['cat', 'image:some.image/nothing'], { code: 4, names: ['nothing'] });
    fs.rmSync(box.path('some.image'));
  });

  test.each(
    [
      ['import', 'missing'],
      ['import', 'nothing/below'],
      ['load', 'missing.image'],
      ['load', 'missing.car'],
      ['ls', ABSENT],
      ['ls', 'name'],
      ['export', 'name', 'out'],
      ['save', 'name', 'out.image'],
      ['ref', 'list'],
      ['pin', 'list'],
      ['log', 'name'],
      ['gc'],
      ['verify'],
      ['verify', '--repair'],
      ['status'],
    ].map((args) => [args.join(' '), args] as const),
  )('without a home, %s makes none', async (_, args) => {
    const empty = sandbox();
    await expectRefused(empty, [...args], { code: 4, names: [], forms: ['text'] });
    expect(fs.existsSync(empty.home)).toBe(false);
  });

  test('nor does a file that is no image', async () => {
    const empty = sandbox();
    writeFiles(empty.directory, { 'text.image': 'text', 'text.car': 'text' });
    for (const file of ['text.image', 'text.car']) {
      await expectRefused(empty, ['load', file], { code: 5, names: [file] });
      expect(fs.existsSync(empty.home)).toBe(false);
    }
  });

  test('nor does import of a file, or to a name that cannot be', async () => {
    const empty = sandbox();
    writeFiles(empty.path('w'), { file: 'file' });
    await expectRefused(empty, ['import', 'w/file'], { code: 2, names: ['w/file'] });
    await expectRefused(empty, ['import', 'w', '--name', 'a/b'], { code: 2, names: ['a/b'] });
    expect(fs.existsSync(empty.home)).toBe(false);
  });
});

describe('corrupt: 5', () => {
  test.each(['text.image', 'noise.image', 'text.car', 'noise.car'])('a foreign file: %s', async (file) => {
    await expectRefused(box, ['load', file], { code: 5, names: [file] });
    if (file.endsWith('.image'))
      await expectRefused(box, ['ls', `image:${file}`], { code: 5, names: [file] });
  });

  test.each(['snappy', 'zstd'])('an image cut short: %s', async (compression) => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    await box.ok('save', 'work', other.path('whole.image'), '--compression', compression);
    const bytes = fs.readFileSync(other.path('whole.image'));
    const { length } = bytes;
    for (const size of compression === 'zstd'
      ? [length >> 1, length - 1]
      : [0, 1, 16, 100, length >> 1, length - 40, length - 1]) {
      fs.writeFileSync(other.path('cut.image'), bytes.subarray(0, size));
      await expectRefused(other, ['load', 'cut.image'], { code: 5, names: ['cut.image'], forms: ['text'] });
    }
    await expectRefused(other, ['ls', 'image:cut.image'], { code: 5, names: ['cut.image'] });
    await expectRefused(other, ['export', 'image:cut.image', 'out'], { code: 5, names: ['cut.image'] });
  });

  test('an image with a flipped bit in its content', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    await box.ok('save', 'work', other.path('flipped.image'));
    const bytes = fs.readFileSync(other.path('flipped.image'));
    const at = bytes.indexOf(pseudoRandom(400_000).subarray(100_000, 100_100));
    expect(at).toBeGreaterThan(0);
    bytes[at] ^= 4;
    fs.writeFileSync(other.path('flipped.image'), bytes);
    await expectRefused(other, ['load', 'flipped.image'], {
      code: 5,
      names: ['flipped.image'],
      leaves: 'garbage',
    });
    await expectRefused(other, ['export', 'image:flipped.image', 'out'], {
      code: 5,
      names: ['flipped.image'],
    });
  });

  test('a CAR cut short', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    await box.ok('save', 'work', other.path('whole.car'));
    const bytes = fs.readFileSync(other.path('whole.car'));
    const { length } = bytes;
    for (const size of [0, 1, 10, 60, length >> 1, length - 1]) {
      fs.writeFileSync(other.path('cut.car'), bytes.subarray(0, size));
      await expectRefused(other, ['load', 'cut.car'], { code: 5, names: ['cut.car'], forms: ['text'] });
    }
  });

  test('a CAR with its blocks missing', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    await box.ok('save', 'work', other.path('whole.car'));
    const whole = fs.readFileSync(other.path('whole.car'));
    const headerLength = 1 + whole[0];
    fs.writeFileSync(other.path('headless.car'), whole.subarray(0, headerLength));
    await expectRefused(other, ['load', 'headless.car'], { code: 5, names: ['headless.car'] });
  });

  /** A CAR with one block that is no node of ours. */
  function foreignCar() {
    const foreign = encode({ hello: 'world' });
    const digest = createHash('sha256').update(foreign).digest();
    const cidBytes = Buffer.concat([Buffer.of(1, 0x71, 0x12, 32), digest]);
    const cid = linkToCid(`\x71${digest.toString('latin1')}` as ReturnType<typeof parseLink>);
    const header = encode({ roots: [cid], version: 1 });
    const car = Buffer.concat([
      Buffer.of(header.length),
      header,
      Buffer.of(cidBytes.length + foreign.length),
      cidBytes,
      foreign,
    ]);
    return { cid: cid.toString(), car };
  }

  test('a CAR of something else', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    const { cid, car } = foreignCar();
    fs.writeFileSync(other.path('foreign.car'), car);
    await expectRefused(other, ['load', 'foreign.car'], { code: 5, names: [cid], leaves: 'garbage' });
  });

  test('a CAR with a flipped bit', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'other' });
    await other.ok('import', 'w', '--name', 'other');
    const { cid, car } = foreignCar();
    car[car.length - 1] ^= 1;
    fs.writeFileSync(other.path('damaged.car'), car);
    await expectRefused(other, ['load', 'damaged.car'], { code: 5, names: ['damaged.car', cid] });
  });

  test('an index that is gone, and what --repair makes of it', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: pseudoRandom(5000, 'index') });
    const imported = await other.ok('import', 'w');
    await beAlone(other.home);
    fs.rmSync(join(other.home, 'store', 'index'), { recursive: true });
    await expectRefused(other, ['ls', imported], { code: 5, names: [join(other.home, 'store')] });
    await expectRefused(other, ['import', 'w'], { code: 5, names: [join(other.home, 'store')] });
    await other.run(['verify', '--repair']);
    expect((await other.run(['cat', `${imported}/file`])).stdout.equals(pseudoRandom(5000, 'index'))).toBe(
      true,
    );
  });

  test('a segment that is gone', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: pseudoRandom(5000, 'segment') });
    const imported = await other.ok('import', 'w', '--name', 'work');
    await beAlone(other.home);
    const segments = join(other.home, 'store', 'segments');
    for (const name of fs.readdirSync(segments)) fs.rmSync(join(segments, name));
    await expectRefused(other, ['cat', `${imported}/file`], { code: 5, names: [segments] });
    const { code, err, out } = await other.run(['verify']);
    expect({ code, err }).toEqual({ code: 5, err: '' });
    expect(out).toContain('work/');
  });
});

describe('failed: 1', () => {
  test.each(['--version', '--help', 'ls'])('%s to a full disk is no crash', async (name) => {
    const box = sandbox();
    writeFiles(box.path('w'), { file: 'x' });
    await box.ok('import', 'w', '--name', 'w');
    const args = name === 'ls' ? ['ls', 'w'] : [name];
    const full = ['sh', '-c', '"$0" "$@" >/dev/full'];
    const { code, err } = await start([...full, process.execPath, BIN, ...args], box).ended;
    expect(code).toBe(1);
    expect(err).toMatch(/^lazytree: [^\n]*no space[^\n]*\n$/);
    const silent = ['sh', '-c', '"$0" "$@" 2>/dev/full'];
    expect(await start([...silent, process.execPath, BIN, 'ls', 'nothing'], box).ended).toMatchObject({
      code: 4,
    });
  });

  test('with a HOME that is set to nothing, the home is not in the current directory', async () => {
    const box = sandbox();
    const { err } = await start([process.execPath, BIN, 'ls', 'x'], {
      ...box,
      cwd: box.directory,
      env: { HOME: '', LAZYTREE_HOME: '', XDG_DATA_HOME: '' },
    }).ended;
    expect(err).not.toContain(' .local');
    expect(fs.readdirSync(box.directory)).toEqual([]);
  });

  test('a store of another version', async () => {
    const other = sandbox();
    writeFiles(other.path('w'), { file: 'x' });
    await other.ok('import', 'w', '--name', 'work');
    await beAlone(other.home);
    fs.writeFileSync(join(other.home, 'store', 'format'), 'lazytree store 2\n');
    const before = listing(other.directory);
    for (const args of [
      ['ls', 'work'],
      ['import', 'w'],
      ['gc'],
      ['verify', '--repair'],
      ['load', box.path('text.image')],
    ]) {
      const result = await other.run(args);
      expectOneLine(result, 1, [join(other.home, 'store'), 'lazytree store 2']);
      expect(listing(other.directory)).toEqual(before);
    }
  });

  test('a disk that is full', async (context) => {
    loudly(context, whyNotMount());
    const full = sandbox();
    mounted(full.home, '-t', 'tmpfs', '-o', 'size=12m', 'tmpfs');
    writeFiles(full.path('small'), { file: pseudoRandom(1 << 20, 'small') });
    writeFiles(full.path('large'), {
      one: pseudoRandom(9 << 20, 'one'),
      two: pseudoRandom(9 << 20, 'two'),
      ...Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`d/${i}`, pseudoRandom(4000, i)])),
    });
    const small = await full.ok('import', 'small', '--name', 'small');
    for (const form of ['text', 'json'] as const) {
      const json = form === 'json' ? ['--json'] : [];
      const result = await full.run(['import', 'large', '--name', 'large', ...json]);
      expectOneLine(result, 1, [/no space/i, full.home], form);
      expect(await full.json('ref', 'list')).toMatchObject({
        refs: [{ name: 'small', root: small, sequence: 1 }],
      });
      expect((await full.run(['cat', 'small/file'])).stdout.equals(pseudoRandom(1 << 20, 'small'))).toBe(
        true,
      );
      expect(await full.json('verify')).toMatchObject({ sound: true });
    }
    expect(await full.ok('import', 'small', '--name', 'small')).toBe(small);
    remount(full.home, 'size=64m');
    const large = await full.ok('import', 'large', '--name', 'large');
    expect(await full.json('verify', large)).toMatchObject({ sound: true });

    // The same of what is written from the store.
    const target = mounted(full.path('target'), '-t', 'tmpfs', '-o', 'size=12m', 'tmpfs');
    for (const args of [
      ['export', 'large', 'target/out'],
      ['export', 'large', 'target'],
      ['save', 'large', 'target/x.image'],
      ['save', 'large', 'target/x.car'],
    ]) {
      await expectRefused(full, args, { code: 1, names: [/no space/i, 'target'] });
      expect(fs.readdirSync(target)).toEqual([]);
    }
  });
});

describe('refused: 8', () => {
  test('export to a directory that is not empty', async () => {
    await expectRefused(box, ['export', 'work', 'filled'], { code: 8, names: ['filled'] });
    await expectRefused(box, ['export', 'work', 'filled/'], { code: 8, names: ['filled'] });
  });

  test('export onto or below the home', async () => {
    await expectRefused(box, ['export', 'work', box.home, '--update'], { code: 8, names: [box.home] });
    await expectRefused(box, ['export', 'work', join(box.home, 'store', 'out')], {
      code: 8,
      names: [box.home],
    });
  });

  /** A sandbox that belongs to nobody but the user of that name. */
  function nobodys(): Sandbox {
    const theirs = sandbox();
    fs.chownSync(theirs.directory, NOBODY, NOBODY);
    return theirs;
  }
  const options = { asNobody: true };

  test('a file that cannot be read', async (context) => {
    loudly(context, whyNotNobody());
    const theirs = nobodys();
    writeFiles(theirs.path('first'), { file: 'readable' });
    expect((await theirs.run(['import', 'first', '--name', 'first'], options)).code).toBe(0);
    writeFiles(theirs.path('w'), { 'dir/secret': 'secret', open: pseudoRandom(50_000, 'open'), zz: 'zz' });
    fs.chmodSync(theirs.path('w/dir/secret'), 0o000);
    await expectRefused(theirs, ['import', 'w', '--name', 'w'], {
      code: 8,
      names: ['dir/secret'],
      options,
      leaves: 'garbage',
    });
  });

  test('a directory that cannot be read', async (context) => {
    loudly(context, whyNotNobody());
    const theirs = nobodys();
    writeFiles(theirs.path('first'), { file: 'readable' });
    expect((await theirs.run(['import', 'first', '--name', 'first'], options)).code).toBe(0);
    writeFiles(theirs.path('w'), { 'a/file': 'a', 'closed/file': 'closed' });
    fs.chmodSync(theirs.path('w/closed'), 0o000);
    await expectRefused(theirs, ['import', 'w', '--name', 'w'], { code: 8, names: ['closed'], options });
    await expectRefused(theirs, ['import', 'w/closed'], { code: 8, names: ['closed'], options });
  });

  test('a target that cannot be written', async (context) => {
    loudly(context, whyNotNobody());
    const theirs = nobodys();
    writeFiles(theirs.path('w'), { file: 'content' });
    expect((await theirs.run(['import', 'w', '--name', 'w'], options)).code).toBe(0);
    fs.mkdirSync(theirs.path('roots'), { mode: 0o755 });
    for (const args of [
      ['export', 'w', 'roots'],
      ['export', 'w', 'roots/out'],
      ['export', 'w', 'roots', '--update'],
      ['save', 'w', 'roots/w.image'],
      ['save', 'w', 'roots/w.car'],
    ]) {
      await expectRefused(theirs, args, { code: 8, names: ['roots'], options });
    }
  });

  test('a home of somebody else, and one that cannot be made', async (context) => {
    loudly(context, whyNotNobody());
    const theirs = nobodys();
    writeFiles(theirs.path('w'), { file: 'content' });
    await theirs.ok('import', 'w', '--name', 'w');
    for (const args of [['ls', 'w'], ['import', 'w'], ['gc'], ['status']]) {
      await expectRefused(theirs, args, { code: 8, names: [theirs.home], options });
    }
    const impossible = sandbox();
    writeFiles(impossible.path('w'), { file: 'content' });
    await expectRefused(impossible, ['import', 'w'], { code: 8, names: [impossible.home], options });
    expect(fs.existsSync(impossible.home)).toBe(false);
  });

  test('images that cannot be read', async (context) => {
    loudly(context, whyNotNobody());
    const theirs = nobodys();
    writeFiles(theirs.path('w'), { file: 'content' });
    expect((await theirs.run(['import', 'w', '--name', 'w'], options)).code).toBe(0);
    for (const file of ['w.image', 'w.car']) {
      await theirs.run(['save', 'w', file]);
      fs.chmodSync(theirs.path(file), 0o600);
      await expectRefused(theirs, ['load', file], { code: 8, names: [file], options });
    }
    await expectRefused(theirs, ['ls', 'image:w.image'], { code: 8, names: ['w.image'], options });
  });

  test('a home on a read-only file system', async (context) => {
    loudly(context, whyNotMount());
    const frozen = sandbox();
    mounted(frozen.home, '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs');
    writeFiles(frozen.path('w'), { file: 'content' });
    writeFiles(frozen.path('v'), { file: 'other' });
    await frozen.ok('import', 'w', '--name', 'w');
    await beAlone(frozen.home);
    remount(frozen.home, 'ro');
    const before = listing(frozen.directory);
    for (const args of [
      ['import', 'v'],
      ['import', 'w'],
      ['ref', 'set', 'x', 'w'],
      ['ls', 'w'],
      ['gc'],
      ['status'],
      ['verify', '--repair'],
    ]) {
      for (const form of ['text', 'json'] as const) {
        const result = await frozen.run([...args, ...(form === 'json' ? ['--json'] : [])]);
        expectOneLine(result, 8, [frozen.home, /read-only/], form);
        expect(listing(frozen.directory)).toEqual(before);
      }
    }
  });

  test('a home to be made on a read-only file system', async (context) => {
    loudly(context, whyNotMount());
    const frozen = sandbox();
    mounted(frozen.home, '-t', 'tmpfs', '-o', 'size=1m,ro', 'tmpfs');
    writeFiles(frozen.path('w'), { file: 'content' });
    const result = await frozen.run(['import', 'w'], { env: { LAZYTREE_HOME: join(frozen.home, 'new') } });
    expectOneLine(result, 8, [join(frozen.home, 'new'), /read-only/]);
  });
});

describe('locked: 6', () => {
  test('a store that another process has open, with its pid', async () => {
    const locked = sandbox();
    writeFiles(locked.path('w'), { file: 'content' });
    await locked.ok('import', 'w', '--name', 'w');
    const before = await describeHome(locked.home);
    const holder = await hold(locked.home);
    const filesBefore = listing(locked.directory);
    for (const args of [
      ['ls', 'w'],
      ['import', 'w'],
      ['ref', 'set', 'x', 'w'],
      ['gc'],
      ['verify'],
      ['verify', '--repair'],
      ['export', 'w', 'out'],
    ]) {
      for (const form of ['text', 'json'] as const) {
        const result = await locked.run([...args, ...(form === 'json' ? ['--json'] : [])]);
        expectOneLine(result, 6, [join(locked.home, 'store'), `process ${holder.pid}`], form);
        // LevelDB writes a line to its LOG even so.
        const files = (lines: string[]) => lines.filter((line) => !/\/index\/LOG(\.old)? /.test(line));
        expect(files(listing(locked.directory))).toEqual(files(filesBefore));
      }
    }
    holder.kill('SIGKILL');
    await once(holder, 'close');
    expect(await locked.ok('cat', 'w/file')).toBe('content');
    expect(await describeHome(locked.home)).toEqual(before);
  });

  async function hold(home: string): Promise<ChildProcess> {
    const core = join(ROOT, 'packages', 'core', 'dist', 'index.js');
    const script = `
      const { openLocalStore } = await import(process.argv[1]);
      await openLocalStore(process.argv[2]);
      console.log('open');
      setInterval(() => undefined, 1000);`;
    const child = spawn(
      process.execPath,
      ['--input-type=module', '--eval', script, core, join(home, 'store')],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    afterwards(() => child.kill('SIGKILL'));
    await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data');
    return child;
  }
});

describe('partly done: 3', () => {
  /** Until what has just changed is no longer recent to an import, which may then rely on what it remembers. */
  const notRecent = () => new Promise((resolve) => setTimeout(resolve, 150));

  test('special files are left out, with a line for each, and the root is printed', async () => {
    const special = sandbox();
    writeFiles(special.path('w'), { file: 'content', 'dir/other': 'other' });
    const plain = await special.ok('import', 'w');
    expect(spawnSync('mkfifo', [special.path('w/dir/pipe')]).status).toBe(0);
    const server = createServer().listen(special.path('w/socket'));
    await once(server, 'listening');
    try {
      await notRecent();
      const { code, out, err } = await special.run(['import', 'w', '--name', 'w']);
      expect({ code, out }).toEqual({ code: 3, out: `${plain}\n` });
      expect(err.split('\n').sort()).toEqual([
        '',
        expect.stringMatching(/^lazytree: warning: .*dir\/pipe: named pipe/),
        expect.stringMatching(/^lazytree: warning: .*socket: socket/),
      ]);
      const json = await special.run(['import', 'w', '--json']);
      expect(json.code).toBe(3);
      expect(json.err.split('\n')).toHaveLength(3);
      expect(JSON.parse(json.out)).toMatchObject({
        root: plain,
        warnings: expect.arrayContaining([
          { path: 'dir/pipe', kind: 'special', message: expect.any(String) },
          { path: 'socket', kind: 'special', message: expect.any(String) },
        ]),
      });
      expect(await special.ok('ref', 'get', 'w')).toBe(plain);
    } finally {
      server.close();
    }
  });

  test('so is the home itself, when it lies in what is imported', async () => {
    const inside = sandbox();
    writeFiles(inside.directory, { file: 'content' });
    for (let time = 0; time < 3; time++) {
      const { code, out, err } = await inside.run(['import', '.']);
      expect({ time, code }).toEqual({ time, code: 3 });
      expect(err).toMatch(/^lazytree: warning: [^\n]*home[^\n]*\n$/);
      expect(await inside.ok('ls', '-R', out.trim())).toMatch(/^file(\nhome\/)?$/);
      await notRecent();
    }
  });
});
