// How our packages import each other, in a bundle: from the very file that has what is imported, so that a command
// does not run what its neighbours in an index need, and without files of their own for the parts of the command.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';

/**
 * What is loaded when it is needed. First what carries a command out, which a caller of a daemon has no use for: to read
 * it takes longer than to ask the daemon. Then parts that are large, and that most processes have no use for. To have
 * each command in a file of its own costs more than it saves: a file that is opened, read and linked takes as long as
 * the compiled code of hundreds of functions that are not called.
 */
const APART = [
  './run-here.js',
  '@lazytree/core/names',
  '@lazytree/node/daemon',
  '@lazytree/node/open-remotes',
  '@lazytree/node/compose',
  '@lazytree/node/doctor',
];

const STATIC_IMPORT = /^import \{([^}]*)\} from '(@lazytree\/[^']+)';/gm;
const DYNAMIC_IMPORT = /(?<![\w$.])import\('((?:\.\.?|@lazytree)\/[^']+)'\)/g;

/**
 * @param {string} packages their directory
 * @returns {import('esbuild').Plugin}
 */
export function ownImports(packages) {
  const indexes = exportedPaths(packages);
  return {
    name: 'own-imports',
    setup({ onLoad }) {
      onLoad({ filter: /[\\/]packages[\\/](?:cli|node)[\\/]dist[\\/].*\.js$/ }, async ({ path }) => {
        const code = (await readFile(path, 'utf8')).replace(STATIC_IMPORT, (whole, names, specifier) =>
          specifier in indexes ? direct(names, indexes[specifier]) : whole,
        );
        return { contents: path.startsWith(join(packages, 'cli')) ? inOneFile(code) : code };
      });
    },
  };
}

/**
 * A module that is required stays where it is required, and runs when that happens.
 * @param {string} code
 */
function inOneFile(code) {
  return code.replace(DYNAMIC_IMPORT, (whole, specifier) =>
    APART.includes(specifier) ? whole : `Promise.resolve().then(() => require('${specifier}'))`,
  );
}

/**
 * @param {string} names as between the braces of an import
 * @param {Map<string, string>} files
 */
function direct(names, files) {
  const each = names.split(',').map((name) => name.trim());
  return each
    .filter((name) => name !== '')
    .map((name) => {
      const file = files.get(name.split(' ')[0]);
      if (file === undefined) throw new Error(`nobody exports ${name}`);
      return `import { ${name} } from ${JSON.stringify(file)};`;
    })
    .join(' ');
}

/**
 * Of each module that a package exports: the names in it, and the files that have them.
 * @param {string} packages
 */
function exportedPaths(packages) {
  /** @type {Record<string, Map<string, string>>} */
  const indexes = {};
  for (const folder of ['core', 'node']) {
    const { name, exports } = JSON.parse(readFileSync(join(packages, folder, 'package.json'), 'utf8'));
    for (const [path, target] of Object.entries(exports)) {
      if (typeof target === 'string') continue;
      indexes[join(name, path)] = exportsOf(join(packages, folder, target.default));
    }
  }
  return indexes;
}

/**
 * @param {string} file as tsc writes it
 * @returns {Map<string, string>}
 */
function exportsOf(file) {
  const code = readFileSync(file, 'utf8');
  const at = (/** @type {string} */ path) => resolve(dirname(file), path);
  /** @type {Map<string, string>} */
  const found = new Map();
  for (const [, path] of code.matchAll(/^export \* from '([^']+)';/gm))
    for (const [name, place] of exportsOf(at(path))) found.set(name, place);
  for (const [, names, path] of code.matchAll(/^export \{([^}]*)\} from '([^']+)';/gm))
    for (const name of names.split(',')) found.set(name.trim(), at(path));
  for (const [, names] of code.matchAll(/^export \{([^}]*)\};/gm))
    for (const name of names.split(',')) found.set(name.trim(), file);
  for (const [, name] of code.matchAll(/^export (?:async )?(?:function\*?|class|const|let) ([\w$]+)/gm))
    found.set(name, file);
  return found;
}
