// A bundle that is split for what is loaded later is cut into dozens of chunks, and the entry point needs nearly all of
// them: to find, read and link each takes node a millisecond or two. What the entry point imports, and what that imports,
// is made one chunk here.
import { basename } from 'node:path';
import { build } from 'esbuild';

const SHARED = 'shared.js';

/**
 * Writes the files of a split build to `outdir`, those that `entry` imports merged to one.
 *
 * @param {import('esbuild').BuildOptions & { outdir: string }} options of a build that splits
 * @param {string} entry the name of its entry point
 */
export async function buildMerged(options, entry) {
  const { metafile, outputFiles } = await build({
    ...options,
    splitting: true,
    metafile: true,
    write: false,
    // Kept where they are, for the second build to collect.
    legalComments: 'inline',
  });
  // The second build puts the banner at the head of each file; here it would be there once for each chunk.
  const banner = options.banner?.js ?? '';
  const texts = new Map(outputFiles.map(({ path, text }) => [basename(path), text.replace(banner, '')]));
  const outputs = new Map(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]));
  const merged = importedBy(`${entry}.js`, outputs);
  const apart = [...texts.keys()].filter((name) => !merged.has(name));

  /** @param {string} name */
  const exportsOf = (name) => outputs.get(name)?.exports ?? [];
  /** What a chunk exports is exported by the merged one under a name that no other chunk has. */
  const prefix = new Map([...merged].map((name, index) => [name, `_${index}_`]));
  const everything = [...merged].map(
    (name) =>
      `export { ${exportsOf(name)
        .map((exported) => `${exported} as ${prefix.get(name)}${exported}`)
        .join(', ')} } from './${name}';`,
  );
  /** @param {string} name */
  const standIn = (name) =>
    `export { ${exportsOf(name)
      .map((exported) => `${prefix.get(name)}${exported} as ${exported}`)
      .join(', ')} } from './${SHARED}';`;

  /**
   * @param {boolean} whole whether chunks that are merged are what they were, or stand for the merged one
   * @returns {import('esbuild').Plugin}
   */
  const chunks = (whole) => ({
    name: 'chunks',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => {
        const name = basename(path);
        if (kind === 'entry-point') return { path: name, namespace: 'chunk' };
        return path.startsWith('./') && merged.has(name)
          ? { path: name, namespace: 'chunk' }
          : { path, external: true };
      });
      onLoad({ filter: /.*/, namespace: 'chunk' }, ({ path }) => {
        if (path === SHARED) return { contents: everything.join('\n') };
        return { contents: merged.has(path) && !whole ? standIn(path) : (texts.get(path) ?? '') };
      });
    },
  });
  /** @param {string[]} names */
  const entryPoints = (names) => names.map((name) => ({ in: name, out: name.replace(/\.js$/, '') }));
  await build({ ...options, entryPoints: entryPoints([SHARED]), plugins: [chunks(true)] });
  await build({ ...options, entryPoints: entryPoints(apart), plugins: [chunks(false)] });
}

/**
 * The chunks that are loaded with `entry`, itself not among them.
 *
 * @param {string} entry
 * @param {Map<string, import('esbuild').Metafile['outputs'][string]>} outputs
 */
function importedBy(entry, outputs) {
  /** @type {Set<string>} */
  const found = new Set();
  const queue = [entry];
  for (const name of queue) {
    for (const { path, kind, external } of outputs.get(name)?.imports ?? []) {
      const imported = basename(path);
      if (external || kind !== 'import-statement' || found.has(imported)) continue;
      found.add(imported);
      queue.push(imported);
    }
  }
  return found;
}
