import { join } from 'node:path';
import {
  exportTree,
  formatLink,
  importTree,
  type Link,
  listRefs,
  setRef,
  verifyStore,
  verifyTree,
} from '@lazytree/core';
import { expect, it } from 'vitest';
import {
  type DirectorySpec,
  describeDirectory,
  directory,
  file,
  manyFiles,
  pseudoRandom,
  startScript,
  temporaryDirectory,
  temporaryStore,
  writeTree,
} from './helpers.js';

const ROUNDS = 40;

/** Imports as the command does: with a stat cache, and a ref at the end. Commits often, into small segments. */
const importer = `
  const [home, source, statCache] = argv;
  const store = await core.openLocalStore(home, { segmentBytes: 1 << 20 });
  console.log('begun');
  const flushing = setInterval(() => store.flush().catch(() => {}), 15);
  const { root } = await core.importTree(store, source, { statCache });
  clearInterval(flushing);
  await core.setRef(store, { name: 'work', root, source });
  await store.close();
  console.log('done');`;

function work(): DirectorySpec {
  const spec = manyFiles(2000, { size: 700, seed: 7 });
  spec.entries.set(
    'large',
    directory({ a: file(pseudoRandom(6_000_000, 70)), b: file(Buffer.alloc(3_000_000, 'b')) }),
  );
  return spec;
}

it(`earlier refs survive ${ROUNDS} imports that are killed, and one that is not succeeds`, {
  timeout: 300_000,
}, async () => {
  const base = await temporaryDirectory();
  const home = join(base, 'home');
  const statCache = join(base, 'cache');
  const source = join(base, 'work');
  writeTree(source, work());

  const earlier: Link[] = [];
  const store = await temporaryStore({ directory: home, segmentBytes: 1 << 20 });
  for (let i = 0; i < 3; i++) {
    const other = join(base, `earlier-${i}`);
    writeTree(other, manyFiles(150, { size: 900, seed: i }));
    const { root } = await importTree(store, other);
    await setRef(store, { name: `earlier-${i}`, root, source: other });
    earlier.push(root);
  }
  await store.close();

  /** Opens the store, looks at every block that a ref needs, and lets another process have it. */
  async function check(): Promise<boolean> {
    const opened = await temporaryStore({ directory: home, segmentBytes: 1 << 20 });
    const refs = await listRefs(opened);
    expect(refs.slice(0, 3).map(({ root }) => formatLink(root))).toEqual(earlier.map(formatLink));
    const { bad, damage } = await verifyStore(opened);
    expect([bad, damage]).toEqual([[], []]);
    for (const { root, name } of refs)
      expect((await verifyTree(opened, { link: root, name })).bad).toEqual([]);
    await opened.close();
    return refs.length > 3;
  }

  const begun = async () => {
    const script = startScript(importer, [home, source, statCache]);
    await script.line('begun');
    return script;
  };

  // How long an import takes here, so that the kills spread over all of it: each finds more to do.
  let span = 400;
  let unfinished = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const script = await begun();
    await new Promise((resolve) => setTimeout(resolve, (span * ((round * 7) % ROUNDS)) / ROUNDS));
    script.child.kill('SIGKILL');
    const { stdout } = await script.ended;
    const named = await check();
    if (stdout.includes('done')) {
      expect(named).toBe(true);
      span *= 0.8;
    } else unfinished += 1;
    // A change each time, so that there always is something to import.
    writeTree(join(source, `round-${round}`), manyFiles(60, { size: 2000, seed: 100 + round }));
  }
  expect(unfinished).toBeGreaterThan(ROUNDS / 3);

  const { code, stdout, stderr } = await (await begun()).ended;
  expect({ code, stdout, stderr }).toMatchObject({ code: 0, stdout: 'begun\ndone\n', stderr: '' });
  expect(await check()).toBe(true);
  const last = await temporaryStore({ directory: home });
  const target = join(base, 'target');
  await exportTree(last, (await listRefs(last))[3].root, target);
  expect(describeDirectory(target)).toEqual(describeDirectory(source));
  for (let i = 0; i < 3; i++) {
    await exportTree(last, earlier[i], join(base, `target-${i}`));
    expect(describeDirectory(join(base, `target-${i}`))).toEqual(
      describeDirectory(join(base, `earlier-${i}`)),
    );
  }
});

it('a first import that is killed leaves a store that opens', { timeout: 120_000 }, async () => {
  const base = await temporaryDirectory();
  const source = join(base, 'work');
  writeTree(source, manyFiles(600, { size: 3000 }));
  for (let round = 0; round < 8; round++) {
    const home = join(base, `home-${round}`);
    const script = startScript(importer, [home, source, join(base, `cache-${round}`)]);
    await new Promise((resolve) => setTimeout(resolve, 150 + round * 25));
    script.child.kill('SIGKILL');
    await script.ended;
    const store = await temporaryStore({ directory: home });
    expect(await verifyStore(store)).toMatchObject({ bad: [], damage: [] });
    const { root } = await importTree(store, source);
    expect((await verifyTree(store, { link: root, name: 'work' })).bad).toEqual([]);
    await store.close();
  }
});
