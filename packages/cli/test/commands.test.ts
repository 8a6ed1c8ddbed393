import fs from 'node:fs';
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

test('what starts a command holds neither the engine nor the daemon', () => {
  const bundle = new URL('../dist/bundle/', import.meta.url);
  const loaded = new Set<string>();
  const sources: string[] = [];
  visit('main.js');
  expect(sources.filter((source) => /packages\/(?:core|node)\//.test(source))).toEqual([
    'packages/node/dist/home-directory.js',
    'packages/core/dist/errors.js',
  ]);
  expect(sources.filter((source) => source.startsWith('node_modules/'))).toEqual([]);

  function visit(file: string): void {
    if (loaded.has(file)) return;
    loaded.add(file);
    const text = fs.readFileSync(new URL(file, bundle), 'utf8');
    for (const [, source] of text.matchAll(/^\/\/ ((?:packages|node_modules)\/\S+)$/gm)) sources.push(source);
    for (const [, chunk] of text.matchAll(/^(?:import|\} from) ?"\.\/([^"]+)";$/gm)) visit(chunk);
  }
});
