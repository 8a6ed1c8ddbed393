// A tree kept in a container of Azurite on this machine: pushed, pushed again after a change, mounted and exported by a
// machine that has nothing of it, each with its daemon. Beside it, the whole tree as one image that is one blob, and restic by way of rclone.
import { appendFileSync, cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  AccountSASPermissions,
  generateAccountSASQueryParameters,
  StorageSharedKeyCredential,
} from '@azure/storage-blob';
import { startAzurite } from '../../packages/node/test/remotes/azurite.ts';
import { OURS, playRound } from './lib/alternate.mjs';
import { run, shell, timed, VerificationError } from './lib/command.mjs';
import { startDaemon } from './lib/file-systems.mjs';
import { importRoot, lazytree } from './lib/lazytree.mjs';
import { isMounted } from './lib/mount-points.mjs';
import { median, quantity } from './lib/numbers.mjs';
import { have, tarZstd } from './lib/peers.mjs';
import { bytesRow, timesRow, valueRow } from './lib/row.mjs';
import { contentBytes, middleFile, readTree, verifySameTree } from './lib/trees.mjs';

const ONE_BLOB = 'one image as one blob';
const RESTIC = 'restic, rclone';
const TAR_ZST = 'tar.zst';
const BIN = fileURLToPath(new URL('./lib/one-blob.mjs', import.meta.url));
const MOUNTS = 10;
const MAX_FIRST = 1;
const MAX_CHANGE = 0.1;
const MAX_MATERIALISE = 1.2;
const MAX_MOUNT_MS = 400;
const MAX_REQUESTS = { first: 20, change: 6, mount: 4 };
/** Requests for each of these, reading all of a tree. */
const MAX_FOR_PART = 3;
const PART_BYTES = 4 << 20;

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Times} Times
 * @typedef {Awaited<ReturnType<typeof startAzurite>>} Azurite
 *
 * @typedef {object} Scene
 * @property {Context} context
 * @property {Azurite} azurite
 * @property {string} before a tree
 * @property {string} after the same with a line more in one file
 * @property {string} home that has both
 * @property {{ before: string, after: string }} roots
 *
 * @typedef {{ requests: number, sent: number, received: number }} Traffic
 */

/** @type {import('./lib/context.mjs').Benchmark} */
export async function* benchmark(context) {
  const azurite = await startAzurite();
  try {
    const scene = prepare(context, azurite);
    const pushed = await pushes(scene);
    yield* pushed.rows();
    yield* mounts(scene, pushed.container);
    yield materialise(scene, pushed);
    yield* sizes(scene, pushed.firstSent);
  } finally {
    await azurite.close();
  }
}

/**
 * @param {Context} context
 * @param {Azurite} azurite
 * @returns {Scene}
 */
function prepare(context, azurite) {
  const { path: before } = context.corpus();
  const after = join(context.fresh('changed'), 'tree');
  cpSync(before, after, { recursive: true, verbatimSymlinks: true });
  appendFileSync(join(after, middleFile(before)), '// changed\n');
  const home = context.fresh('home');
  const roots = { before: importRoot(home, before), after: importRoot(home, after) };
  return { context, azurite, before, after, home, roots };
}

/**
 * @param {Scene} scene
 * @param {import('./lib/command.mjs').Command} command
 */
function withAccess({ azurite }, { argv, env, cwd }) {
  const access = { AZURE_STORAGE_CONNECTION_STRING: azurite.connectionString };
  return { argv, env: { ...env, ...access }, ...(cwd ? { cwd } : {}) };
}

/**
 * @param {Scene} scene
 * @param {{ home: string, name: string, container: string }} options
 */
function addRemote({ azurite }, { home, name, container }) {
  const url = `azure://${azurite.account}/${container}`;
  run(lazytree(home, 'remote', 'add', name, url, '--endpoint', azurite.endpoint));
}

/**
 * First pushes, each to a container of its own, and pushes of the changed tree to the same.
 * @param {Scene} scene
 */
