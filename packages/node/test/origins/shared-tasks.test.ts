import { expect, test } from 'vitest';
import { createSharedTasks, type TaskContext } from '../../src/origins/shared-tasks.js';

test('a task that is wanted ahead is demanded as long as somebody waits for it', async () => {
  const tasks = createSharedTasks<string>();
  const end = Promise.withResolvers<string>();
  let task: TaskContext | undefined;
  const join = (signal: AbortSignal, ahead: boolean) =>
    tasks.join('a', { signal, ahead }, (context) => {
      task = context;
      return end.promise;
    });
  const first = join(new AbortController().signal, true);
  expect(task?.isAhead()).toBe(true);
  const gone = new AbortController();
  const second = join(gone.signal, false);
  expect(task?.isAhead()).toBe(false);
  gone.abort(new Error('gone'));
  await expect(second).rejects.toThrow('gone');
  expect(task?.isAhead()).toBe(true);
  end.resolve('done');
  expect(await first).toEqual({ value: 'done', joined: false });
});
