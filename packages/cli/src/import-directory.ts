import { checkRefName, formatLink, importTree, recordImport, type Survey, setRef } from '@lazytree/core';
import { type Context, ExitCode, type Options, type Output } from './command.js';

export interface ImportSource {
  /** As it was given, and in full. */
  path: string;
  source: string;
  statCache: string | undefined;
  survey: Survey | undefined;
}

/** Does what the command `import` says. */
export async function importDirectory(
  context: Context,
  { path, source, statCache, survey }: ImportSource,
  { name, message, preserve, ignore }: Options,
): Promise<Output> {
  if (typeof name === 'string') checkRefName(name);
  const { signal } = context;
  const progress = await context.progress('import');
  const onProgress = () => progress.update({ files: 0, bytes: 0, totalFiles: survey?.seen() ?? 0 });
  try {
    const home = context.home({ create: true });
    const [{ store }] = await Promise.all([home, survey?.finish({ signal, onProgress })]);
    const result = await importTree(store, path, {
      preserve: preserve === true,
      ignoreFiles: ignore === true,
      ...(statCache === undefined ? {} : { statCache, survey }),
      signal,
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
}