async function pushes(scene) {
  const { context, azurite, home, roots } = scene;
  using stack = new DisposableStack();
  startDaemon(stack, home);
  /** @type {{ first: Times, change: Times }} */
  const times = { first: new Map(), change: new Map() };
  /** @type {{ first: Traffic[], change: Traffic[] }} */
  const traffic = { first: [], change: [] };
  let container = '';
  let blobContainer = '';
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`azure, pushes, round ${round + 1} of ${context.rounds}`);
    const remote = `r${round}`;
    container = await azurite.createContainer();
    blobContainer = await azurite.createContainer();
    addRemote(scene, { home, name: remote, container });
    const restic = await resticAt(scene);
    for (const step of /** @type {const} */ (['first', 'change'])) {
      const root = step === 'first' ? roots.before : roots.after;
      const tree = step === 'first' ? scene.before : scene.after;
      const file = join(context.fresh('image'), 'tree.image');
      const save = lazytree(home, 'save', root, file);
      const upload = shell(
        '"$2" "$3" save "$4" "$5" && "$2" "$1" put "$6" "$5"',
        BIN,
        ...save.argv.slice(0, 2),
        root,
        file,
        blobContainer,
      );
      playRound(
        times[step],
        [
          {
            name: OURS,
            command: withAccess(scene, lazytree(home, 'push', root, remote, '--name', 'app', '--json')),
            verify: (stdout) => void traffic[step].push(JSON.parse(stdout).traffic),
          },
          { name: ONE_BLOB, command: withAccess(scene, { ...upload, env: save.env }) },
          ...restic.map((peer) => ({ name: RESTIC, command: peer(tree) })),
        ],
        round,
      );
    }
  }
  const requests = (/** @type {Traffic[]} */ all) => median(all.map((one) => one.requests));
  return {
    container,
    blobContainer,
    firstSent: traffic.first[0].sent,
    *rows() {
      yield timesRow('first push', times.first, { peer: ONE_BLOB, max: MAX_FIRST });
      yield requestsRow('requests of a first push', requests(traffic.first), MAX_REQUESTS.first);
      yield timesRow('push after a change of one file', times.change, { peer: ONE_BLOB, max: MAX_CHANGE });
      yield requestsRow('requests of a push after that', requests(traffic.change), MAX_REQUESTS.change);
      yield valueRow(
        'bytes sent after that',
        quantity(median(traffic.change.map(({ sent }) => sent)), 'bytes'),
      );
    },
  };
}

/**
 * @param {string} item
 * @param {number} requests
 * @param {number} max
 */
function requestsRow(item, requests, max) {
  return valueRow(item, { value: requests, unit: 'requests' }, { max });
}

/** @param {Azurite} azurite */
function signedUrl({ account, key, endpoint }) {
  const values = {
    services: 'b',
    resourceTypes: 'sco',
    permissions: AccountSASPermissions.parse('rwdlac'),
    expiresOn: new Date(Date.now() + 24 * 3_600_000),
  };
  const credential = new StorageSharedKeyCredential(account, key);
  return `${endpoint}?${generateAccountSASQueryParameters(values, credential)}`;
}

/**
 * A new repository, or nobody where it cannot be had.
 * @param {Scene} scene
 * @returns {Promise<((tree: string) => import('./lib/command.mjs').Command)[]>}
 */
async function resticAt({ context, azurite }) {
  if (!have('restic', 'rclone')) return [];
  const container = await azurite.createContainer();
  const env = {
    RESTIC_REPOSITORY: `rclone:bench:${container}`,
    RESTIC_PASSWORD: 'bench',
    RESTIC_CACHE_DIR: context.fresh('restic-cache'),
    RCLONE_CONFIG: '/dev/null',
    RCLONE_CONFIG_BENCH_TYPE: 'azureblob',
    // The one way to an endpoint that is not Azure's which every version of rclone has.
    RCLONE_CONFIG_BENCH_SAS_URL: signedUrl(azurite),
  };
  run({ argv: ['restic', 'init', '--quiet'], env });
  return [(tree) => ({ argv: ['restic', 'backup', '--quiet', '.'], env, cwd: tree })];
}

/**
 * Mounts by name at homes that have nothing; and reading all of the last one.
 * @param {Scene} scene
 * @param {string} container
 */
