// Comparing two trees of 100,000 files of which one differs: what it takes beyond starting the program.
import { diffTrees, encodeDirectory, formatLink, linkTo, RAW } from '@lazytree/core';
import { openHome } from '@lazytree/node';
import { run, timed, VerificationError } from './lib/command.mjs';
import { lazytree } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { valueRow } from './lib/row.mjs';

const DIRECTORIES = 100;
const FILES = 1000;
const REPEATS = 20;
/** "Takes milliseconds". */
const MAX_MS = 10;

/**
 * @typedef {import('@lazytree/core').BlockStore} BlockStore
 * @typedef {import('@lazytree/core').Entry} Entry
 * @typedef {import('@lazytree/core').DirectoryEntry} DirectoryEntry
 *
 * @typedef {object} Shape
 * @property {string} name
 * @property {(store: BlockStore, changed: string) => Promise<DirectoryEntry>} build with the middle file having that text
 * @property {string} path of the middle file
 */

/** @type {Shape[]} */
const SHAPES = [
  { name: `${DIRECTORIES} directories of ${FILES}`, build: buildDeep, path: 'd050/f0500' },
  { name: `one directory of ${DIRECTORIES * FILES}`, build: buildFlat, path: 'f50000' },
];

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  for (const { name, build, path } of SHAPES) {
    context.progress(`diff, ${name}`);
    const directory = context.fresh('home');
    const home = await openHome({ directory, create: true });
    const from = await build(home.store, 'before');
    const to = await build(home.store, 'after');
    await home.close();
    yield await throughApi(name, directory, { from: from.link, to: to.link, path });
    yield throughCommand(name, directory, { from: formatLink(from.link), to: formatLink(to.link), path });
  }
}

/**
 * Each time in a store just opened, so that nothing is cached.
 * @param {string} shape
 * @param {string} directory
 * @param {{ from: DirectoryEntry['link'], to: DirectoryEntry['link'], path: string }} trees
 */
async function throughApi(shape, directory, { from, to, path }) {
  /** @type {number[]} */
  const times = [];
  for (let i = 0; i < REPEATS; i++) {
    const { store, close } = await openHome({ directory, create: false });
    const start = performance.now();
    /** @type {string[]} */
    const found = [];
    for await (const change of diffTrees(store, from, to)) found.push(`${change.change} ${change.path}`);
    times.push((performance.now() - start) / 1000);
    await close();
    if (found.join() !== `modified ${path}`) throw new VerificationError(`the API found ${found}`);
  }
  return valueRow(`diff, one of 100K files, API (${shape})`, quantity(median(times), 'ms'), {
    max: MAX_MS,
    samples: times,
  });
}

/**
 * Start-up is the same command with one root twice, which has nothing to compare.
 * @param {string} shape
 * @param {string} home
 * @param {{ from: string, to: string, path: string }} trees
 */
function throughCommand(shape, home, { from, to, path }) {
  const differing = lazytree(home, 'diff', from, to);
  const same = lazytree(home, 'diff', from, from);
  run(differing);
  /** @type {number[]} */
  const times = [];
  for (let i = 0; i < REPEATS; i++) {
    const { seconds, stdout } = timed(differing);
    if (stdout !== `M\t${path}\n`) throw new VerificationError(`lazytree diff printed ${stdout}`);
    times.push(seconds - timed(same).seconds);
  }
  const item = `diff, one of 100K files, command beyond start-up (${shape})`;
  return valueRow(item, quantity(median(times), 'ms'), { samples: times });
}

/** @type {Shape['build']} */
async function buildDeep(store, changed) {
  /** @type {Entry[]} */
  const entries = [];
  for (let d = 0; d < DIRECTORIES; d++) {
    const name = `d${String(d).padStart(3, '0')}`;
    const texts = fileTexts(FILES, 4, name);
    if (d === DIRECTORIES / 2) texts.set('f0500', changed);
    entries.push(await putFiles(store, name, texts));
  }
  return putDirectory(store, '', entries);
}

/** @type {Shape['build']} */
async function buildFlat(store, changed) {
  return putFiles(store, '', fileTexts(DIRECTORIES * FILES, 5, 'flat').set('f50000', changed));
}

/**
 * @param {number} count
 * @param {number} digits
 * @param {string} salt makes the content of one directory differ from that of another
 * @returns {Map<string, string>} content by name, in order of name
 */
function fileTexts(count, digits, salt) {
  /** @type {Map<string, string>} */
  const texts = new Map();
  for (let i = 0; i < count; i++) texts.set(`f${String(i).padStart(digits, '0')}`, `${salt} ${i}`);
  return texts;
}

/**
 * @param {BlockStore} store
 * @param {string} name
 * @param {Map<string, string>} texts
 */
async function putFiles(store, name, texts) {
  /** @type {Entry[]} */
  const entries = [];
  for (const [file, text] of texts) {
    const bytes = Buffer.from(text);
    const link = linkTo(RAW, bytes);
    await store.put({ link, bytes });
    entries.push({ kind: 'file', name: file, link, size: bytes.length });
  }
  return putDirectory(store, name, entries);
}

/**
 * @param {BlockStore} store
 * @param {string} name
 * @param {Entry[]} entries
 * @returns {Promise<DirectoryEntry>}
 */
async function putDirectory(store, name, entries) {
  const { link, nodes, size, files } = encodeDirectory(entries);
  for (const node of nodes) await store.put(node);
  return { kind: 'directory', name, link, size, files };
}
