import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beginSurvey, createMemoryStore, importTree, type Survey } from '@lazytree/core';
import { describe, expect, it, vi } from 'vitest';
import { helpSurvey } from '../dist/import/survey-helper.js';
import { createSurveyWalk, isUnchanged, type SurveyData } from '../dist/import/survey-walk.js';
import { type DirectorySpec, directory, file, manyFiles, temporaryDirectory, writeTree } from './helpers.js';

/** Longer than the time for which a change can hide behind an equal time stamp. */
const settle = () => sleep(60);

/** A directory that was imported, and long enough ago for its cache to be trusted. */
async function imported(spec: DirectorySpec) {
  const base = await temporaryDirectory();
  const [source, statCache] = [join(base, 'source'), join(base, 'cache')];
  writeTree(source, spec);
  await settle();
  const store = createMemoryStore();
  const run = (survey?: Survey) => importTree(store, source, { statCache, survey });
  await run();
  return { source, statCache, run };
}

async function rootOf(source: string) {
  return (await importTree(createMemoryStore(), source)).root;
}

async function surveyed(source: string, statCache: string): Promise<Survey> {
  const survey = beginSurvey(source, statCache);
  if (!survey) throw new Error('no survey');
  await survey.finish();
  return survey;
}

const isRootUnchanged = (survey: Survey) => survey.isUnchanged(survey.cache.rootRecord);

describe('a survey', () => {
  it.each([50, 4500])('of %d files finds out whether anything has changed', async (count) => {
    const { source, statCache } = await imported(manyFiles(count, { size: 10 }));
    const before = await surveyed(source, statCache);
    expect(isRootUnchanged(before)).toBe(true);
    before.stop();
    const [last] = fs.readdirSync(source).sort().reverse();
    const [name] = fs.readdirSync(join(source, last)).sort().reverse();
    fs.appendFileSync(join(source, last, name), 'x');
    const after = await surveyed(source, statCache);
    expect(isRootUnchanged(after)).toBe(false);
    after.stop();
  });

  it('says nothing of what it has not looked at', async () => {
    const { source, statCache } = await imported(manyFiles(50));
    const survey = beginSurvey(source, statCache);
    expect(survey && isRootUnchanged(survey)).toBe(false);
    survey?.stop();
    await survey?.finish();
    expect(survey && isRootUnchanged(survey)).toBe(false);
  });

  it('that begins ahead comes to its end by itself', async () => {
    const { source, statCache } = await imported(manyFiles(50));
    const survey = beginSurvey(source, statCache, { ahead: true });
    await vi.waitFor(() => expect(survey && isRootUnchanged(survey)).toBe(true));
    survey?.stop();
  });

  it('that does not look has the cache, and takes nothing for unchanged', async () => {
    const { source, statCache } = await imported(manyFiles(50));
    const survey = beginSurvey(source, statCache, { looks: false });
    await survey?.finish();
    expect(survey?.cache.root).toBe(await rootOf(source));
    expect(survey && isRootUnchanged(survey)).toBe(false);
    survey?.stop();
  });

  it('whose cache another import has changed meanwhile is not believed', async () => {
    const { source, statCache, run } = await imported(manyFiles(50));
    const survey = await surveyed(source, statCache);
    fs.writeFileSync(join(source, 'new'), 'new');
    await run();
    expect((await run(survey)).root).toBe(await rootOf(source));
  });

  it('whose cache is gone is not believed', async () => {
    const { source, statCache, run } = await imported(manyFiles(50));
    const survey = await surveyed(source, statCache);
    fs.rmSync(statCache);
    const { root, read } = await run(survey);
    expect([root, read]).toEqual([await rootOf(source), 50]);
  });

  it('of another directory does no harm', async () => {
    const { run, source } = await imported(manyFiles(50));
    const other = await imported(manyFiles(50, { seed: 1 }));
    const survey = await surveyed(other.source, other.statCache);
    expect((await run(survey)).root).toBe(await rootOf(source));
  });

  it('spares what is below a directory with another name in it', async () => {
    const { source, run } = await imported(directory({ a: manyFiles(30), f: file('f') }));
    fs.writeFileSync(join(source, 'g'), 'g');
    const { root, read } = await run();
    expect([root, read]).toEqual([await rootOf(source), 1]);
  });

  it('does not spare what other ignore rules may leave out', async () => {
    const { source, run } = await imported(directory({ a: directory({ b: manyFiles(30) }), f: file('f') }));
    fs.writeFileSync(join(source, '.lazytreeignore'), 'f1*\n');
    const { root, files } = await run();
    expect([root, files]).toEqual([await rootOf(source), 21]);
  });
});

describe('two walks', () => {
  /** The cache of a directory, as threads share it. */
  async function data(): Promise<SurveyData> {
    const { source, statCache } = await imported(
      directory({
        a: directory({ b: manyFiles(40, { perDirectory: 4 }) }),
        c: manyFiles(40, { perDirectory: 4 }),
      }),
    );
    const survey = beginSurvey(source, statCache);
    if (!survey?.cache.shared) throw new Error('no cache');
    const { rootRecord, trusted, length, shared } = survey.cache;
    survey.stop();
    const marks = new SharedArrayBuffer((length >>> 5) + 2);
    return { root: source, cache: shared, rootRecord, trusted, marks };
  }
  const unchanged = ({ marks, rootRecord }: SurveyData) =>
    isUnchanged(new Uint8Array(marks)[rootRecord.offset >>> 5]);

  it('meet wherever either of them is', async () => {
    const shared = await data();
    for (let ahead = 0; ahead < 60; ahead++) {
      new Uint8Array(shared.marks).fill(0);
      const helper = createSurveyWalk(shared, { helper: true });
      const main = createSurveyWalk(shared, { helper: false });
      for (let i = 0; i < ahead; i++) helper.step();
      while (main.step()) if (ahead % 2) helper.step();
      expect(unchanged(shared), `the helper was ${ahead} steps ahead`).toBe(true);
      expect(main.seen() + helper.seen()).toBeLessThan(2 * 80);
    }
  });

  it('are helped by one thread, time after time', async () => {
    const shared = await data();
    for (let time = 0; time < 3; time++) {
      const again = { ...shared, marks: new SharedArrayBuffer(shared.marks.byteLength) };
      helpSurvey(again);
      await vi.waitFor(() => expect(unchanged(again)).toBe(true));
    }
  });

  it('through damaged bytes end, and take nothing for unchanged', async () => {
    const shared = await data();
    const bytes = Buffer.from(shared.cache);
    for (let at = 112; at < bytes.length; at += 13) {
      new Uint8Array(shared.marks).fill(0);
      bytes[at] ^= 0x41;
      for (const helper of [true, false]) {
        const walk = createSurveyWalk(shared, { helper });
        while (walk.step());
      }
      bytes[at] ^= 0x41;
      expect(unchanged(shared), `a damaged byte ${at}`).toBe(false);
    }
  });
});
