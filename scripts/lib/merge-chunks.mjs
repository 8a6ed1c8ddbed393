// A bundle that is split for what is loaded later is cut into dozens of chunks, and each of its parts needs many of them:
// to find, read and link each takes node a millisecond or two. What a part imports, and what that imports, is made one
// chunk here.
import { basename } from 'node:path';
import { build } from 'esbuild';

/**
 * Writes the files of a split build to `outdir`, with the chunks that each of `parts` imports merged to one: those of the
 * first part to the first file, those of the next one that are not among them to the next file, and so on.
 *
 * @param {import('esbuild').BuildOptions & { outdir: string }} options of a build that splits
 * @param {{ of: string, into: string }[]} parts by the beginning of the name that a chunk has, and of the file
 */
export async function buildMerged(options, parts) {
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

  /** In which file a chunk ends up that is merged with others. @type {Map<string, string>} */
  const fileOf = new Map();
  for (const { of, into } of parts)
    for (const name of importedBy(nameOf(of, texts.keys()), outputs))
      if (!fileOf.has(name)) fileOf.set(name, into);
  const apart = [...texts.keys()].filter((name) => !fileOf.has(name));

  /** @param {string} name */
  const exportsOf = (name) => outputs.get(name)?.exports ?? [];
  /** What a chunk exports is exported by the merged one under a name that no other chunk has. */
  const prefix = new Map([...fileOf.keys()].map((name, index) => [name, `_${index}_`]));
  /** @param {string} file */
  const everythingIn = (file) =>
    [...fileOf.keys()]
      .filter((name) => fileOf.get(name) === file)
      .map(
        (name) =>
          `export { ${exportsOf(name)
            .map((exported) => `${exported} as ${prefix.get(name)}${exported}`)
            .join(', ')} } from './${name}';`,
      )
      .join('\n');
  /** @param {string} name */
  const standIn = (name) =>
    `export { ${exportsOf(name)
      .map((exported) => `${prefix.get(name)}${exported} as ${exported}`)
      .join(', ')} } from './${fileOf.get(name)}';`;

  /**
   * @param {string} [file] in which the chunks that are merged into it are what they were; elsewhere they stand for it
   * @returns {import('esbuild').Plugin}
   */
  const chunks = (file) => ({
    name: 'chunks',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path, kind }) => {
        const name = basename(path);
        if (kind === 'entry-point') return { path: name, namespace: 'chunk' };
        return path.startsWith('./') && fileOf.has(name)
          ? { path: name, namespace: 'chunk' }
          : { path, external: true };
      });
      onLoad({ filter: /.*/, namespace: 'chunk' }, ({ path }) => {
        if (path === file) return { contents: everythingIn(path) };
        const isElsewhere = fileOf.has(path) && fileOf.get(path) !== file;
        return { contents: isElsewhere ? standIn(path) : (texts.get(path) ?? '') };
      });
    },
  });
  /** @param {string[]} names */
  const entryPoints = (names) => names.map((name) => ({ in: name, out: name.replace(/\.js$/, '') }));
  for (const { into } of parts)
    await build({ ...options, entryPoints: entryPoints([into]), plugins: [chunks(into)] });
  await build({ ...options, entryPoints: entryPoints(apart), plugins: [chunks()] });
}

/**
 * @param {string} part
 * @param {Iterable<string>} names
 */
function nameOf(part, names) {
  const found = [...names].filter((name) => name === `${part}.js` || name.startsWith(`${part}-`));
  if (found.length !== 1) throw new Error(`${found.length} chunks are called ${part}`);
  return found[0];
}

/**
 * The chunks that are loaded with another, itself not among them.
 *
 * @param {string} first
 * @param {Map<string, import('esbuild').Metafile['outputs'][string]>} outputs
 */
function importedBy(first, outputs) {
  /** @type {Set<string>} */
  const found = new Set();
  const queue = [first];
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
