// `npm run check:lockfiles [-- NAME|DIRECTORY...]`: what `npm-lock:` makes of real projects' lockfiles, beside what
// `npm ci --ignore-scripts` makes of them, byte for byte. Takes minutes, and all packages from the configured registry.
// A DIRECTORY has a package.json and a package-lock.json; a NAME is one of the stacks below, locked as of now.
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { run } from './bench/lib/command.mjs';
import { lazytree } from './bench/lib/lazytree.mjs';
import { listTree, verifySameTree } from './bench/lib/trees.mjs';

/** What people build on, as they would install it. */
const STACKS = {
  next: ['next@15', 'react@19', 'react-dom@19', 'tailwindcss@4', 'typescript@5', 'eslint@9'],
  vite: ['vite@6', '@vitejs/plugin-react@4', 'react@19', 'react-dom@19', 'tailwindcss@3', 'vitest@3'],
  nest: ['@nestjs/core@11', '@nestjs/common@11', '@nestjs/cli@11', '@nestjs/platform-express@11', 'jest@29'],
  angular: ['@angular/core@19', '@angular/cli@19', '@angular/build@19', 'rxjs@7', 'karma@6'],
  express: ['express@4', 'mongoose@8', 'mocha@11', 'chai@5', 'nyc@17', 'supertest@7', 'eslint@8'],
};
const QUIET = ['--ignore-scripts', '--no-audit', '--no-fund'];

const wanted = process.argv.slice(2);
const place = mkdtempSync(join(tmpdir(), 'lazytree-lockfiles-'));
let differ = 0;
try {
  for (const name of wanted.length > 0 ? wanted : Object.keys(STACKS)) differ += check(name) ? 0 : 1;
} finally {
  rmSync(place, { recursive: true, force: true });
}
process.exitCode = differ > 0 ? 1 : 0;

/** @param {string} name */
function check(name) {
  const project = join(place, name.replaceAll('/', '-'));
  mkdirSync(project);
  const stack = STACKS[/** @type {keyof typeof STACKS} */ (name)];
  if (stack) lock(project, stack);
  else
    for (const file of ['package.json', 'package-lock.json'])
      copyFileSync(resolve(name, file), join(project, file));
  run({ argv: ['npm', 'ci', ...QUIET], cwd: project });
  const [expected, made] = [join(project, 'node_modules'), join(project, 'made')];
  run({ ...lazytree(join(place, 'home'), 'export', 'npm-lock:package-lock.json', 'made'), cwd: project });
  try {
    verifySameTree(expected, made);
    process.stdout.write(`${name}: the same ${listTree(made).length} entries\n`);
    return true;
  } catch (error) {
    process.stdout.write(`${name}: ${/** @type {Error} */ (error).message}\n`);
    return false;
  }
}

/**
 * @param {string} project
 * @param {readonly string[]} stack
 */
function lock(project, stack) {
  writeFileSync(
    join(project, 'package.json'),
    '{ "name": "project", "version": "1.0.0", "private": true }\n',
  );
  run({ argv: ['npm', 'install', '--package-lock-only', ...QUIET, ...stack], cwd: project });
}
