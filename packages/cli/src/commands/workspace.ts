import { encodeDirectory, formatLink, LazytreeError, type Link, type LocalStore } from '@lazytree/core';
import { DEFAULT_KEEP, parseInterval, parseKeep, type WorkspaceRecord } from '@lazytree/node';
import { type Action, type Context, ExitCode, type Output, RUN_SCRIPTS } from '../command.js';
import { type Mountable, openMountable } from '../mountable.js';
import { oneLine } from '../one-line.js';
import { table } from '../output.js';
import { exec } from '../workspace-exec.js';
import { createAndRunScripts, runScripts } from '../workspace-run-scripts.js';
import { command as log } from './log.js';

const create: Action = {
  arguments: '<name> [dir]',
  summary: 'make a writable fork of a tree in a directory (default: ./NAME)',
  options: [
    ['--from <tree>', 'the tree; without it the workspace begins empty'],
    ['--no-ignore', 'save what .lazytreeignore files leave out, too'],
    ['--autosave <interval>', 'save it by itself, as with 5m or 1h'],
    ['--keep <counts>', 'automatic snapshots to keep (default: last=8,hourly=24,daily=7,weekly=8)'],
    ['--remote <name>', 'push what is saved there, too, as often as --autosave says'],
    [RUN_SCRIPTS, 'run the install scripts of packages of npm-lock:, which nothing runs otherwise'],
  ],
  details: 'The ref NAME follows what is saved. Changes are kept in the home until they are saved.',
  where: 'daemon',
  runsScripts: true,
  collection: 'excludes',
  async run(context, [name, directory], options) {
    if (options.runScripts) return createAndRunScripts(context, [name, directory], options);
    const { from, ignore, autosave, keep, remote } = options;
    if (remote !== undefined && autosave === undefined) {
      throw new LazytreeError('USAGE', '--remote needs --autosave', {
        hint: `say how often, as with --autosave 5m; \`lazytree push ${name} ${remote}\` does it once`,
      });
    }
    // One that cannot be opened is better known now.
    if (remote !== undefined) await context.remote(String(remote));
    const plan =
      autosave === undefined
        ? undefined
        : {
            interval: parseInterval(String(autosave)),
            keep: keep === undefined ? DEFAULT_KEEP : parseKeep(String(keep)),
            ...(remote === undefined ? {} : { remote: String(remote) }),
          };
    const { workspaces, home } = context.host();
    const { root, tree, image } =
      from === undefined ? await emptyTree(home.store) : await openMountable(context, String(from), 'lower');
    const target = context.path(directory ?? name);
    return created(
      context,
      await workspaces.create({
        name,
        base: root,
        tree,
        image,
        target,
        ignoreFiles: ignore === true,
        autosave: plan,
      }),
    );
  },
};

async function emptyTree(store: LocalStore): Promise<Mountable> {
  const { link, nodes } = encodeDirectory([]);
  for (const node of nodes) await store.put(node);
  return { root: link, tree: 'an empty tree' };
}

async function created(context: Context, record: WorkspaceRecord): Promise<Output> {
  if (await context.host().workspaces.holder()) {
    const { name } = record;
    context.warn(`without root, only what \`lazytree workspace exec ${name}\` runs sees the workspace`);
  }
  return described(record);
}

function described({ name, target, base }: WorkspaceRecord): Output {
  return { data: { name, target, base: formatLink(base) }, text: `${target}\n` };
}

const list: Action = {
  arguments: '',
  summary: 'list the workspaces',
  where: 'daemon',
  async run(context) {
    const workspaces = await context.host().workspaces.list();
    const data = workspaces.map((one) => ({
      name: one.name,
      target: one.target,
      state: one.state,
      base: formatLink(one.base),
      saved: formatLink(one.saved),
      autosave: one.autosave ?? null,
      pushed: one.pushed === undefined ? null : formatLink(one.pushed),
      pushProblem: one.pushProblem ?? null,
      created: new Date(one.created).toISOString(),
      use: one.use,
      holder: one.holder ?? null,
    }));
    const rows = data.map(({ name, target, state, saved }) => [name, state, saved, oneLine(target)]);
    return { data: { workspaces: data }, text: table(rows) };
  },
};

const save: Action = {
  arguments: '<name>',
  summary: 'store what has changed in a workspace, and print its root',
  options: [['-m, --message <text>', 'message of the snapshot']],
  where: 'daemon',
  collection: 'excludes',
  async run(context, [name], { message }) {
    const progress = await context.progress('save');
    try {
      const { root, size, files, changed, warnings, ref } = await context.host().workspaces.save(name, {
        message: String(message ?? ''),
        signal: context.signal,
        onProgress: (state) => progress.update({ ...state, totalFiles: state.found }),
        onWarning: ({ path, message: what }) => context.warn(`${path}: ${what}`),
      });
      const cid = formatLink(root);
      return {
        data: { root: cid, size, files, changed, warnings, ref: ref.name, sequence: ref.sequence },
        text: `${cid}\n`,
        exitCode: warnings.length > 0 ? ExitCode.partly : ExitCode.done,
      };
    } finally {
      progress.stop();
    }
  },
};

const fork: Action = {
  arguments: '<name> <new> [dir]',
  summary: 'make another workspace of what one is now (in ./NEW by default)',
  where: 'daemon',
  collection: 'excludes',
  async run(context, [name, newName, directory]) {
    const target = context.path(directory ?? newName);
    const { workspaces } = context.host();
    return created(context, await workspaces.fork(name, { name: newName, target, signal: context.signal }));
  },
};

const restore: Action = {
  arguments: '<name> <tree>',
  summary: 'make a workspace equal to a tree; what it was is saved first',
  where: 'daemon',
  collection: 'excludes',
  async run(context, [name, spec]) {
    const { root, tree, image } = await openMountable(context, spec, 'lower');
    const { workspaces } = context.host();
    return described(await workspaces.restore(name, { base: root, tree, image, signal: context.signal }));
  },
};

const remove: Action = {
  arguments: '<name>',
  summary: 'take a workspace away; what was not saved is saved first, and the ref stays',
  options: [['--discard', 'do not save it']],
  where: 'daemon',
  collection: 'excludes',
  async run(context, [name], { discard }) {
    const saved = await context.host().workspaces.remove(name, {
      discard: discard === true,
      signal: context.signal,
    });
    const root: Link | undefined = saved?.root;
    return { data: { name, saved: root === undefined ? null : formatLink(root) } };
  },
};

export const command = {
  summary: 'writable forks of trees',
  actions: {
    create,
    list,
    exec,
    save,
    fork,
    restore,
    'run-scripts': runScripts,
    log: { ...log, summary: 'list what was saved of a workspace' },
    remove,
  },
};
