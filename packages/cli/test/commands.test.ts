import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { DAEMONS, HERE } from '../dist/command-names.js';
import { COMMANDS } from '../dist/commands.js';

test('where a command runs is known before it is loaded', async () => {
  for (const [name, load] of Object.entries(COMMANDS)) {
    const { command } = await load();
    const actions = 'actions' in command ? Object.entries(command.actions) : [['', command] as const];
    for (const [action, { where }] of actions) {
      const words = `${name} ${action}`.trim();
      const known = HERE.has(name) || HERE.has(words) ? 'here' : DAEMONS.has(words) ? 'daemon' : 'anywhere';
      expect({ words, where: where ?? 'anywhere' }).toEqual({ words, where: known });
    }
  }
});

describe('the bundle', () => {
  const bundle = new URL('../dist/bundle/', import.meta.url);
  const read = (file: string) => fs.readFileSync(new URL(file, bundle), 'utf8');
  const files = fs.readdirSync(bundle).filter((name) => name.endsWith('.js'));

  /** A file and what is loaded with it, in the order in which it is found. */
  function loadedWith(first: string): string[] {
    const loaded = new Set([first]);
    for (const file of loaded) {
      for (const [, chunk] of read(file).matchAll(/^import (?:.* from )?"\.\/([^"]+)";$/gm))
        loaded.add(chunk);
    }
    return [...loaded];
  }

  test('what asks a daemon is two files, in which there is nothing that carries a command out', () => {
    const loaded = loadedWith('main.js');
    expect(loaded).toEqual(['main.js', 'asking.js']);
    for (const file of loaded) {
      expect(read(file)).not.toMatch(/"packages\/cli\/dist\/commands\/|"node_modules\//);
      expect(read(file)).not.toContain('"packages/core/dist/store/local.js"');
    }
  });

  test('what carries a command out is two more, with the commands in them and without the daemon', () => {
    const [runHere] = files.filter((name) => name.startsWith('run-here-'));
    const loaded = loadedWith(runHere);
    expect([...loaded].sort()).toEqual(['asking.js', 'executing.js', runHere]);
    expect(loaded.some((file) => read(file).includes('"packages/cli/dist/commands/ls.js"'))).toBe(true);
    // What is not a module of its own any more has no name here; of that, what it defines is looked for.
    for (const file of loaded)
      expect(read(file)).not.toMatch(
        /"node_modules\/(?:zod|pino|@azure)\/|"packages\/node\/dist\/daemon\/run-daemon/,
      );
    const apart = files.filter((name) => !loaded.includes(name));
    for (const large of ['ZodType', 'BlobServiceClient', 'node_modules/pino/', 'async function runDaemon']) {
      const having = (some: string[]) => some.filter((file) => read(file).includes(large));
      expect({ large, loaded: having(loaded) }).toEqual({ large, loaded: [] });
      expect({ large, apart: having(apart).length > 0 }).toEqual({ large, apart: true });
    }
  });
});

test('what is read runs when it is used: a command that does nothing loads little of node', () => {
  const tell = 'data:text/javascript,process.on("exit",()=>process._rawDebug(process.moduleLoadList.join()))';
  const bin = fileURLToPath(new URL('../bin/lazytree.js', import.meta.url));
  const { stderr } = spawnSync(process.execPath, ['--import', tell, bin, '--version'], { encoding: 'utf8' });
  const builtins = stderr.split(/NativeModule |,/);
  expect(builtins).toContain('fs');
  for (const name of ['crypto', 'zlib', 'child_process', 'worker_threads', 'fs/promises'])
    expect(builtins).not.toContain(name);
});
