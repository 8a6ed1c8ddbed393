import { type Link, linkTo, RAW } from '@lazytree/core';
import { describe, expect, it } from 'vitest';
import { directory, file, pseudoRandom, symlink } from '../../../core/test/helpers.ts';
import { launch, mountTree, run, whyNotFuse } from './mounted-tree.ts';
import { type BlockMap, encodeNode } from './tree-model.ts';

const LARGE = pseudoRandom(1_500_000, 3);
const spec = directory({
  here: file('here\n'),
  elsewhere: file('elsewhere\n'),
  other: file('other\n'),
  large: file(LARGE),
  link: symlink('here'),
  sub: directory({ inner: file('inner\n') }),
});

const ELSEWHERE = contentLink('elsewhere\n');
const SUB = (encodeNode('sub', directory({ inner: file('inner\n') }), new Map()) as { link: Link } & object)
  .link;

function contentLink(content: string): Link {
  return linkTo(RAW, Buffer.from(content));
}

const never = () => new Promise<never>(() => undefined);
const bringing = (links: readonly Link[], blocks: BlockMap) =>
  links.map((link) => ({ link, bytes: blocks.get(link) as Uint8Array }));

/** Calls of a fetcher, and a promise of the first of them. */
function recorder<T>() {
  const calls: T[] = [];
  const first = Promise.withResolvers<T>();
  return {
    calls,
    first: first.promise,
    record(call: T) {
      calls.push(call);
      first.resolve(call);
    },
  };
}

const whyNot = whyNotFuse();
if (whyNot) console.warn(`skipped: sessions on real mounts: ${whyNot}`);

describe.skipIf(whyNot)('a mounted tree', () => {
  it('is what it was made of', async () => {
    const { directory: mount, path } = await mountTree(spec);
    expect((await run('cat', path('here'))).stdout.toString()).toBe('here\n');
    expect((await run('cat', path('large'))).stdout.equals(LARGE)).toBe(true);
    expect((await run('readlink', path('link'))).stdout.toString()).toBe('here\n');
    const find = await run('find', mount, '-mindepth', '1', '-printf', '%P %y %s %m\n');
    expect(find.stdout.toString().trim().split('\n').sort()).toEqual([
      'elsewhere f 10 644',
      'here f 5 644',
      'large f 1500000 644',
      'link l 4 777',
      'other f 6 644',
      'sub d 0 755',
      'sub/inner f 6 644',
    ]);
  });

  it('survives whoever seeks a directory to where no one has been', async () => {
    const { directory: mount, path } = await mountTree(spec);
    // telldir and seekdir take any number that lseek does.
    for (const position of ['9007199254740992', '4611686018427387904', '9223372036854775807']) {
      const { code, stdout, stderr } = await run('perl', '-e', seekScript(mount, position));
      expect({ position, code, out: stdout.toString(), stderr }).toEqual({
        position,
        code: 0,
        out: '',
        stderr: '',
      });
    }
    expect((await run('cat', path('here'))).stdout.toString()).toBe('here\n');
  });

  it('ends its session when it is unmounted', async () => {
    const { directory: mount, session } = await mountTree(spec);
    expect((await run('umount', mount)).code).toBe(0);
    await session.ended;
    await expect(session.report()).rejects.toThrow('ended');
  });

  it('tells of its use although it cannot be reached by its name any more', async () => {
    const { directory: mount, path, session } = await mountTree(spec);
    const holder = launch('sh', '-c', `exec 3<${path('here')}; read x <&3; echo ready; exec sleep 60`);
    await new Promise((resolve) => holder.child.stdout?.once('data', resolve));
    expect((await run('umount', '-l', mount)).code).toBe(0);
    await Promise.race([session.report().catch(() => undefined), rejectLate('report')]);
    holder.child.kill('SIGKILL');
    await session.ended;
  });
});

/** Prints what readdir finds after a seek. */
function seekScript(path: string, position: string): string {
  return `opendir(my $d, "${path}") or die $!; seekdir($d, ${position}); print for readdir($d)`;
}

