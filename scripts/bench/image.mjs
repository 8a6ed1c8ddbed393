// A tree in one file: writing it, its size, and listing a directory in it.
import { join } from 'node:path';
import { alternate, OURS } from './lib/alternate.mjs';
import { run, timed, VerificationError } from './lib/command.mjs';
import { expectRoot, importRoot, lazytree } from './lib/lazytree.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { archivers, have, TAR_ZSTD, tarZstd, tarZstdEntry } from './lib/peers.mjs';
import { bytesRow, timesRow, valueRow } from './lib/row.mjs';
import { contentBytes } from './lib/trees.mjs';

const ZSTD = 'lazytree, zstd';
const TAR_ZST = 'tar.zst';
const MAX_SNAPPY_PERCENT = 27;
const MAX_LIST_MS = 50;
const LISTINGS = 20;
const LISTED = 'node_modules/react';

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Entry} Entry
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const { path } = context.corpus();
  const home = context.fresh('home');
  const root = importRoot(home, path);
  const times = alternate(context.rounds, (round) => {
    context.progress(`image, round ${round + 1} of ${context.rounds}`);
    return [
      saving(context, { name: OURS, home, root, options: [] }),
      saving(context, { name: ZSTD, home, root, options: ['--compression', 'zstd'] }),
      ...tarZstdEntry(context),
    ];
  });
  yield timesRow('save an image (snappy)', without(times, ZSTD), { peer: TAR_ZSTD, max: 1 });
  yield timesRow('save an image (zstd)', without(times, OURS), { peer: TAR_ZSTD, ours: ZSTD });
  yield* sizes(context, home, root);
  yield* listing(context, home, root);
}

/**
 * @param {import('./lib/alternate.mjs').Times} times
 * @param {string} name
 */
function without(times, name) {
  return new Map([...times].filter(([other]) => other !== name));
}

/**
 * @param {Context} context
 * @param {{ name: string, home: string, root: string, options: string[] }} save
 * @returns {Entry}
 */
function saving(context, { name, home, root, options }) {
  const file = join(context.fresh('image'), 'tree.lazytree');
  return {
    name,
    command: lazytree(home, 'save', ...options, root, file),
    verify() {
      const other = join(context.fresh('home'), 'home');
      expectRoot(run(lazytree(other, 'load', file)), root);
      run(lazytree(other, 'verify', root));
    },
  };
}

/**
 * @param {Context} context
 * @param {string} home
 * @param {string} root
 */
function* sizes(context, home, root) {
  context.progress('image sizes');
  const { bytes } = context.corpus();
  const peers = peerSizes(context);
  const snappy = imageBytes(context, home, root, 'snappy');
  const zstd = imageBytes(context, home, root, 'zstd');
  yield valueRow('size of the snappy image, of raw', quantity((100 * snappy) / bytes, '%'), {
    max: MAX_SNAPPY_PERCENT,
    samples: { snappy, raw: bytes },
    peers: [{ name: 'raw', quantity: quantity(bytes, 'bytes') }],
    note: `the snappy image has ${snappy} bytes`,
  });
  yield bytesRow('size of the zstd image', zstd, peers, { peer: TAR_ZST, max: 1 });
}

/**
 * @param {Context} context
 * @param {string} home
 * @param {string} root
 * @param {string} compression
 */
function imageBytes(context, home, root, compression) {
  const file = join(context.fresh('image'), 'tree.lazytree');
  run(lazytree(home, 'save', '--compression', compression, root, file));
  return contentBytes(file);
}

/** @param {Context} context */
function peerSizes(context) {
  const { path } = context.corpus();
  const directory = context.fresh('sizes');
  /** @type {Map<string, number>} */
  const sizes = new Map();
  if (have('tar', 'zstd')) {
    const file = join(directory, TAR_ZST);
    run(tarZstd(path, file));
    sizes.set(TAR_ZST, contentBytes(file));
  }
  if (have('mksquashfs')) {
    const file = join(directory, 'tree.squashfs');
    run({ argv: ['mksquashfs', path, file, '-comp', 'zstd', '-quiet', '-no-progress'] });
    sizes.set('squashfs-zstd', contentBytes(file));
  }
  for (const { name, repository, create, save } of archivers()) {
    const state = context.fresh(name);
    create(state);
    run(save(state, path, 'first'));
    sizes.set(name, contentBytes(join(state, repository)));
  }
  return sizes;
}

/**
 * Start-up is what `--version` takes; the two alternate, and each difference is of two that followed each other.
 * @param {Context} context
 * @param {string} home
 * @param {string} root
 */
function* listing(context, home, root) {
  const file = join(context.fresh('image'), 'tree.lazytree');
  run(lazytree(home, 'save', root, file));
  const expected = run(lazytree(home, 'ls', `${root}/${LISTED}`));
  const nowhere = join(context.fresh('home'), 'none');
  const list = lazytree(nowhere, 'ls', `image:${file}/${LISTED}`);
  const version = lazytree(nowhere, '--version');
  run(list);
  /** @type {number[]} */
  const beyond = [];
  for (let i = 0; i < LISTINGS; i++) {
    const { seconds, stdout } = timed(list);
    if (stdout !== expected) throw new VerificationError(`${file} lists ${stdout} and not ${expected}`);
    beyond.push(seconds - timed(version).seconds);
  }
  yield valueRow('open an image and ls, beyond start-up', quantity(median(beyond), 'ms'), {
    max: MAX_LIST_MS,
    samples: beyond,
  });
}
