// Imports point one way, cli -> node -> core, never in a circle, and the core does not know the network.
// Usage: check-layers.mjs [ROOT]. Prints file:line for each violation and exits with 1 when there is one.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { scanImports } from './lib/scan-imports.mjs';

/** Folder under packages/ -> its npm name and the folders whose packages it may import. */
/** @type {Record<string, { name: string, mayImport: string[] }>} */
const LAYERS = {
  core: { name: '@lazytree/core', mayImport: [] },
  node: { name: '@lazytree/node', mayImport: ['core'] },
  cli: { name: 'lazytree', mayImport: ['node', 'core'] },
};
const CHECKED_FOLDERS = ['src', 'bin', 'test'];
const NETWORK =
  /^(?:(?:node:)?(?:https?|http2|net|tls|dgram)(?:$|\/)|libp2p(?:$|\/)|@libp2p\/|@chainsafe\/libp2p-)/;
const SOURCE_FILE = /\.[cm]?[jt]sx?$/;

const root = resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));
/** @type {string[]} */
const problems = [];
let fileCount = 0;

for (const [folder, layer] of Object.entries(LAYERS)) {
  const home = join(root, 'packages', folder);
  /** @type {Map<string, { line: number, to: string }[]>} */
  const graph = new Map();
  for (const file of CHECKED_FOLDERS.flatMap((name) => sourceFiles(join(home, name)))) {
    fileCount++;
    /** @type {{ line: number, to: string }[]} */
    const edges = [];
    for (const { specifier, line, isImport } of scanImports(readFileSync(file, 'utf8'))) {
      const isRelative = /^\.\.?(?:\/|$)/.test(specifier);
      const problem = isRelative
        ? relativeProblem(layer, home, file, specifier)
        : isImport && packageProblem(folder, layer, file, home, specifier);
      if (problem) problems.push(`${at(file, line)}: ${problem}`);
      const to = isRelative && isImport ? sourceOf(resolve(dirname(file), specifier)) : undefined;
      if (to) edges.push({ line, to });
    }
    graph.set(file, edges);
  }
  problems.push(...cycles(graph));
}

if (fileCount === 0) problems.push(`${root}: no source files under packages/`);
for (const problem of problems) console.error(problem);
if (problems.length > 0) {
  console.error(`check-layers: ${problems.length} violation${problems.length === 1 ? '' : 's'}`);
  process.exitCode = 1;
} else {
  console.log(`check-layers: ${fileCount} files, no violation`);
}

/**
 * Tests may use what helps the tests of a package below, which no package exports.
 * @param {{ mayImport: string[] }} layer
 * @param {string} home
 * @param {string} file
 * @param {string} specifier
 */
function relativeProblem({ mayImport }, home, file, specifier) {
  const target = resolve(dirname(file), specifier);
  if (target === home || target.startsWith(home + sep)) return undefined;
  const isTest = file.startsWith(join(home, 'test') + sep);
  if (isTest && mayImport.some((other) => target.startsWith(join(root, 'packages', other, 'test') + sep))) {
    return undefined;
  }
  return `'${specifier}' leaves the package; import another package by its name`;
}

/**
 * @param {string} folder
 * @param {{ name: string, mayImport: string[] }} layer
 * @param {string} file
 * @param {string} home
 * @param {string} specifier
 */
function packageProblem(folder, layer, file, home, specifier) {
  for (const [other, { name }] of Object.entries(LAYERS)) {
    const isOther = specifier === name || specifier.startsWith(`${name}/`);
    if (isOther && other !== folder && !layer.mayImport.includes(other)) {
      return `${layer.name} must not import ${specifier} (imports point cli -> node -> core)`;
    }
  }
  if (folder === 'core' && NETWORK.test(specifier) && file.startsWith(join(home, 'src') + sep)) {
    return `${layer.name} must not import ${specifier}: no network in the core`;
  }
  return undefined;
}

/**
 * Every import counts, also `import type` and `import()`: a circle of types is a circle of ideas.
 * @param {Map<string, { line: number, to: string }[]>} graph
 * @returns {string[]} one line per edge that closes a circle
 */
function cycles(graph) {
  /** @type {string[]} */
  const found = [];
  /** @type {Set<string>} */
  const done = new Set();
  /** @type {string[]} */
  const path = [];
  /** @param {string} file */
  const visit = (file) => {
    path.push(file);
    for (const { line, to } of graph.get(file) ?? []) {
      const start = path.indexOf(to);
      if (start >= 0) {
        const circle = [...path.slice(start), to].map((name) => relative(root, name));
        found.push(`${at(file, line)}: import cycle: ${circle.join(' -> ')}`);
      } else if (!done.has(to)) {
        visit(to);
      }
    }
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) if (!done.has(file)) visit(file);
  return found;
}

/**
 * The file a relative import means: './x.js' is x.ts in our sources.
 * @param {string} target
 */
function sourceOf(target) {
  return [target.replace(/\.([cm]?)js$/, '.$1ts'), target.replace(/\.js$/, '.tsx'), target].find((name) =>
    existsSync(name),
  );
}

/**
 * @param {string} directory
 * @returns {string[]}
 */
function sourceFiles(directory) {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && SOURCE_FILE.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !file.includes(`${sep}node_modules${sep}`))
    .sort();
}

/**
 * @param {string} file
 * @param {number} line
 */
function at(file, line) {
  return `${relative(root, file)}:${line}`;
}
