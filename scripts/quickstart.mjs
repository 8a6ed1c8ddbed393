// `npm run quickstart`: from a fresh clone to a real workspace that is imported, exported, compared, shared,
// and kept in a container of blobs.
// This file runs on whatever Node the system has (20 or newer), so: built-ins only.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startAzurite } from './lib/azurite.mjs';
import { makeWorkspace } from './lib/corpus.mjs';
import { createNarrator, formatBytes, formatSeconds, StepFailed } from './lib/narrate.mjs';
import { prepare } from './lib/prepare.mjs';

/** @typedef {{ root: string, size: number, files: number, read: number, added: { blocks: number, bytes: number } }} Imported */
/** @typedef {{ requests: number, sent: number, received: number }} Traffic */
/** @typedef {{ root: string, blocks: number, bytes: number, traffic: Traffic }} Pushed */

const began = performance.now();
const { env: projectEnv } = prepare();
const directory = realpathSync(mkdtempSync(join(tmpdir(), 'lazytree-quickstart-')));
const env = { ...projectEnv, LAZYTREE_HOME: join(directory, 'home') };
const otherEnv = { ...projectEnv, LAZYTREE_HOME: join(directory, 'other-machine') };
const freshEnv = {
  ...projectEnv,
  LAZYTREE_HOME: join(directory, 'fresh-machine'),
  AZURE_STORAGE_CONNECTION_STRING: 'UseDevelopmentStorage=true',
};
const { step, note, run, check } = createNarrator({ cwd: directory, env });

process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));
process.on('exit', (code) => {
  if (code !== 0) console.error(`\nquickstart: failed; everything is kept in ${directory}`);
});

try {
  quickstart();
  rmSync(directory, { recursive: true, force: true });
  console.log(`\nquickstart: all as expected, in ${formatSeconds((performance.now() - began) / 1000)}.`);
  console.log('Now yours: npx lazytree import DIRECTORY; npx lazytree --help');
} catch (error) {
  for (const machine of [env, otherEnv, freshEnv])
    spawnSync('lazytree', ['daemon', 'stop'], { cwd: directory, env: machine, stdio: 'ignore' });
  console.error(`\nerror: ${error instanceof StepFailed ? error.message : String(error)}`);
  process.exitCode = 1;
}

function quickstart() {
  console.log(`lazytree quickstart, in ${directory}`);

  step('A real workspace: package.json, a lockfile, and all its packages.');
  const { notice } = makeWorkspace(join(directory, 'workspace'), {
    env,
    run: (command, options) => run(command, { ...options, mayFail: true }).ok,
  });
  if (notice) note(`It is this repository's own node_modules, since ${notice}.`);

  step('Import it. What is printed is its root: a hash that names the whole tree.');
  const first = run(['lazytree', 'import', 'workspace', '--name', 'work']);
  const root = first.out.trim();
  check(/^baf[a-z2-7]{56}$/.test(root), `'${root}' is a root`);

  step('Import it again, unchanged: only a walk.');
  const again = run(['lazytree', 'import', 'workspace', '--json']);
  const whole = /** @type {Imported} */ (JSON.parse(again.out));
  check(whole.root === root, 'the same tree has the same root');
  check(whole.read === 0 && whole.added.blocks === 0, 'no file is read, nothing is added');
  note(
    `${whole.files.toLocaleString('en')} files, ${formatBytes(whole.size)}; first import ` +
      `${formatSeconds(first.seconds)}, again ${formatSeconds(again.seconds)}, ${whole.read} files read.`,
  );

  step('Export it by its root, and compare every file and every symlink.');
  run(['lazytree', 'export', root, 'exported']);
  const compared = run(['diff', '-r', '--no-dereference', 'workspace', 'exported']);
  check(compared.out === '', 'diff finds nothing');
  note('No difference.');

  step('A second copy, slightly changed: one file edited, one file new.');
  run(['cp', '-a', 'exported', 'second']);
  const edited = existsSync(join(directory, 'second', 'package.json'))
    ? 'package.json'
    : '.package-lock.json';
  run(['sh', '-c', `echo >> second/${edited} && echo new > second/NEW.md`]);
  const second = run(['lazytree', 'import', 'second', '--json']);
  const other = /** @type {Imported} */ (JSON.parse(second.out));
  check(other.root !== root && other.files === whole.files + 1, 'it is another tree with one more file');
  check(other.added.bytes < whole.size / 100, 'less than 1 % is added');
  note(
    `It adds ${other.added.blocks} blocks, ${formatBytes(other.added.bytes)}: ` +
      `${((100 * other.added.bytes) / whole.size).toFixed(3)} % of the ${formatBytes(whole.size)} that it holds.`,
  );

  step('What differs between the two roots. Only what differs is read.');
  const changes = run(['lazytree', 'diff', root, other.root]).out.trim().split('\n').sort();
  check(changes.join(' ') === `A\tNEW.md M\t${edited}`, 'exactly those two files differ');

  step('All of it in one file, to copy anywhere, and to list without unpacking it.');
  run(['lazytree', 'save', 'work', 'work.image']);
  const { size } = statSync(join(directory, 'work.image'));
  note(`${formatBytes(size)}, ${((100 * size) / whole.size).toFixed(1)} % of ${formatBytes(whole.size)}.`);
  const listed = run(['lazytree', 'ls', 'image:work.image'], { lines: 6 }).out;
  check(
    listed !== '' && listed === run(['lazytree', 'ls', root], { lines: 0 }).out,
    'it lists as the root does',
  );

  mountAndGo({ root, edited });
  fetchFromPeer({ root });
  durableFloor({ root, changed: other.root, edited });

  step('What the store holds now.');
  run(['lazytree', 'status']);
}

