import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { afterwards, FAST, temporaryDirectory } from './helpers.js';
import { IN_NAMESPACE, NOBODY, whyNoOverlay, whyNoUserOverlay } from './overlay-obstacles.js';
import { type Operation, play, type Scenario, type Step } from './overlay-workspace.js';

/** As many scenarios of each sort; more with LAZYTREE_TEST_OVERLAY_RUNS. */
const RUNS = Number(process.env.LAZYTREE_TEST_OVERLAY_RUNS ?? 25);

const name = fc.constantFrom('a', 'b', 'c', 'd');
const path = fc.oneof(
  fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join('/')),
  // There at the beginning, see FIRST.
  fc.constantFrom('a', 'a/b', 'a/b/c', 'b', 'b/c', 'a/a', 'a/b/a', 'a/b/c/a', 'b/a', 'b/d', 'c', 'a/d'),
);
const size = fc.constantFrom(0, 1, 20, 5000, 70_000, 300_000);
const mode = fc.constantFrom(0o755, 0o644, 0o700);
const target = fc.constantFrom('a', '../b', '/c');
const rules = fc.constantFrom('', 'a', 'b/', '/c', 'a/b', '!a', '*\n!b\n!c', '.lazytreeignore');
const directories = fc.oneof(
  { weight: 3, arbitrary: path },
  { weight: 1, arbitrary: fc.constantFrom('.', 'a', 'a/b', 'b') },
);

const some = <T>(weight: number, arbitrary: fc.Arbitrary<T>) => ({ weight, arbitrary });
const one = <T extends string>(...kinds: T[]) => fc.constantFrom(...kinds);

const operationArbitrary: fc.Arbitrary<Operation> = fc.oneof(
  some(7, fc.record({ do: one('write', 'append', 'truncate'), path, number: size })),
  some(12, fc.record({ do: one('mkdir', 'unlink', 'rmdir', 'remove', 'touch', 'replace', 'remake'), path })),
  some(9, fc.record({ do: one('rename', 'rename', 'rename', 'link'), path, text: path })),
  some(2, fc.record({ do: one('symlink'), path, text: target })),
  some(4, fc.record({ do: one('chmod'), path, number: mode })),
);
const rulesArbitrary: fc.Arbitrary<Operation> = fc.record({
  do: one('rules'),
  path: directories,
  text: rules,
});
const pauseArbitrary: fc.Arbitrary<Step> = fc.record({ pause: one('save', 'save', 'remount', 'restack') });

/** Something at every depth, so that most operations are possible. */
const FIRST: Operation[] = [
  ...['a', 'a/b', 'a/b/c', 'b', 'b/c', 'd'].map((at): Operation => ({ do: 'mkdir', path: at })),
  ...['a/a', 'a/b/a', 'a/b/c/a', 'b/a', 'b/d', 'c'].map(
    (at): Operation => ({ do: 'write', path: at, number: 30 }),
  ),
  { do: 'write', path: 'a/d', number: 300_000 },
];

function scenarioArbitrary(withRules: boolean): fc.Arbitrary<Scenario> {
  const operation = withRules
    ? fc.oneof(some(6, operationArbitrary), some(1, rulesArbitrary))
    : operationArbitrary;
  return fc.record({
    base: fc.array(operation, { maxLength: 30 }).map((more) => [...FIRST, ...more]),
    steps: fc.array(fc.oneof(some(8, operation as fc.Arbitrary<Step>), some(1, pauseArbitrary)), {
      minLength: 1,
      maxLength: 25,
    }),
    preserve: fc.boolean(),
  });
}

type Player = (scenario: Scenario) => Promise<string[]>;

async function forAll(withRules: boolean, player: Player): Promise<void> {
  const property = fc.asyncProperty(scenarioArbitrary(withRules), async (scenario) => {
    expect(await player(scenario)).toEqual([]);
  });
  await fc.assert(property, { numRuns: RUNS });
}

/** Skipped, with the reason in the name, where it is impossible. */
function possibly(problem: string | undefined, title: string, test: () => Promise<void>): void {
  if (problem) it.skip(`NOT TESTED: ${problem}: ${title}`, () => undefined);
  else it(title, test, 60_000 + RUNS * 5000);
}

describe('after any operations, saving equals importing what the mount shows', () => {
  for (const withRules of [false, true]) {
    const suffix = withRules ? ', with ignore rules' : '';
    possibly(whyNoOverlay(), `as root${suffix}`, async () => {
      const parent = await temporaryDirectory(FAST);
      await forAll(withRules, async (scenario) => {
        const directory = fs.mkdtempSync(join(parent, 'run-'));
        try {
          return await play(scenario, directory, 'trusted');
        } finally {
          fs.rmSync(directory, { recursive: true });
        }
      });
    });

    possibly(whyNoUserOverlay(), `in a user namespace${suffix}`, async () => {
      const parent = await temporaryDirectory();
      fs.chownSync(parent, NOBODY, NOBODY);
      const script = fileURLToPath(new URL('./overlay-player.ts', import.meta.url));
      const [program, ...args] = [...IN_NAMESPACE, process.execPath, script, parent];
      const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
      afterwards(() => child.kill());
      const outcomes = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      await forAll(withRules, async (scenario) => {
        child.stdin.write(`${JSON.stringify(scenario)}\n`);
        const { value, done } = await outcomes.next();
        return done ? ['the player has ended'] : (JSON.parse(value) as string[]);
      });
      child.stdin.end();
    });
  }
});
