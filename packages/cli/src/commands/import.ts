import { existsSync, type Stats, statSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  asDirectory,
  checkRefName,
  formatLink,
  fromSystemError,
  importTree,
  LazytreeError,
  recordImport,
  setRef,
  statCacheFile,
  toFsPath,
} from '@lazytree/core';
import { mayBeOrigin } from '@lazytree/node';
import { type Action, type Context, ExitCode, type Options, type Output } from '../command.js';
import { openTree } from '../open-tree.js';
import { importUse } from '../stat-cache-use.js';

export const command: Action = {
  arguments: '<path|origin>',
  summary: 'store a directory, or what an origin stands for, and print its root',
  options: [
    ['--name <ref>', 'point a ref to the root, and record a snapshot'],
    ['-m, --message <text>', 'message of the snapshot'],
    ['--preserve', 'keep permission bits and modification times'],
    ['--no-ignore', 'take what .lazytreeignore files leave out, too'],
    ['--no-cache', 'read every file, even those that look unchanged'],
  ],
  details: 'Symlinks are stored, never followed. Sockets, pipes and devices are left out, with exit code 3.',
  async run(context, [path], { name, message, preserve, ignore, cache }) {
    if (typeof name === 'string') checkRefName(name);
    if (mayBeOrigin(path) && !existsSync(toFsPath(context.path(path)))) {
      return importOrigin(context, path, { name, message });
    }
    const given = await context.file(path);
    const source = resolve(given);
    assertDirectory(source);
    const { store, directory: home } = await context.home({ create: true });
    const progress = await context.progress('import');
    const use = importUse({ preserve, ignore });
    const statCache = cache ? statCacheFile(store.directory, use, source) : undefined;
    try {
      const result = await importTree(store, given, {
        home,
        preserve: preserve === true,
        ignoreFiles: ignore === true,
        ...(statCache === undefined ? {} : { statCache, survey: context.survey(statCache) }),
        signal: context.signal,
        onProgress: ({ files, bytes, found }) => progress.update({ files, bytes, totalFiles: found }),
        onWarning: ({ path: where, message: what }) => context.warn(`${where}: ${what}`),
      });
      const { root, size, files, read, added, warnings } = result;
      await recordImport(store, root, source);
      const ref =
        typeof name === 'string'
          ? await setRef(store, { name, root, source, message: String(message ?? '') })
          : undefined;
      const cid = formatLink(root);
      return {
        data: {
          root: cid,
          size,
          files,
          read,
          added,
          warnings,
          ...(ref ? { ref: ref.name, sequence: ref.sequence } : {}),
        },
        text: `${cid}\n`,
        exitCode: warnings.length > 0 ? ExitCode.partly : ExitCode.done,
      };
    } finally {
      progress.stop();
    }
  },
};

/** The tree of an origin; what is lazy in it stays that. */
async function importOrigin(context: Context, spec: string, { name, message }: Options): Promise<Output> {
  const { entry, release } = await openTree(context, spec);
  const { link: root, size, files } = asDirectory(entry, spec);
  const { store } = await context.home({ create: true });
  await store.flush();
  const ref =
    typeof name === 'string'
      ? await setRef(store, { name, root, source: spec, message: String(message ?? '') })
      : undefined;
  release();
  const cid = formatLink(root);
  return {
    data: { root: cid, size, files, ...(ref ? { ref: ref.name, sequence: ref.sequence } : {}) },
    text: `${cid}\n`,
  };
}

/** A wrong path must not leave a new home behind. */
function assertDirectory(path: string): void {
  let found: Stats;
  try {
    found = statSync(toFsPath(path));
  } catch (error) {
    throw fromSystemError(error, `importing '${path}'`);
  }
  if (!found.isDirectory()) {
    throw new LazytreeError('USAGE', `'${path}' is not a directory`, {
      hint: 'import the directory that it is in',
    });
  }
}
