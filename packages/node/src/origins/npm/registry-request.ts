import { LazytreeError } from '@lazytree/core/errors';
import registryFetch from 'npm-registry-fetch';
import { tryAgain } from '../../remotes/storage/try-again.js';
import type { OriginContext } from '../driver.js';
import { agentsOf } from './agents.js';
import type { NpmConfig } from './npm-config.js';
import { createPlaces } from './places.js';
import { judgeRegistryFailure } from './registry-failure.js';

/** Answers that are under way at a time, in this process. */
const places = createPlaces(24);
const MAX_METADATA = 512 << 20;

export interface RegistryRequest {
  url: string;
  /** The package, for errors: `react@18.2.0`. */
  what: string;
  config: NpmConfig;
  context: RequestContext;
}

export type RequestContext = Pick<
  OriginContext,
  'signal' | 'isAhead' | 'cacheDirectory' | 'onProgress' | 'onReceived'
>;

export interface RegistryAnswer {
  status: number;
  header(name: string): string | undefined;
  body: AsyncIterable<Uint8Array>;
}

/**
 * Takes an answer as often as it needs to, until `take` has it: after a failure on the way `take` is called again, and may
 * ask for what it lacks.
 *
 * @param headers of each attempt
 * @throws LazytreeError NOT_FOUND, REFUSED, NETWORK, and what `take` throws if that is one
 */
export function takeAnswer<T>(
  { url, what, config, context }: RegistryRequest,
  {
    headers,
    take,
  }: { headers(): Record<string, string>; take(answer: RegistryAnswer, progressed: () => void): Promise<T> },
): Promise<T> {
  const { signal } = context;
  return places(
    () =>
      tryAgain(
        async (progressed) => {
          const attempt = new AbortController();
          const answer = await registryFetch(url, {
            ...config,
            agent: agentsOf(config),
            headers: headers(),
            retry: { retries: 0 },
            signal: AbortSignal.any([signal, attempt.signal]),
          });
          try {
            return await take(
              {
                status: answer.status,
                header: (name) => answer.headers.get(name) ?? undefined,
                body: answer.body,
              },
              progressed,
            );
          } catch (error) {
            // What has not been read of it would keep its connection for ever.
            attempt.abort();
            throw error;
          }
        },
        { signal, limits: limitsOf(config), judge: (error) => judgeRegistryFailure(error, { url, what }) },
      ),
    context,
  );
}

function limitsOf({ retry }: NpmConfig) {
  const { retries = 2 } = (retry ?? {}) as { retries?: number };
  return { attempts: 1 + retries, withinMs: 120_000, pauseMs: 200, longestPauseMs: 10_000 };
}

/** @throws LazytreeError as `takeAnswer`, and CORRUPT when it is no JSON */
export async function readJson(request: RegistryRequest, accept: string): Promise<unknown> {
  const { context, what } = request;
  const bytes = await takeAnswer(request, {
    headers: () => ({ accept }),
    async take({ body }) {
      const pieces: Uint8Array[] = [];
      let length = 0;
      for await (const piece of body) {
        pieces.push(piece);
        length += piece.length;
        if (length > MAX_METADATA)
          throw new LazytreeError('UNSUPPORTED', `the description of ${what} is too long`);
      }
      context.onReceived(length, 1);
      return Buffer.concat(pieces);
    },
  });
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new LazytreeError('CORRUPT', `the description of ${what} is not JSON`, {
      cause,
      hint: 'look at which registry .npmrc names: it may be a page of a proxy',
    });
  }
}
