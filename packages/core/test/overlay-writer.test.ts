import fs from 'node:fs';
import { type ImportResult, isFile, type Link, listDirectory, readFile, resolvePath } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { afterwards, collect, startScript, temporaryDirectory } from './helpers.js';
import { whyNoOverlay } from './overlay-obstacles.js';
import { openWorkspace, type Workspace } from './overlay-workspace.js';

const SAVES = 25;

/**
 * Works in the mount until it is told to stop, and rests now and then: moves files between directories that are
 * scanned first and last, makes and removes directories and renames those of the lower layer, writes files in place
 * and by renaming, and keeps a journal, which it reports when it is on disk.
 */
const WRITER = `
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
const [mount] = argv;
process.chdir(mount);
const moved = ['a/token', 'z/token'];
const journal = fs.openSync('journal', 'a');
let stop = false;
process.on('SIGTERM', () => { stop = true; });
for (let i = 0; !stop; i++) {
  fs.renameSync(moved[i % 2], moved[(i + 1) % 2]);
  fs.renameSync(i % 2 ? 'z/lower' : 'a/lower', i % 2 ? 'a/lower' : 'z/lower');
  const block = Buffer.alloc(200_000, String.fromCharCode(97 + i % 26));
  fs.writeFileSync('m/temporary', block);
  fs.renameSync('m/temporary', 'm/replaced');
  const fd = fs.openSync('m/in-place', 'r+');
  for (let at = 0; at < block.length; at += 50_000) fs.writeSync(fd, block, at, 50_000, at);
  fs.closeSync(fd);
  fs.rmSync('z/made', { recursive: true, force: true });
  fs.mkdirSync('z/made');
  fs.writeFileSync('z/made/in', 'it');
  fs.chmodSync(i % 2 ? 'a/lower/file' : 'z/lower/file', i % 4 < 2 ? 0o755 : 0o644);
  fs.writeSync(journal, i + '\\n');
  fs.fsyncSync(journal);
  console.log(i);
  await sleep(i % 3 === 0 ? 50 + Math.random() * 250 : Math.random() * 20);
}
`;

function build(source: string): void {
  for (const name of ['a', 'a/lower', 'm', 'z']) fs.mkdirSync(`${source}/${name}`);
  fs.writeFileSync(`${source}/a/token`, 'token');
  fs.writeFileSync(`${source}/a/lower/file`, 'lower');
  for (const name of ['replaced', 'in-place'])
    fs.writeFileSync(`${source}/m/${name}`, Buffer.alloc(200_000, 'a'));
  fs.writeFileSync(`${source}/journal`, '');
}

describe('saving beside a writer', () => {
  const problem = whyNoOverlay();
  if (problem) {
    it.skip(`NOT TESTED: ${problem}`, () => undefined);
    return;
  }

  it('has what was written before, whole, and loses nothing that moves', async () => {
    const workspace = await openWorkspace(build, { directory: await temporaryDirectory() });
    afterwards(() => workspace.close());
    // So many directories that the first is long scanned when the last is.
    for (let i = 0; i < 600; i++) fs.mkdirSync(workspace.at(`m/${i}`));
    const { child, ended } = startScript(WRITER, [workspace.mount]);
    afterwards(() => child.kill('SIGKILL'));
    let reported = -1;
    child.stdout?.on('data', (text: string) => {
      reported = Number(text.trim().split('\n').at(-1));
    });
    await expect.poll(() => reported, { timeout: 20_000 }).toBeGreaterThan(0);
    let atRest = 0;
    for (let i = 0; i < SAVES; i++) {
      const before = reported;
      const result = await workspace.save();
      const unstable = new Set(result.warnings.map(({ path }) => path));
      if (await check(workspace, result, { before, unstable })) atRest += 1;
      await new Promise((resolve) => setTimeout(resolve, 20 + 10 * (i % 5)));
    }
    expect(atRest).toBeGreaterThan(SAVES / 3);
    child.kill('SIGTERM');
    expect(await ended).toMatchObject({ code: 0, stderr: '' });
    expect((await workspace.save()).root).toBe(await workspace.plain());
  });
});

/** Returns whether there was a moment of rest for the save. */
async function check(
  { store }: Workspace,
  { root, warnings }: ImportResult,
  { before, unstable }: { before: number; unstable: Set<string> },
): Promise<boolean> {
  const text = async (path: string) => {
    const entry = await resolvePath(store, root, path);
    if (!isFile(entry)) throw new Error(`${path} is a ${entry.kind}`);
    return Buffer.concat(await collect(readFile(store, entry))).toString();
  };
  const lines = (await text('journal')).split('\n').slice(0, -1);
  expect(lines.length).toBeGreaterThan(before);
  expect(lines).toEqual(lines.map((_, i) => String(i)));
  if (!unstable.has('m/in-place')) expect(await text('m/in-place')).toMatch(/^(.)\1{199999}$/);
  if (warnings.some(({ message }) => message.includes('moved'))) return false;
  expect(await text('m/replaced')).toMatch(/^(.)\1{199999}$/);
  const names = async (path: string) => {
    const { link } = (await resolvePath(store, root, path)) as { link: Link };
    return (await listDirectory(store, link)).map(({ name }) => name);
  };
  const both = [...(await names('a')), ...(await names('z'))];
  expect(both.filter((name) => name === 'token')).toHaveLength(1);
  expect(both.filter((name) => name === 'lower')).toHaveLength(1);
  expect(await text(`${(await names('a')).includes('lower') ? 'a' : 'z'}/lower/file`)).toBe('lower');
  return true;
}
