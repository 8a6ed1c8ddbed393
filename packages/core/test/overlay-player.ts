import fs from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { play, type Scenario } from './overlay-workspace.ts';

// Plays scenarios in a user namespace of its own: one as JSON on each line of stdin, its outcome on one of stdout.
const [parent] = process.argv.slice(2);
for await (const line of createInterface({ input: process.stdin })) {
  const directory = fs.mkdtempSync(join(parent, 'run-'));
  const outcome = await play(JSON.parse(line) as Scenario, directory, 'user').catch((error: unknown) => [
    error instanceof Error ? String(error.stack) : String(error),
  ]);
  fs.rmSync(directory, { recursive: true, force: true });
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
