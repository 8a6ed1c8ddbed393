// Real work in a workspace and on the disk below: npm ci, webpack, tsc; and saving what npm ci made.
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { alternate, OURS, playRound } from './lib/alternate.mjs';
import { run, VerificationError } from './lib/command.mjs';
import { copyCorpus, corpusSource, MANIFESTS, NPM_CI } from './lib/corpus.mjs';
import { EXT4, startDaemon, WORKSPACE } from './lib/file-systems.mjs';
import { importRoot, lazytree, rootIn } from './lib/lazytree.mjs';
import { timesRow } from './lib/row.mjs';
import { readTree, verifySameTree } from './lib/trees.mjs';

const FIRST_IMPORT = 'first import';
const MAX_NPM_CI = 1.08;
const MAX_SAVE = 1.5;
const MAX_BUILD = 1.05;

const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));

/**
 * @typedef {import('./lib/context.mjs').Context} Context
 * @typedef {import('./lib/alternate.mjs').Times} Times
 * @typedef {import('./lib/command.mjs').Command} Command
 *
 * @typedef {object} Build
 * @property {string} name
 * @property {string} output directory that it makes
 * @property {(context: Context) => string} prepare makes a tree that is ready to be built
 * @property {(directory: string) => Command} command
 */

const APP = {
  'webpack.config.js': `module.exports = {
  mode: 'production',
  entry: './src/index.js',
  target: 'node',
  module: {
    rules: [{ test: /\\.js$/, exclude: /node_modules/, use: {
      loader: 'babel-loader',
      options: { presets: ['@babel/preset-env', '@babel/preset-react'] },
    } }],
  },
};
`,
  'src/index.js': `import lodash from 'lodash';
import moment from 'moment';
import React from 'react';
import { renderToString } from 'react-dom/server';
import { StaticRouter, Link } from 'react-router-dom';
const App = ({ name }) => <StaticRouter><Link to="/">Hello, {lodash.upperCase(name)}!</Link></StaticRouter>;
console.log(moment(0).year(), renderToString(<App name="tree" />));
`,
};

/** @type {Build[]} */
const BUILDS = [
  {
    name: 'webpack build',
    output: 'dist',
    prepare(context) {
      const tree = copyCorpus(context.corpus(), join(context.fresh('app'), 'tree'));
      mkdirSync(join(tree, 'src'));
      for (const [name, text] of Object.entries(APP)) writeFileSync(join(tree, name), text);
      return tree;
    },
    command: (directory) => ({
      argv: [process.execPath, 'node_modules/.bin/webpack', '--silent'],
      cwd: directory,
      env: { NODE_OPTIONS: '--openssl-legacy-provider' },
    }),
  },
  {
    name: 'tsc build',
    output: 'packages/core/dist',
    prepare: typescriptProject,
    command: (directory) => ({
      argv: [join(REPOSITORY, 'node_modules/.bin/tsc'), '--build', 'packages/core'],
      cwd: directory,
    }),
  },
];

/** @type {import('./lib/context.mjs').Benchmark} */
export function* benchmark(context) {
  const home = context.fresh('home');
  using stack = new DisposableStack();
  startDaemon(stack, home);
  const { install, save } = npmCi(context, home);
  yield timesRow('npm ci in an empty workspace', install, { ours: WORKSPACE, peer: EXT4, max: MAX_NPM_CI });
  yield timesRow('workspace save after npm ci', save, { peer: FIRST_IMPORT, max: MAX_SAVE });
  for (const build of BUILDS) {
    const times = buildTimes(context, home, build);
    yield timesRow(`${build.name} in a workspace`, times, { ours: WORKSPACE, peer: EXT4, max: MAX_BUILD });
  }
}

/**
 * @param {Context} context
 * @param {string} home
 */