/**
 * A second home stands for a second machine: its daemon shares nothing with the first but a socket of TCP.
 * @param {{ root: string }} tree
 */
function fetchFromPeer({ root }) {
  const there = { ...otherEnv, LAZYTREE_PEER_NAME: 'there' };
  const here = { ...env, LAZYTREE_PEER_NAME: 'here' };
  const local = ['--listen', '/ip4/127.0.0.1/tcp/0'];

  step('A cluster: another machine joins with a token.');
  run(['lazytree', 'daemon', 'start', ...local], { env: here });
  run(['lazytree', 'cluster', 'init'], { env: here });
  const token = run(['lazytree', 'cluster', 'invite', '--for', '5m'], { env: here, lines: 0 }).out.trim();
  run(['lazytree', 'daemon', 'start', ...local], { env: there });
  run(['lazytree', 'cluster', 'join', token], { env: there });
  run(['lazytree', 'ref', 'list', '--cluster'], { env: there });

  step('There, the tree is known by its name. Only what is read has crossed.');
  const listed = run(['lazytree', 'ls', 'work@here'], { env: there, lines: 6 }).out;
  check(listed === run(['lazytree', 'ls', root], { lines: 0 }).out, 'it lists as it does here');
  note(`${formatBytes(received(there))} received: all directories, and no file.`);

  step('All of it, from the other machine.');
  const exported = run(['lazytree', 'export', 'work@here', 'from-peer'], { env: there });
  const compared = run(['diff', '-r', '--no-dereference', 'workspace', 'from-peer']);
  check(compared.out === '', 'diff finds nothing');
  const again = run(['lazytree', 'import', 'from-peer'], { env: there });
  check(again.out.trim() === root, 'it has the same root there');
  note(`${formatSeconds(exported.seconds)}, ${formatBytes(received(there))} received in all.`);
  run(['lazytree', 'cluster', 'peers'], { env: there });
  run(['lazytree', 'daemon', 'stop'], { env: there });
  run(['lazytree', 'daemon', 'stop'], { env: here });
}

/**
 * Azurite stands for Azure, and a third home for a machine that has never seen another one.
 * @param {{ root: string, changed: string, edited: string }} tree
 */
