import { LazytreeError } from '@lazytree/core';

const BLOCK = 512;
const TYPE_AT = 156;
const GLOBAL_HEADER = 'g';
const COMMENT = /^\d+ comment=([0-9a-f]{40}|[0-9a-f]{64})\n/;

/**
 * An archive of git, which says at its beginning what commit it is of (`git get-tar-commit-id`).
 *
 * @throws LazytreeError CORRUPT, from the stream and before anything else of it, when that is another one
 */
export async function* ofCommit(
  tar: AsyncIterable<Uint8Array>,
  { commit, where }: { commit: string; where: string },
): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const piece of tar) {
    if (!head) {
      yield piece;
      continue;
    }
    head = Buffer.concat([head, piece]);
    if (head.length < 2 * BLOCK) continue;
    check(head);
    yield head;
    head = undefined;
  }
  // Shorter than the smallest archive.
  if (head) check(head);

  function check(bytes: Buffer): void {
    const isHeader =
      bytes.length >= 2 * BLOCK && bytes.toString('latin1', TYPE_AT, TYPE_AT + 1) === GLOBAL_HEADER;
    const said = isHeader ? COMMENT.exec(bytes.toString('latin1', BLOCK, 2 * BLOCK))?.[1] : undefined;
    if (said === commit) return;
    throw new LazytreeError(
      'CORRUPT',
      said === undefined
        ? `${where} is no archive of a commit`
        : `${where} is an archive of the commit ${said}`,
      { hint: 'nothing of it was stored; look at what stands between you and GitHub, and try again' },
    );
  }
}
