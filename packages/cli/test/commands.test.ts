import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { COMMANDS, HERE } from '../dist/commands.js';

test('commands that are not sent to a daemon without being loaded are those that run in the caller’s process', async () => {
  for (const [name, load] of Object.entries(COMMANDS)) {
    const { command } = await load();
    const actions = 'actions' in command ? Object.entries(command.actions) : [['', command] as const];
    for (const [action, { where }] of actions) {
      const words = `${name} ${action}`.trim();
      expect({ words, here: where === 'here' }).toEqual({ words, here: HERE.has(name) || HERE.has(words) });
    }
  }
});

test('what starts a command is two files, with the commands in them and without the daemon', () => {
  const bundle = new URL('../dist/bundle/', import.meta.url);
  const read = (file: string) => fs.readFileSync(new URL(file, bundle), 'utf8');
  const loaded = new Set(['main.js']);
  for (const file of loaded) {
    for (const [, chunk] of read(file).matchAll(/^import (?:.* from )?"\.\/([^"]+)";$/gm)) loaded.add(chunk);
  }
  expect([...loaded]).toEqual(['main.js', 'shared.js']);
  expect(read('main.js')).toContain('"packages/cli/dist/commands/ls.js"');
  // What is not a module of its own any more has no name here; of that, what it defines is looked for.
  for (const file of loaded)
    expect(read(file)).not.toMatch(
      /"node_modules\/(?:zod|pino|@azure)\/|"packages\/node\/dist\/daemon\/run-daemon/,
    );
  const apart = fs.readdirSync(bundle).filter((name) => name.endsWith('.js') && !loaded.has(name));
  for (const large of ['ZodType', 'BlobServiceClient', 'node_modules/pino/', 'async function runDaemon']) {
    expect({ large, apart: apart.some((file) => read(file).includes(large)) }).toEqual({
      large,
      apart: true,
    });
    expect({ large, loaded: [...loaded].filter((file) => read(file).includes(large)) }).toEqual({
      large,
      loaded: [],
    });
  }
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
