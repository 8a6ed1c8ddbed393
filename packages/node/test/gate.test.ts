import { createGate, createTurns } from '@lazytree/node/daemon';
import { expect, test } from 'vitest';

const never = new AbortController().signal;

/** A task that says when it runs, and ends when it is told to. */
function task(name: string, events: string[]) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const run = async () => {
    events.push(`${name} begins`);
    await promise;
    events.push(`${name} ends`);
    return name;
  };
  return { run, end: resolve };
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 1));

test('tasks of one key run at the same time, those of another wait, in order', async () => {
  const events: string[] = [];
  const gate = createGate<string>({
    enter: (key) => events.push(`enter ${key}`),
    leave: () => events.push('leave'),
  });
  const tasks = ['a1', 'a2', 'b1', 'a3'].map((name) => ({ key: name[0], ...task(name, events) }));
  const results = tasks.map(({ key, run }) => gate({ key, run, signal: never }));
  await settle();
  // a3 came after b1, and does not overtake it.
  expect(events.splice(0)).toEqual(['enter a', 'a1 begins', 'a2 begins']);
  tasks[1].end();
  await settle();
  expect(events.splice(0)).toEqual(['a2 ends']);
  tasks[0].end();
  await settle();
  expect(events.splice(0)).toEqual(['a1 ends', 'leave', 'enter b', 'b1 begins']);
  for (const { end } of tasks) end();
  expect(await Promise.all(results)).toEqual(['a1', 'a2', 'b1', 'a3']);
  expect(events).toEqual(['b1 ends', 'leave', 'enter a', 'a3 begins', 'a3 ends', 'leave']);
});

test('a task that fails lets the next one in, and one that gives up waiting is not in the way', async () => {
  const events: string[] = [];
  const gate = createGate<string>();
  const failing = gate({
    key: 'a',
    run: () => settle().then(() => Promise.reject(new Error('no'))),
    signal: never,
  });
  const impatient = new AbortController();
  const givenUp = gate({ key: 'b', run: task('b', events).run, signal: impatient.signal });
  const last = gate({ key: 'a', run: async () => 'last', signal: never });
  impatient.abort();
  await expect(givenUp).rejects.toThrow(/abort/i);
  expect(await last).toBe('last');
  await expect(failing).rejects.toThrow('no');
  expect(events).toEqual([]);
  await expect(gate({ key: 'c', run: async () => 1, signal: impatient.signal })).rejects.toThrow(/abort/i);
});

test('turns: one after another for a key, independent of other keys', async () => {
  const events: string[] = [];
  const turns = createTurns();
  const tasks = ['a1', 'a2', 'b1'].map((name) => ({ key: name[0], ...task(name, events) }));
  const results = tasks.map(({ key, run }) => turns({ key, run, signal: never }));
  await settle();
  expect(events.splice(0)).toEqual(['a1 begins', 'b1 begins']);
  for (const { end } of tasks) end();
  await Promise.all(results);
  expect(events.indexOf('a1 ends')).toBeLessThan(events.indexOf('a2 begins'));
});