function npmCi(context, home) {
  const corpus = context.corpus();
  context.progress('npm ci, so that the cache of npm is warm');
  run(npmCiIn(context.fresh('warm')));
  /** @type {Times} */
  const install = new Map();
  /** @type {Times} */
  const save = new Map();
  for (let round = 0; round < context.rounds; round++) {
    context.progress(`npm ci, round ${round + 1} of ${context.rounds}`);
    const name = `npm-${round}`;
    const directory = createWorkspace(context, home, { name });
    const disk = context.fresh('npm');
    const entries = [
      { name: WORKSPACE, command: npmCiIn(directory) },
      { name: EXT4, command: npmCiIn(disk) },
    ];
    playRound(install, entries, round);

    /** @type {string[]} */
    const roots = [];
    const verify = (/** @type {string} */ stdout) => void roots.push(rootIn(stdout));
    const saves = [
      {
        name: FIRST_IMPORT,
        command: lazytree(join(context.fresh('home'), 'home'), 'import', disk),
        verify,
      },
      {
        name: OURS,
        command: lazytree(home, 'workspace', 'save', name),
        verify,
      },
    ];
    playRound(save, saves, round);
    if (roots[0] !== roots[1]) throw new VerificationError(`import and save gave ${roots.join(' and ')}`);
    if (round === context.rounds - 1) verifySameTree(corpus.path, directory);
  }
  return { install, save };
}

/**
 * @param {string} directory
 * @returns {Command} with everything in place
 */
function npmCiIn(directory) {
  const source = corpusSource();
  for (const name of MANIFESTS) copyFileSync(join(source, name), join(directory, name));
  return { argv: [...NPM_CI, '--prefer-offline'], cwd: directory };
}

/**
 * Each round in a new workspace and a new copy, both read before.
 * @param {Context} context
 * @param {string} home
 * @param {Build} build
 */
function buildTimes(context, home, { name, output, prepare, command }) {
  context.progress(`${name}: preparing`);
  const tree = prepare(context);
  const root = importRoot(home, tree);
  return alternate(context.rounds, (round) => {
    context.progress(`${name}, round ${round + 1} of ${context.rounds}`);
    const label = name.replace(' ', '-');
    const directory = createWorkspace(context, home, { name: `${label}-${round}`, root });
    const disk = join(context.fresh('build'), 'tree');
    run({ argv: ['cp', '-a', tree, disk] });
    for (const place of [directory, disk]) readTree(place);
    return [
      { name: WORKSPACE, command: command(directory), verify: () => verifyBuilt(directory, disk) },
      { name: EXT4, command: command(disk) },
    ];
  });

  /**
   * @param {string} directory
   * @param {string} disk
   */
  function verifyBuilt(directory, disk) {
    if (!existsSync(join(disk, output))) throw new VerificationError(`${name} made nothing`);
    verifySameTree(join(disk, output), join(directory, output));
  }
}

/**
 * It stays to the end: what it wrote is not removed while others are measured.
 * @param {Context} context
 * @param {string} home
 * @param {{ name: string, root?: string }} options
 */
function createWorkspace(context, home, { name, root }) {
  const directory = context.fresh('mnt');
  run(lazytree(home, 'workspace', 'create', name, directory, ...(root ? ['--from', root] : [])));
  return directory;
}

/**
 * The sources of this repository's core, and the packages that they need.
 * @param {Context} context
 */
function typescriptProject(context) {
  const tree = context.fresh('typescript');
  const packages = [
    ...dependenciesOf('packages/core'),
    'node_modules/@types/node',
    'node_modules/undici-types',
  ];
  for (const part of ['tsconfig.base.json', 'packages/core', ...packages]) {
    const source = join(REPOSITORY, part);
    // What is built is not to be there yet.
    const filter = (/** @type {string} */ path) => path !== join(REPOSITORY, 'packages/core/dist');
    cpSync(source, join(tree, part), { recursive: true, filter });
  }
  return tree;
}

/**
 * @param {string} directory of a package, in the repository
 * @param {Set<string>} [known] gets the directories of those that it needs, and that these need
 */
function dependenciesOf(directory, known = new Set()) {
  const manifest = JSON.parse(readFileSync(join(REPOSITORY, directory, 'package.json'), 'utf8'));
  for (const name of Object.keys(manifest.dependencies ?? {})) {
    const found = `node_modules/${name}`;
    if (known.has(found) || !existsSync(join(REPOSITORY, found))) continue;
    dependenciesOf(found, known.add(found));
  }
  return known;
}
