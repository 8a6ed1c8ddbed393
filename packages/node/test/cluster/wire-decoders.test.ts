import { formatLink, LazytreeError, type Link, linkTo, RAW } from '@lazytree/core';
import { generateKeyPair } from '@libp2p/crypto/keys';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Answer, Request } from '../../src/cluster/exchange/exchange.js';
import { REFS } from '../../src/cluster/exchange/limits.js';
import { decodeLinks, encodeLinks } from '../../src/cluster/exchange/link-list.js';
import { newClusterKey } from '../../src/cluster/membership/cluster-key.js';
import { createToken, parseToken } from '../../src/cluster/membership/invitation.js';
import { signRef, verifyRef } from '../../src/cluster/refs/signed-ref.js';

const link = (text: string): Link => linkTo(RAW, Buffer.from(text));

describe('lists of links', () => {
  test('come back', () => {
    const links = ['a', 'b', 'c'].map(link);
    expect(decodeLinks(encodeLinks(links), 3).map(formatLink)).toEqual(links.map(formatLink));
    expect(decodeLinks(new Uint8Array(), 3)).toEqual([]);
  });

  test('too many, or what are none, are errors of the network', () => {
    const links = encodeLinks(['a', 'b'].map(link));
    for (const bytes of [links, links.subarray(1), Buffer.alloc(33)]) {
      expect(() => decodeLinks(bytes, 1)).toThrow(LazytreeError);
    }
  });

  test('any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(Buffer.from(encodeLinks(decodeLinks(bytes, 4)))).toEqual(Buffer.from(bytes));
        } catch (error) {
          expect(error).toMatchObject({ code: 'NETWORK' });
        }
      }),
    );
  });
});

/** A message that is whole, with some of its bytes others. */
const damaged = (valid: Uint8Array) =>
  fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }).map((changes) => {
    const bytes = Uint8Array.from(valid);
    for (const [at, value] of changes) bytes[at] = value;
    return bytes;
  });

describe('requests and answers', () => {
  const links = encodeLinks(['a', 'b'].map(link));
  const refs = [{ statement: Uint8Array.of(1, 2), signature: Uint8Array.of(3) }];
  const request = Request.encode({
    announce: {
      name: 'a',
      refs,
      complete: links,
      partial: new Uint8Array(),
      addresses: ['/ip4/1.2.3.4/tcp/5'],
      leaving: false,
    },
  });
  const answer = Answer.encode({ end: true, records: Uint8Array.of(1, 2, 3), missing: links, refs });

  test.each([
    [
      'request',
      request,
      (bytes: Uint8Array) => void Request.decode(bytes, { limits: { announce: { refs: REFS } } }),
    ],
    ['answer', answer, (bytes: Uint8Array) => void Answer.decode(bytes, { limits: { refs: REFS } })],
  ])('a %s of any bytes is one, or an Error', (_, valid, decode) => {
    const anyBytes = fc.oneof(fc.uint8Array({ maxLength: 300 }), damaged(valid));
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        try {
          decode(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(Error);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('more refs than are taken are refused', () => {
    const many = Answer.encode({ refs: Array.from({ length: REFS + 1 }, () => refs[0]) });
    expect(() => Answer.decode(many, { limits: { refs: REFS } })).toThrow(/too many/);
  });
});

describe('invitations', () => {
  const expires = Math.floor(Date.now() / 1000) * 1000 + 60_000;
  const options = { key: newClusterKey(), addresses: ['/ip4/10.0.0.1/tcp/1/p2p/x'], expires };

  test('come back', () => {
    const token = createToken(options);
    expect(token).toMatch(/^lazytree1-[\w-]+$/);
    expect(parseToken(`${token}\n`)).toMatchObject({ addresses: options.addresses, expires });
    expect(createToken(options)).not.toBe(token);
  });

  test('are refused when their time is over', () => {
    expect(() => parseToken(createToken(options), expires)).toThrow(/expired/);
  });

  test('any text', () => {
    const token = createToken(options);
    const other = fc
      .tuple(fc.nat(token.length - 1), fc.constantFrom(...'aA0_-'))
      .map(([at, letter]) => token.slice(0, at) + letter + token.slice(at + 1));
    fc.assert(
      fc.property(fc.oneof(fc.string(), other), (text) => {
        try {
          parseToken(text);
        } catch (error) {
          expect(['USAGE', 'REFUSED']).toContain((error as LazytreeError).code);
        }
      }),
    );
  });
});

describe('signed refs', () => {
  const ref = { ownerName: 'a', name: 'app', root: link('root'), sequence: 3, time: 1_700_000_000_000 };

  test('say whose they are, and what they were signed as', async () => {
    const key = await generateKeyPair('Ed25519');
    const signed = await signRef(key, ref);
    const { root, owner, ...rest } = (await verifyRef(signed)) ?? {};
    expect(rest).toEqual({ ownerName: 'a', name: 'app', sequence: 3, time: ref.time });
    expect(root).toBe(ref.root);
    expect(owner).toMatch(/^12D3KooW/);
    const removed = await signRef(key, { ...ref, root: undefined });
    expect((await verifyRef(removed))?.root).toBeUndefined();
  });

  test('with any other byte are nobody’s', async () => {
    const key = await generateKeyPair('Ed25519');
    const signed = await signRef(key, ref);
    const other = await signRef(await generateKeyPair('Ed25519'), ref);
    expect(await verifyRef({ ...signed, signature: other.signature })).toBeUndefined();
    for (const part of ['statement', 'signature'] as const) {
      for (let at = 0; at < signed[part].length; at += 5) {
        const bytes = Uint8Array.from(signed[part]);
        bytes[at] ^= 1;
        expect(await verifyRef({ ...signed, [part]: bytes })).toBeUndefined();
      }
    }
  });

  test.each([
    ['a name that is none', { name: '../x' }],
    ['a peer’s name that drives a terminal', { ownerName: '\u001b[2J' }],
    ['no sequence', { sequence: 0 }],
  ])('%s is not taken', async (_, change) => {
    const key = await generateKeyPair('Ed25519');
    expect(await verifyRef(await signRef(key, { ...ref, ...change }))).toBeUndefined();
  });
});
