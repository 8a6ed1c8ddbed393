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

test('what starts a command is read with the commands, and without the daemon', () => {
  const bundle = new URL('../dist/bundle/', import.meta.url);
  const loaded = new Set<string>();
  const sources: string[] = [];
  visit('main.js');
  expect(sources).toContain('packages/cli/dist/commands/ls.js');
  expect(
    sources.filter((source) => /^node_modules\/(?:zod|pino|@azure)\/|daemon\/run-daemon/.test(source)),
  ).toEqual([]);

  function visit(file: string): void {
    if (loaded.has(file)) return;
    loaded.add(file);
    const text = fs.readFileSync(new URL(file, bundle), 'utf8');
    for (const [, source] of text.matchAll(/^\/\/ ((?:packages|node_modules)\/\S+)$/gm)) sources.push(source);
    for (const [, chunk] of text.matchAll(/^(?:import|\} from) ?"\.\/([^"]+)";$/gm)) visit(chunk);
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
