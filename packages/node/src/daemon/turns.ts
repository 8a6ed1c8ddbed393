import { createGate, type Gate, type GateTask } from './gate.js';

/** Runs tasks of one key one after another, in the order in which they came. */
export type Turns = <T>(task: GateTask<string, T>) => Promise<T>;

export function createTurns(): Turns {
  const queues = new Map<string, { gate: Gate<symbol>; users: number }>();
  return async ({ key, run, signal }) => {
    const queue = queues.get(key) ?? { gate: createGate<symbol>(), users: 0 };
    queues.set(key, queue);
    queue.users += 1;
    try {
      return await queue.gate({ key: Symbol(key), run, signal });
    } finally {
      queue.users -= 1;
      if (queue.users === 0) queues.delete(key);
    }
  };
}
