import { expect, test } from 'vitest';
import { BIN, pseudoRandom, type Result, type Sandbox, sandbox, start, writeFiles } from './helpers.ts';

function makeSource(box: Sandbox, name: string): void {
  const files = Array.from({ length: 150 }, (_, i) => [
    `d${i % 7}/${name}-${i}`,
    // Some blocks are the same in both.
    i % 3 === 0 ? `shared ${i}\n` : pseudoRandom(500 + i * 40, `${name} ${i}`),
  ]);
  writeFiles(box.path(name), Object.fromEntries(files));
}

test('two imports at the same time into a home that is not there yet', async () => {
  const outcomes: string[] = [];
  for (let round = 0; round < 10; round++) {
    const box = sandbox();
    const sources = round % 2 === 0 ? ['one', 'two'] : ['one', 'one'];
    for (const source of new Set(sources)) makeSource(box, source);
    const started = sources.map((source, i) =>
      start([process.execPath, BIN, 'import', source, '--name', `ref${i}`], {
        home: box.home,
        cwd: box.directory,
      }),
    );
    const pids = started.map(({ child }) => child.pid);
    const results = await Promise.all(started.map(({ ended }) => ended));
    outcomes.push(results.map(({ code }) => code).join(' and '));
    expect(results.map(({ code }) => code)).toContain(0);
    for (const [i, result] of results.entries()) expectDoneOrLocked(result, pids[1 - i] as number);

    // The store is sound and has exactly the refs of those that succeeded; who was locked out succeeds now.
    const { refs } = await box.json<{ refs: { name: string; root: string }[] }>('ref', 'list');
    const expected = results.flatMap(({ code, out }, i) =>
      code === 0 ? [{ name: `ref${i}`, root: out.trim() }] : [],
    );
    expect(refs.map(({ name, root }) => ({ name, root }))).toEqual(expected);
    const late = results.findIndex(({ code }) => code !== 0);
    if (late >= 0) {
      const root = await box.ok('import', sources[late], '--name', `ref${late}`);
      expect((await box.ok('ls', '-R', root)).split('\n')).toHaveLength(157);
    }
    expect(await box.json('verify')).toMatchObject({ sound: true });
  }
  console.log(`two imports at once: ${outcomes.join(', ')}`);
});

function expectDoneOrLocked({ code, out, err }: Result, other: number): void {
  if (code === 0)
    expect({ out, err }).toEqual({ out: expect.stringMatching(/^baf[a-z2-7]{56}\n$/), err: '' });
  else {
    expect({ code, out }).toEqual({ code: 6, out: '' });
    expect(err).toMatch(/^lazytree: the store [^\n]* is locked by [^\n]*\n$/);
    expect(err).toContain(`process ${other}`);
  }
}