function durableFloor({ root, changed, edited }) {
  const azurite = startAzurite('trees', { directory, env: projectEnv });
  const here = { ...env, AZURE_STORAGE_CONNECTION_STRING: 'UseDevelopmentStorage=true' };
  const add = ['lazytree', 'remote', 'add', 'cloud', azurite.url, '--endpoint', azurite.endpoint];

  step('A durable floor: a container of blobs (here in Azurite, with Azure without --endpoint).');
  run(add, { env: here });
  const first = push('work');
  check(first.root === root, 'what was imported is pushed');
  note(
    `${first.blocks.toLocaleString('en')} blocks as ${formatBytes(first.bytes)}, in ${first.traffic.requests} ` +
      `requests and ${formatSeconds(first.seconds)}.`,
  );

  step('A fresh machine, with no peer, knows it by its name, and gets what it reads.');
  run(add, { env: freshEnv });
  const mounted = run(['lazytree', 'mount', 'work@cloud', 'from-cloud'], { env: freshEnv, mayFail: true });
  const cold = crossed();
  note(
    `${formatSeconds(mounted.seconds)}, ${cold.requests} requests and ${formatBytes(cold.received)}: all directories.`,
  );
  const name = `work@cloud/${edited}`;
  const read = run(mounted.ok ? ['cat', `from-cloud/${edited}`] : ['lazytree', 'cat', name], {
    env: freshEnv,
    lines: 3,
  });
  check(read.out === run(['cat', `workspace/${edited}`], { lines: 0 }).out, 'the file is the same');
  const after = crossed();
  note(
    `One file: ${after.requests - cold.requests} more requests and ${formatBytes(after.received - cold.received)}, ` +
      'with its neighbours.',
  );

  step('The workspace with its two changes, pushed again under its name: only they cross.');
  run(['lazytree', 'ref', 'set', 'work', changed, '-m', 'edited'], { env: here });
  const second = push('work');
  check(second.bytes < first.bytes / 100, 'less than 1 % crosses');
  note(`${second.blocks} blocks as ${formatBytes(second.bytes)}, in ${second.traffic.requests} requests.`);
  run(['lazytree', 'log', 'work', '--remote', 'cloud'], { env: freshEnv });
  run(['lazytree', 'diff', root, 'work@cloud'], { env: freshEnv });
  run(['lazytree', 'remote', 'validate', 'cloud'], { env: freshEnv });
  if (mounted.ok) run(['lazytree', 'unmount', 'from-cloud'], { env: freshEnv });
  run(['lazytree', 'daemon', 'stop'], { env: freshEnv });
  run(['lazytree', 'remote', 'rm', 'cloud'], { env: here });
  azurite.stop();

  /** @param {string} tree */
  function push(tree) {
    const { out, seconds } = run(['lazytree', 'push', tree, 'cloud', '--json'], { env: here });
    const pushed = /** @type {Pushed} */ (JSON.parse(out));
    return { ...pushed, seconds };
  }

  function crossed() {
    const { out } = run(['lazytree', 'remote', 'list', '--json'], { env: freshEnv, lines: 0 });
    const { remotes } = /** @type {{ remotes: { traffic: Traffic | null }[] }} */ (JSON.parse(out));
    return remotes[0].traffic ?? { requests: 0, sent: 0, received: 0 };
  }
}

/** @param {NodeJS.ProcessEnv} machine */
function received(machine) {
  const { out } = run(['lazytree', 'cluster', 'peers', '--json'], { env: machine, lines: 0 });
  const { peers } = /** @type {{ peers: { received: number }[] }} */ (JSON.parse(out));
  return peers.reduce((sum, peer) => sum + peer.received, 0);
}

/**
 * @param {{ root: string, edited: string }} tree
 */
function mountAndGo({ root, edited }) {
  step('Mount it by its root: there at once, and read as it is used.');
  const mounted = run(['lazytree', 'mount', root, 'mounted'], { mayFail: true });
  if (!mounted.ok) {
    note('There is no FUSE on this machine: no mount and no workspace, then.');
    return;
  }
  note(`It took ${formatSeconds(mounted.seconds)}, the start of the daemon that serves it included.`);
  run(['ls', 'mounted']);
  const compared = run(['diff', '-r', '--no-dereference', 'workspace', 'mounted']);
  check(compared.out === '', 'diff finds nothing');
  note('Every file read through the mount: no difference.');

  step('A writable fork of the same tree, in a directory of its own. Nothing is copied.');
  const created = run(['lazytree', 'workspace', 'create', 'app', '--from', root]);
  note(`It took ${formatSeconds(created.seconds)}.`);
  run(['sh', '-c', `echo >> app/${edited} && mkdir app/notes && echo remember > app/notes/today`]);
  const saved = run(['lazytree', 'workspace', 'save', 'app', '-m', 'notes']);
  note(`Saved in ${formatSeconds(saved.seconds)}: only what has changed was looked at.`);
  const changes = run(['lazytree', 'diff', root, 'app']).out.trim().split('\n').sort();
  check(changes.join(' ') === `A\tnotes/ A\tnotes/today M\t${edited}`, 'just those changes differ');

  step('A fork of the fork, and back to the beginning.');
  run(['lazytree', 'workspace', 'fork', 'app', 'other']);
  run(['cat', 'other/notes/today']);
  run(['lazytree', 'workspace', 'restore', 'app', root]);
  check(
    run(['ls', 'app'], { lines: 0 }).out === run(['ls', 'mounted'], { lines: 0 }).out,
    'app is the tree again',
  );
  run(['lazytree', 'workspace', 'log', 'app']);

  step('All that is mounted, and what the kernel has asked for. Then it is taken away.');
  run(['lazytree', 'mounts']);
  run(['lazytree', 'workspace', 'remove', 'other']);
  run(['lazytree', 'workspace', 'remove', 'app']);
  run(['lazytree', 'unmount', 'mounted']);
  run(['lazytree', 'daemon', 'stop']);
}