function* mounts(scene, container) {
  const { context } = scene;
  /** @type {number[]} */
  const seconds = [];
  /** @type {number[]} */
  const requests = [];
  /** @type {Traffic | undefined} */
  let whole;
  let bytes = 0;
  for (let i = 0; i < MOUNTS; i++) {
    context.progress(`azure, cold mount ${i + 1} of ${MOUNTS}`);
    using stack = new DisposableStack();
    const home = context.fresh('home');
    const directory = context.fresh('mnt');
    addRemote(scene, { home, name: 'r', container });
    startDaemon(stack, home);
    stack.defer(() => isMounted(directory) && run(lazytree(home, 'unmount', directory)));
    const mount = withAccess(scene, lazytree(home, 'mount', 'app@r', directory));
    const show = shell('"$1" "$2" mount app@r "$3" && ls "$3"', ...mount.argv.slice(0, 2), directory);
    const { seconds: took, stdout } = timed({ ...show, env: mount.env });
    seconds.push(took);
    const names = stdout.trim().split('\n').slice(-readdirSync(scene.after).length);
    if (names.join() !== readdirSync(scene.after).sort().join())
      throw new VerificationError(`${directory} has ${names}`);
    const before = trafficOf(home);
    requests.push(before.requests);
    if (i < MOUNTS - 1) continue;
    readTree(directory);
    const after = trafficOf(home);
    whole = { ...after, requests: after.requests - before.requests, received: after.received };
    bytes = contentBytes(directory);
    verifySameTree(scene.after, directory);
  }
  yield valueRow('cold mount by name, to the first ls', quantity(median(seconds), 'ms'), {
    max: MAX_MOUNT_MS,
    samples: seconds,
  });
  yield requestsRow('requests of that', median(requests), MAX_REQUESTS.mount);
  if (!whole) return;
  const most = Math.floor((MAX_FOR_PART * bytes) / PART_BYTES);
  yield {
    ...requestsRow('requests for all files, read one by one', whole.requests, most),
    note: `${(bytes / 1e6).toFixed(1)} MB of files were ${(whole.received / 1e6).toFixed(1)} MB on the wire`,
  };
}

/**
 * @param {string} home of a daemon
 * @returns {Traffic}
 */
function trafficOf(home) {
  return JSON.parse(run(lazytree(home, 'remote', 'list', '--json'))).remotes[0].traffic;
}

/**
 * All of the tree on the disk of a machine that has nothing of it.
 * @param {Scene} scene
 * @param {{ container: string, blobContainer: string }} pushed
 */
function materialise(scene, { container, blobContainer }) {
  const { context } = scene;
  /** @type {Times} */
  const times = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`azure, export, round ${round + 1} of ${context.rounds}`);
    using stack = new DisposableStack();
    const home = context.fresh('home');
    addRemote(scene, { home, name: 'r', container });
    startDaemon(stack, home);
    const ours = join(context.fresh('copy'), 'tree');
    const theirs = join(context.fresh('copy'), 'tree');
    const file = join(context.fresh('image'), 'tree.image');
    const other = context.fresh('home');
    const unpack = lazytree(other, 'export', `image:${file}`, theirs);
    const fetchAndUnpack = shell(
      '"$2" "$1" get "$6" "$4" && "$2" "$3" export "image:$4" "$5"',
      BIN,
      ...unpack.argv.slice(0, 2),
      file,
      theirs,
      blobContainer,
    );
    playRound(
      times,
      [
        {
          name: OURS,
          command: withAccess(scene, lazytree(home, 'export', 'app@r', ours)),
          verify: () => verifySameTree(scene.after, ours),
        },
        {
          name: ONE_BLOB,
          command: withAccess(scene, { ...fetchAndUnpack, env: unpack.env }),
          verify: () => verifySameTree(scene.after, theirs),
        },
      ],
      round,
    );
  }
  return timesRow('cold export, all of it', times, { peer: ONE_BLOB, max: MAX_MATERIALISE });
}

/**
 * @param {Scene} scene
 * @param {number} sent
 */
function* sizes({ context, before }, sent) {
  if (!have('tar', 'zstd')) return;
  const file = join(context.fresh('sizes'), TAR_ZST);
  run(tarZstd(before, file));
  yield bytesRow('stored bytes of a first push', sent, new Map([[TAR_ZST, contentBytes(file)]]), {
    peer: TAR_ZST,
    max: 1,
  });
}
