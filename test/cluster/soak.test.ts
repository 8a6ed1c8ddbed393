import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { expectSameTree, type Files, pseudoRandom, type Result, writeFiles } from '../helpers.ts';
import { sh } from '../mount/mounted.ts';
import { unlessNetworked } from './network.ts';
import { ends, formCluster, type Node, seeEachOther } from './nodes.ts';

/** How long, and with which random numbers: LAZYTREE_SOAK_SECONDS=600 LAZYTREE_SOAK_SEED=7. */
const SECONDS = Number(process.env.LAZYTREE_SOAK_SECONDS ?? 20);
const SEED = Number(process.env.LAZYTREE_SOAK_SEED ?? 1);
const WORKERS = 4;
const FAILED = 1;
const NOT_FOUND = 4;
const NETWORK = 7;

interface Tree {
  root: string;
  owner: Node;
  /** What was imported, and is never changed again. */
  source: string;
}

/** Numbers from 0 to n-1 that are the same for the same seed. */
function random(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

describe.skipIf(unlessNetworked('soaking'))('soak', () => {
  test(`${SECONDS} s of everything on four nodes, and every root is what was imported`, {
    timeout: (SECONDS + 240) * 1000,
  }, async () => {
    const nodes = await formCluster(['n1', 'n2', 'n3', 'n4']);
    const trees: Tree[] = [];
    const down = new Set<Node>();
    const done: Record<string, number> = {};
    let troubles = 0;
    let count = 0;

    const pick = random(SEED);
    const one = <T>(items: readonly T[]) => items[pick(items.length)];
    const up = () => one(nodes.filter((node) => !down.has(node)));

    /** A command that may fail for what was done to nodes meanwhile, and for nothing else. */
    async function mayFail(what: string, node: Node, args: string[]): Promise<Result> {
      const before = troubles;
      const wasDown = down.size > 0;
      const result = await ends(`${what} on ${node.name}`, node.begin(...args));
      const inTrouble = wasDown || down.size > 0 || troubles > before;
      const allowed = inTrouble ? [0, FAILED, NOT_FOUND, NETWORK] : [0];
      expect(allowed, `${what} on ${node.name}: ${args.join(' ')}: ${result.err}`).toContain(result.code);
      return result;
    }

    function someFiles(seed: number): Files {
      const files: Files = {};
      for (let i = 0; i < 20 + pick(60); i++) {
        // Some of them are in other trees, too.
        const content = pick(2) === 0 ? `shared ${i % 20}` : `${seed} ${i}`;
        files[`d${i % 7}/f${i}`] = pseudoRandom(pick(10) === 0 ? 700_000 : 3000, content);
      }
      return files;
    }

    const actions: Record<string, () => Promise<void>> = {
      async import() {
        const owner = up();
        const number = ++count;
        const source = writeFiles(owner.path(`tree${number}`), someFiles(number));
        const { code, out } = await mayFail('import', owner, ['import', source, '--name', `tree${number}`]);
        if (code === 0) trees.push({ root: out.trim(), owner, source });
      },
      async export() {
        const { root, source } = one(trees);
        const target = up().path(`out${++count}`);
        const node = nodes.find(({ directory }) => target.startsWith(`${directory}/`)) as Node;
        const { code } = await mayFail('export', node, ['export', root, target]);
        if (code === 0) expectSameTree(source, target);
        fs.rmSync(target, { recursive: true, force: true });
      },
      async mount() {
        const { root, source } = one(trees);
        const node = up();
        const name = `mnt${++count}`;
        if ((await mayFail('mount', node, ['mount', root, name])).code !== 0) return;
        const before = troubles;
        const part = `d${pick(7)}`;
        const compared = await sh(node, `diff -r ${name}/${part} ${source}/${part}`);
        // What is there may not be read; what is read has to be right.
        expect(compared.out).not.toMatch(/differ|Only in/);
        if (troubles === before && down.size === 0) expect(compared.code, compared.err).toBe(0);
        await mayFail('unmount', node, ['unmount', name]);
      },
      async gc() {
        const node = up();
        const { code, err } = await ends(`gc on ${node.name}`, node.begin('gc'));
        // Of two at once one is refused.
        if (code !== 0) expect(err).toMatch(/gc|collect|daemon/);
      },
      async read() {
        const { root, source } = one(trees);
        const [path] = fs.readdirSync(`${source}/d1`);
        const { code, stdout } = await mayFail('cat', up(), ['cat', `${root}/d1/${path}`]);
        if (code === 0) expect(stdout.equals(fs.readFileSync(`${source}/d1/${path}`))).toBe(true);
      },
      async kill() {
        if (down.size > 0) return;
        const node = up();
        down.add(node);
        await node.kill();
        await sleep(pick(500));
        await node.start();
        await seeEachOther(nodes);
        down.delete(node);
        troubles++;
      },
      async pause() {
        if (down.size > 0) return;
        const node = up();
        down.add(node);
        node.pause();
        await sleep(200 + pick(1000));
        node.resume();
        await seeEachOther(nodes);
        down.delete(node);
        troubles++;
      },
    };
    // How often each of them, in relation to the others.
    const names = 'import import export export export mount mount mount gc read read read kill pause'.split(
      ' ',
    );

    await actions.import();
    const end = performance.now() + SECONDS * 1000;
    let failure: unknown;
    await Promise.all(
      Array.from({ length: WORKERS }, async () => {
        // With the first that fails the others end, too: nothing goes on while nodes are taken away.
        while (performance.now() < end && failure === undefined) {
          const name = one(names);
          await actions[name]().catch((error: unknown) => {
            failure ??= error;
          });
          done[name] = (done[name] ?? 0) + 1;
        }
      }),
    );
    if (failure !== undefined) throw failure;

    console.log(`soak with seed ${SEED}: ${JSON.stringify(done)}, ${trees.length} trees`);
    await seeEachOther(nodes);
    for (const [i, { root, source, owner }] of trees.entries()) {
      const node = nodes[i % nodes.length];
      await node.ok('export', root, `final${i}`);
      expectSameTree(source, node.path(`final${i}`));
      expect(await owner.json('verify', root)).toMatchObject({ sound: true });
    }
    expect(trees.length).toBeGreaterThan(3);
  });
});
