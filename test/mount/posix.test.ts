import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT, type Sandbox, sandbox, start } from '../helpers.ts';
import { stopDaemon, unlessMountable } from './mountable.ts';
import { writeFixture } from './posix-fixture.ts';
import { type PosixSuite, READING, REFUSING, WRITING } from './posix-suite.ts';

type Results = Record<string, string | null>;

const SUITES = { READING, REFUSING, WRITING };

describe.skipIf(unlessMountable('the POSIX suite'))('as POSIX has it:', () => {
  let box: Sandbox;

  beforeAll(async () => {
    box = sandbox();
    writeFixture(box.path('fixture'));
    fs.mkdirSync(box.path('fixtures'));
    for (const name of Object.keys(WRITING)) writeFixture(`${box.path('fixtures')}/${name}`);
    await box.ok('import', 'fixture', '--name', 'fixture');
    await box.ok('import', 'fixtures', '--name', 'fixtures');
    await box.ok('mount', 'fixture', 'mount');
    await box.ok('workspace', 'create', 'reading', '--from', 'fixture');
    await box.ok('workspace', 'create', 'writing', '--from', 'fixtures');
  });

  afterAll(() => stopDaemon(box));

  /** Runs a suite in a process of its own, and has a test for each of its functions. */
  function suite(title: string, name: keyof typeof SUITES, directory: string) {
    describe(title, () => {
      let results: Results = {};

      beforeAll(async () => {
        const runner = `${ROOT}/test/mount/posix-run.ts`;
        const { ended } = start([process.execPath, runner, name, box.path(directory)], { home: box.home });
        const { out, err } = await ended;
        expect(err).toBe('');
        results = JSON.parse(out);
      });

      test.each(Object.keys(SUITES[name] as PosixSuite))('%s', (check) => {
        expect(results[check], results[check] ?? '').toBe(null);
      });
    });
  }

  suite('a mount, read', 'READING', 'mount');
  suite('a mount, not to be written', 'REFUSING', 'mount');
  suite('a workspace, read', 'READING', 'reading');
  suite('a workspace, written', 'WRITING', 'writing');
  // The same is expected of what is known to be right: this tests the tests. It changes what was imported, and so is last.
  suite('the disk, read', 'READING', 'fixture');
  suite('the disk, written', 'WRITING', 'fixtures');
});
