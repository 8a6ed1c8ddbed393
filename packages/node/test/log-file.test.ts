import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog, openLogFile } from '@lazytree/node/daemon';
import { afterAll, expect, test } from 'vitest';

const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-log-'));
afterAll(() => fs.rmSync(directory, { recursive: true }));

test('a log that has become long gives way to a new one, and there are never more than two', () => {
  const file = join(directory, 'daemon.log');
  const log = openLogFile(file, 1000);
  const line = (i: number) => `${String(i).padStart(99, '0')}\n`;
  for (let i = 0; i < 35; i++) log.write(line(i));
  expect(fs.readdirSync(directory).sort()).toEqual(['daemon.log', 'daemon.log.1']);
  expect(fs.readFileSync(`${file}.1`, 'utf8')).toBe(
    Array.from({ length: 10 }, (_, i) => line(i + 20)).join(''),
  );
  expect(fs.readFileSync(file, 'utf8')).toBe(Array.from({ length: 5 }, (_, i) => line(i + 30)).join(''));
  // One that is opened again goes on.
  for (let i = 35; i < 41; i++) openLogFile(file, 1000).write(line(i));
  expect(fs.readFileSync(file, 'utf8')).toBe(line(40));
});

test('lines are JSON with level, time, process and what went wrong', () => {
  const lines: string[] = [];
  const log = createLog({ write: (line) => lines.push(line) }, 'info');
  log.debug('not wanted');
  log.error({ err: new Error('bad') }, 'it failed');
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    {
      level: 'error',
      time: expect.stringMatching(/^\d{4}-.*Z$/),
      pid: process.pid,
      err: { type: 'Error', message: 'bad', stack: expect.stringContaining('log-file.test') },
      msg: 'it failed',
    },
  ]);
});
