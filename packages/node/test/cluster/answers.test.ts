import fs from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  findResolution,
  type Link,
  linkCodec,
  linkTo,
  openLocalStore,
  RAW,
  recordResolution,
  splitReceived,
} from '@lazytree/core';
import { expect, onTestFinished, test } from 'vitest';
import { directory, file, importSpec, pseudoRandom } from '../../../core/test/helpers.js';
import { type AnswerSources, createAnswering } from '../../src/cluster/exchange/answers.js';
import { Answer, Request } from '../../src/cluster/exchange/exchange.js';
import { REFS, REQUEST_BYTES } from '../../src/cluster/exchange/limits.js';
import { decodeLinks, encodeLinks } from '../../src/cluster/exchange/link-list.js';
import type { SignedRef } from '../../src/cluster/refs/signed-ref.js';

const bytes = (text: string) => Buffer.from(text);
const link = (text: string): Link => linkTo(RAW, bytes(text));

/** Asks over what would be the wire: messages are encoded and decoded again. */
async function answering(given: Partial<AnswerSources> = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'lazytree-answers-'));
  const store = await openLocalStore(join(directory, 'store'));
  onTestFinished(async () => {
    await store.close();
    await rm(directory, { recursive: true });
  });
  const answer = createAnswering({
    store,
    awaited: () => undefined,
    repair: () => undefined,
    refs: () => [],
    announced: () => undefined,
    resolved: (reference, integrity) => findResolution(store, reference, integrity),
    order: async () => [],
    urgently: (task) => task(),
    quiet: async () => undefined,
    ...given,
  });
  const { signal } = new AbortController();
  const ask = async (request: Partial<Request>): Promise<Answer[]> => {
    const answers: Answer[] = [];
    const decoded = Request.decode(Request.encode(request));
    for await (const part of answer(decoded, { peer: 'p', signal }))
      answers.push(Answer.decode(Answer.encode(part)));
    return answers;
  };
  return { store, ask };
}

test('a reference stands for what it was resolved to with this integrity, and for nothing else', async () => {
  const { store, ask } = await answering();
  await recordResolution(store, { reference: 'npm:a@1', integrity: 'sha512-x', root: link('root') });
  const [{ resolved }] = await ask({ resolve: { reference: 'npm:a@1', integrity: 'sha512-x' } });
  expect(decodeLinks(resolved, 1)).toEqual([link('root')]);
  expect(await ask({ resolve: { reference: 'npm:a@1', integrity: 'sha512-y' } })).toEqual([]);
  expect(await ask({ resolve: { reference: 'npm:b@1', integrity: 'sha512-x' } })).toEqual([]);
});

test('every link of a get is answered once, and one that is being fetched when it has come', async () => {
  const coming = Promise.withResolvers<boolean>();
  const { store, ask } = await answering({
    awaited: (wanted) => (wanted === link('late') ? coming.promise : undefined),
  });
  await store.put({ link: link('here'), bytes: bytes('here') });
  const links = encodeLinks(['here', 'absent', 'late'].map(link));
  const { records, missing } = await whole(ask({ get: { links, urgent: false, patient: false } }));
  expect([records, missing]).toEqual([[link('here')], [link('absent'), link('late')]]);
  const patient = whole(ask({ get: { links, urgent: true, patient: true } }));
  await store.put({ link: link('late'), bytes: bytes('late') });
  coming.resolve(true);
  expect(await patient).toEqual({ records: [link('here'), link('late')], missing: [link('absent')] });
});

async function whole(asked: Promise<Answer[]>): Promise<{ records: Link[]; missing: Link[] }> {
  const answers = await asked;
  return {
    records: answers.flatMap(({ records }) =>
      splitReceived(Buffer.from(records)).map((record) => record.link),
    ),
    missing: answers.flatMap((part) => decodeLinks(part.missing, 10)),
  };
}

test('a tree comes with its content when it holds no more than that', async () => {
  const { store, ask } = await answering();
  const entries = { a: file(pseudoRandom(3000, 1)), b: directory({ c: file(pseudoRandom(2000, 2)) }) };
  const root = await importSpec(store, directory(entries));
  const kinds = async (content?: number) => {
    const { records, missing } = await whole(
      ask({ tree: { root: encodeLinks([root]), have: new Uint8Array(), content: content ?? 0 } }),
    );
    expect(missing).toEqual([]);
    return records.map((one) => (linkCodec(one) === RAW ? 'content' : 'node')).join(' ');
  };
  expect(await kinds()).toBe('node node');
  expect(await kinds(4999)).toBe('node node');
  expect(await kinds(5000)).toBe('node node content content');
  const absent = await whole(
    ask({ tree: { root: encodeLinks([link('absent')]), have: new Uint8Array(), content: 5000 } }),
  );
  expect(absent).toEqual({ records: [], missing: [link('absent')] });
  const { segment, offset } = store.locate(root) ?? { segment: 0, offset: 0 };
  const descriptor = fs.openSync(store.segments.path(segment), 'r+');
  fs.writeSync(descriptor, Buffer.of(255, 255), 0, 2, offset + 60);
  fs.closeSync(descriptor);
  const damaged = await whole(
    ask({ tree: { root: encodeLinks([root]), have: new Uint8Array(), content: 5000 } }),
  );
  expect(damaged).toEqual({ records: [], missing: [root] });
});

test('have says what is here', async () => {
  const { store, ask } = await answering();
  await store.put({ link: link('here'), bytes: bytes('here') });
  const [{ present }] = await ask({ have: { links: encodeLinks(['here', 'absent'].map(link)) } });
  expect(decodeLinks(present, 2)).toEqual([link('here')]);
});

test('many refs come in messages that are taken', async () => {
  const refs: SignedRef[] = Array.from({ length: 2 * REFS + 1 }, (_, i) => ({
    statement: Buffer.alloc(500, i),
    signature: Buffer.alloc(64),
  }));
  const { ask } = await answering({ refs: () => refs });
  const answers = await ask({ refs: { name: '', owner: '' } });
  expect(answers.map((part) => part.refs.length)).toEqual([REFS, REFS, 1]);
  for (const part of answers) expect(Answer.encode(part).length).toBeLessThan(REQUEST_BYTES);
});

test('an unknown request is refused', async () => {
  const { ask } = await answering();
  expect(await ask({})).toMatchObject([{ refusal: 'an unknown request' }]);
});