function rejectLate(what: string): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${what} does not answer`)), 20_000).unref();
  });
}

describe.skipIf(whyNot)('a fetcher that never answers', () => {
  it('keeps nobody waiting for other files', async () => {
    const asked = recorder<string>();
    const { directory: mount, path } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: ({ path: wanted }) => {
        asked.record(wanted);
        return never();
      },
    });
    const stuck = launch('cat', path('elsewhere'));
    expect(await asked.first).toBe('elsewhere');
    expect((await run('cat', path('here'), path('other'), path('sub/inner'))).stdout.toString()).toBe(
      'here\nother\ninner\n',
    );
    expect((await run('cat', path('large'))).stdout.equals(LARGE)).toBe(true);
    expect((await run('find', mount, '-ls')).code).toBe(0);
    expect(stuck.child.exitCode).toBe(null);
  });

  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('lets a reader go that gets %s', async (signal) => {
    const asked = recorder<string>();
    const { path } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: ({ path: wanted }) => {
        asked.record(wanted);
        return never();
      },
    });
    const stuck = launch('cat', path('elsewhere'));
    await asked.first;
    stuck.child.kill(signal);
    expect(await stuck.ended).toMatchObject({ code: null, signal });
    expect((await run('cat', path('here'))).stdout.toString()).toBe('here\n');
  });

  it('is told when whoever lists a directory gives up, and asked again by the next', async () => {
    const asked = recorder<AbortSignal>();
    let answering = false;
    const { path } = await mountTree(spec, {
      has: (link) => link !== SUB,
      fetch: ({ signal, links }, blocks) => {
        asked.record(signal);
        return answering ? Promise.resolve(bringing(links, blocks)) : never();
      },
    });
    const stuck = launch('ls', path('sub'));
    const given = await asked.first;
    const aborted = new Promise((resolve) => given.addEventListener('abort', resolve));
    stuck.child.kill('SIGINT');
    expect(await stuck.ended).toMatchObject({ signal: 'SIGINT' });
    await aborted;
    answering = true;
    expect((await run('ls', path('sub'))).stdout.toString()).toBe('inner\n');
  });

  it('does not keep the file system from being taken away', async () => {
    const asked = recorder<string>();
    const { directory: mount, path } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: ({ path: wanted }) => {
        asked.record(wanted);
        return never();
      },
    });
    const stuck = launch('cat', path('elsewhere'));
    await asked.first;
    expect((await run('umount', mount)).code).toBe(32);
    stuck.child.kill('SIGKILL');
    await stuck.ended;
    expect((await run('umount', '-l', mount)).code).toBe(0);
  });
});

describe.skipIf(whyNot)('a fetcher that fails', () => {
  it('gives EIO for what it was to bring, and says why', async () => {
    const { path, failures } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE && link !== SUB,
      fetch: async () => {
        throw new Error('no peer has it');
      },
    });
    const { code, stderr } = await run('cat', path('elsewhere'));
    expect({ code, stderr }).toEqual({ code: 1, stderr: `cat: ${path('elsewhere')}: Input/output error\n` });
    expect(failures.length).toBeGreaterThan(0);
    for (const failure of failures) {
      expect(failure).toMatchObject({ path: 'elsewhere', error: { message: 'no peer has it' } });
    }
    const listing = await run('ls', path('sub'));
    expect(listing.code).toBe(2);
    expect(listing.stderr).toContain('Input/output error');
    expect((await run('cat', path('here'))).stdout.toString()).toBe('here\n');
  });

  it('may succeed the next time', async () => {
    let fails = true;
    const { path } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: async ({ links }, blocks) => {
        if (fails) throw new Error('not yet');
        return bringing(links, blocks);
      },
    });
    expect((await run('cat', path('elsewhere'))).code).toBe(1);
    fails = false;
    expect((await run('cat', path('elsewhere'))).stdout.toString()).toBe('elsewhere\n');
  });

  it('counts what it was asked for as use, and not as hits', async () => {
    const { path, session } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: async () => {
        throw new Error('no');
      },
    });
    await run('cat', path('elsewhere'));
    await run('cat', path('elsewhere'));
    const { uses } = await session.report();
    expect(uses).toHaveLength(1);
    expect(uses[0].fetched).toBeGreaterThan(0);
    expect(uses[0].requests).toBeGreaterThanOrEqual(uses[0].fetched);
  });
});

describe.skipIf(whyNot)('a slow fetcher', () => {
  it('is waited for by all who want the same, and asked for it once', async () => {
    const asked = recorder<readonly Link[]>();
    const answer = Promise.withResolvers<void>();
    const { path } = await mountTree(spec, {
      has: (link) => link !== ELSEWHERE,
      fetch: async ({ links }, blocks) => {
        asked.record(links);
        await answer.promise;
        return bringing(links, blocks);
      },
    });
    const readers = Array.from({ length: 20 }, () => launch('cat', path('elsewhere')));
    await asked.first;
    // They have all got as far as they get: to another file.
    for (const { child } of readers) expect(child.pid).toBeTypeOf('number');
    expect((await run('cat', path('here'))).stdout.toString()).toBe('here\n');
    answer.resolve();
    for (const { ended } of readers) expect((await ended).stdout.toString()).toBe('elsewhere\n');
    expect(asked.calls).toEqual([[ELSEWHERE]]);
  });

  it('brings a large file that is nowhere here, whoever reads which part', async () => {
    const wanted = new Map<Link, number>();
    const { path } = await mountTree(spec, {
      has: (link) => link.charCodeAt(0) !== RAW,
      fetch: async ({ links }, blocks) => {
        for (const link of links) wanted.set(link, (wanted.get(link) ?? 0) + 1);
        return bringing(links, blocks);
      },
    });
    const parts = await Promise.all(
      [0, 1, 2, 3, 4, 5].map(async (i) => {
        const { stdout } = await run(
          'dd',
          `if=${path('large')}`,
          'bs=250000',
          `skip=${i}`,
          'count=1',
          'status=none',
        );
        return stdout;
      }),
    );
    expect(Buffer.concat(parts).equals(LARGE)).toBe(true);
  });
});
