import { formatLink, type LazytreeError } from '@lazytree/core';
import { beforeAll, describe, expect, it } from 'vitest';
import { errorOf, exportDescription } from '../../../core/test/helpers.js';
import type { OriginDriver } from '../../src/origins/driver.js';
import { type ContextOptions, driverContext } from './driver-context.js';

/** A driver, and something real for it to fetch from. */
export interface DriverCase extends Pick<ContextOptions, 'environment' | 'directory'> {
  driver: OriginDriver;
  /** Texts of one reference, which all have the same canonical form. */
  texts: readonly string[];
  /** Texts that are no references. */
  bad: readonly string[];
  /** What the reference stands for, as describeDirectory puts it. */
  expected: readonly string[];
  /** A reference of something that is not there. */
  missing?: string;
  /** Another integrity in the driver's own manner, which the content does not have. */
  wrongIntegrity: string;
  /** What is fetched from, if it is a server: as it answers from now on. */
  server?: {
    /** Requests that it has had. */
    requests(): number;
    /** Takes requests and says nothing, until the function returned is called. */
    stall(): () => void;
    /** Breaks off in the middle of each body, until the function returned is called. */
    breakOff?(): () => void;
  };
  /** Never to be told to anyone. */
  secrets?: readonly string[];
}

/** What every driver of origins has to do. */
export function driverConformance(name: string, prepare: () => Promise<DriverCase>): void {
  describe(`the driver ${name}`, () => {
    let given: DriverCase;
    beforeAll(async () => {
      given = await prepare();
    });

    const context = (options: ContextOptions = {}) =>
      driverContext({
        ...(given.environment && { environment: given.environment }),
        ...(given.directory && { directory: given.directory }),
        ...options,
      });
    const parse = (text: string) => given.driver.parse(text, { directory: given.directory ?? '/' });

    function expectClear(error: LazytreeError, codes: readonly string[]): void {
      expect(codes).toContain(error.code);
      expect(error.message).not.toContain('\n');
      for (const secret of given.secrets ?? [])
        expect(`${error.message} ${error.hint}`).not.toContain(secret);
    }

    it('says what it is', () => {
      expect(given.driver.name).toMatch(/^[a-z][a-z0-9+.-]*$/);
      expect(given.driver.summary).toContain(`${given.driver.name}:`);
    });

    it('has one canonical form for texts that mean the same, and refuses what it does not understand', async () => {
      const [first, ...rest] = given.texts.map(parse);
      for (const other of rest) expect(other).toBe(first);
      expect(parse(first)).toBe(first);
      for (const text of given.bad) {
        expectClear((await errorOf(() => parse(text))) as LazytreeError, ['USAGE']);
      }
    });

    it('fetches what is there, and the same everywhere', async () => {
      const roots = new Set<string>();
      const integrities = new Set<string>();
      for (let i = 0; i < 2; i++) {
        const at = await context();
        const pin = await given.driver.pin(parse(given.texts[0]), at);
        expect(parse(pin.reference)).toBe(pin.reference);
        const { entry, integrity, notes } = await given.driver.fetch(pin, at);
        if (pin.integrity !== undefined) expect(integrity).toBe(pin.integrity);
        expect(integrity).not.toBe('');
        expect(notes.every((note) => !note.includes('\n'))).toBe(true);
        expect(await exportDescription(at.store, entry.link)).toEqual(given.expected);
        expect(at.open()).toBe(0);
        if (given.server) expect(at.received.bytes * at.received.requests).toBeGreaterThan(0);
        roots.add(formatLink(entry.link));
        integrities.add(integrity);
        // Pinned once more, with what is known now.
        const again = await given.driver.fetch({ reference: pin.reference, integrity }, at);
        expect(formatLink(again.entry.link)).toBe(formatLink(entry.link));
      }
      expect([roots.size, integrities.size]).toEqual([1, 1]);
    });

    it('takes nothing that is not what its integrity says', async () => {
      const at = await context();
      const { reference } = await given.driver.pin(parse(given.texts[0]), at);
      const error = await errorOf(given.driver.fetch({ reference, integrity: given.wrongIntegrity }, at));
      expectClear(error as LazytreeError, ['CORRUPT', 'NOT_FOUND']);
      expect(at.open()).toBe(0);
    });

    it('says what is not there, and what to do', async () => {
      if (given.missing === undefined) return;
      const at = await context();
      const reference = parse(given.missing);
      const error = (await errorOf(async () => {
        await given.driver.fetch(await given.driver.pin(reference, at), at);
      })) as LazytreeError;
      expectClear(error, ['NOT_FOUND']);
      expect(at.open()).toBe(0);
    });

    it('ends when it is told to', async () => {
      const stop = new AbortController();
      stop.abort(new Error('enough'));
      const at = await context({ signal: stop.signal });
      const reference = parse(given.texts[0]);
      await expect(
        given.driver.pin(reference, at).then((pin) => given.driver.fetch(pin, at)),
      ).rejects.toThrow();
      expect(at.open()).toBe(0);
    });

    it('ends in the middle of a request', async () => {
      if (!given.server) return;
      const go = given.server.stall();
      try {
        const stop = new AbortController();
        const at = await context({ signal: stop.signal });
        const reference = parse(given.texts[0]);
        const work = given.driver.pin(reference, at).then((pin) => given.driver.fetch(pin, at));
        setTimeout(() => stop.abort(new Error('enough')), 200);
        const began = performance.now();
        await expect(work).rejects.toThrow();
        expect(performance.now() - began).toBeLessThan(5000);
        expect(at.open()).toBe(0);
      } finally {
        go();
      }
    });

    it('stores nothing of what breaks off', { timeout: 60_000 }, async () => {
      if (!given.server?.breakOff) return;
      const good = await context();
      const pin = await given.driver.pin(parse(given.texts[0]), good);
      const mend = given.server.breakOff();
      try {
        const at = await context();
        const error = await errorOf(given.driver.fetch(pin, at));
        expectClear(error as LazytreeError, ['NETWORK', 'CORRUPT']);
        expect(at.open()).toBe(0);
      } finally {
        mend();
      }
    });
  });
}
