import { resolve } from 'node:path';
import {
  asDirectory,
  beginSurvey,
  checkTreeOrigins,
  type ExportOptions,
  type ExportResult,
  exportTree,
  formatLink,
  LazytreeError,
  type Survey,
  statCacheFile,
} from '@lazytree/core';
import { isImageSpec, parsePeerRef } from '@lazytree/node';
import { isOffline } from '@lazytree/node/origins';
import { type Action, type Context, ExitCode, type Output } from '../command.js';
import { memberCluster } from '../member-cluster.js';
import { openTree, whileArriving } from '../open-tree.js';
import { EXPORT_USE } from '../stat-cache-use.js';

export const command: Action = {
  arguments: '<tree> <dir>',
  summary: 'write a tree to a directory',
  options: [
    ['--update', 'make the directory equal to the tree, touching only what differs'],
    ['--force', 'write over what is there, leaving what the tree does not have'],
    ['--follow', 'keep the directory at a ref of a peer, NAME@PEER, until interrupted'],
  ],
  async run(context, [spec, dir], { update, force, follow }) {
    if (update && force) throw new LazytreeError('USAGE', '--update and --force exclude each other');
    const target = resolve(await context.file(dir));
    if (follow) return followRef(context, spec, { target, existing: existing(update, force) });
    const result = await write(context, spec, { target, existing: existing(update, force) });
    return {
      data: { ...result, root: formatLink(result.root), target },
      exitCode: result.origins.length > 0 ? ExitCode.partly : ExitCode.done,
    };
  },
};

interface Place {
  target: string;
  existing: NonNullable<ExportOptions['existing']>;
}

function existing(update: unknown, force: unknown): Place['existing'] {
  return update ? 'update' : force ? 'force' : 'refuse';
}

/** Exports to one directory follow one another: each is to find it as the one before has left it. */
function write(context: Context, spec: string, place: Place): Promise<ExportResult> {
  return context.inTurn(`export ${place.target}`, async () => {
    const ahead = await lookAhead(context, place);
    try {
      return await writeTree(context, spec, { ...place, ahead });
    } finally {
      ahead?.stop();
    }
  });
}

/** While the daemon waits for the tree, it can look at what is there. */
async function lookAhead(context: Context, { target, existing }: Place): Promise<Survey | undefined> {
  if (existing === 'refuse' || !context.hasHost) return undefined;
  const { store } = await context.home({ create: false });
  return beginSurvey(target, statCacheFile(store.directory, EXPORT_USE, target), { ahead: true });
}

interface Write extends Place {
  /** Of the target. */
  ahead: Survey | undefined;
}

async function writeTree(
  context: Context,
  spec: string,
  { target, existing, ahead }: Write,
): Promise<ExportResult> {
  const tree = await openTree(context, spec);
  const progress = await context.progress('export');
  try {
    const { link } = asDirectory(tree.entry, spec);
    if (isOffline(context.originCaller()))
      await checkTreeOrigins(tree.store, link, { signal: context.signal });
    const home = isImageSpec(spec) ? undefined : await context.home({ create: false });
    const statCache = home && statCacheFile(home.store.directory, EXPORT_USE, target);
    const options: ExportOptions = {
      existing,
      ...(statCache === undefined ? {} : { statCache, survey: ahead ?? context.survey(statCache) }),
      signal: context.signal,
      onProgress: (state) => progress.update(state),
    };
    const run = () =>
      whileArriving(context, { spec, tree, all: existing !== 'update' }, (store) =>
        exportTree(store, link, target, options),
      );
    const result = await context.makeFiles(run);
    for (const path of result.origins) context.warn(`${path}: an origin that is not resolved, left out`);
    return result;
  } finally {
    progress.stop();
    await tree.close();
    tree.release();
  }
}

async function followRef(context: Context, spec: string, { target, existing }: Place): Promise<Output> {
  const wanted = parsePeerRef(spec);
  if (!wanted || spec.includes('/')) {
    throw new LazytreeError('USAGE', `--follow wants a ref of a peer, NAME@PEER, not '${spec}'`);
  }
  const cluster = await memberCluster(context);
  const { signal } = context;
  const ref = await cluster.findRef(wanted.name, wanted.peer, signal);
  return { data: undefined, news: news() };

  async function* news(): NonNullable<Output['news']> {
    let first = true;
    for await (const { root, sequence, owner, name } of cluster.follow(ref, signal)) {
      if (root === undefined) {
        context.warn(`${spec} was removed; the directory stays as it is`);
        continue;
      }
      const cid = formatLink(root);
      // From the first one on, what is there is what was written.
      await write(context, cid, { target, existing: first ? existing : 'update' });
      first = false;
      yield { data: { root: cid, sequence, owner, name, target }, text: `${cid}\n` };
    }
  }
}
