import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { constants } from 'node:os';
import { basename, join } from 'node:path';
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  type Errno,
  fadvise,
  fallocate,
  flock,
  getxattr,
  linkat,
  listxattr,
  lockRange,
  lseek,
  mknod,
  openDirectory,
  readMapped,
  removexattr,
  renameat2,
  SEEK,
  setxattr,
  writeMapped,
} from './libc.ts';
import { DEPTH, deepPath, LARGE, LATIN1, LONG_NAME, MANY } from './posix-fixture.ts';

/**
 * What programs may expect of a file system, in the manner of go-fuse's posixtest: functions by name, each of which
 * gets a directory with the fixture in it and throws when an expectation is not met. They run in a process that is not
 * the one that serves the file system. Nothing of vitest in here.
 */
export type PosixSuite = Record<string, (directory: string) => void | Promise<void>>;

const { O_RDONLY, O_RDWR, O_WRONLY, O_CREAT, O_EXCL, O_APPEND, O_TRUNC, O_DIRECTORY, O_NOFOLLOW } =
  fs.constants;
const O_TMPFILE = 0o20000000 | O_DIRECTORY;

/** The name of the error that `task` ends with. */
function codeOf(task: () => unknown): string {
  try {
    task();
  } catch (error) {
    const { code, errno } = error as NodeJS.ErrnoException;
    if (code !== undefined) return code;
    const { errno: number } = error as Errno;
    const named = Object.entries(constants.errno).find(([, value]) => value === (number ?? errno));
    if (named) return named[0];
    throw error;
  }
  return 'no error';
}

const read = (path: string) => fs.readFileSync(path, 'utf8');

function withFile<T>(path: string, flags: string | number, task: (fd: number) => T): T {
  const fd = fs.openSync(path, flags, 0o644);
  try {
    return task(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function readAt(fd: number, position: number | bigint, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  return buffer.subarray(0, fs.readSync(fd, buffer, 0, length, position));
}

function names(path: string): string[] {
  return fs.readdirSync(path).sort();
}

/** Everything that can be asked of a tree without changing it. */
export const READING: PosixSuite = {
  'stat tells kinds, sizes, modes and links'(directory) {
    const of = (name: string) => {
      const { mode, size, nlink } = fs.lstatSync(join(directory, name));
      return [mode.toString(8), size, nlink];
    };
    assert.deepEqual(of('text'), ['100644', 6, 1]);
    assert.deepEqual(of('empty'), ['100644', 0, 1]);
    assert.deepEqual(of('large'), ['100644', LARGE.length, 1]);
    assert.equal(of('script')[0], '100755');
    assert.deepEqual(of('link'), ['120777', 4, 1]);
    assert.equal(of('dir')[0], '40755');
  },

  'fstat is stat'(directory) {
    const path = join(directory, 'large');
    withFile(path, 'r', (fd) => {
      const [open, named] = [fs.fstatSync(fd), fs.statSync(path)];
      assert.deepEqual(
        [open.ino, open.size, open.mode, open.mtimeMs],
        [named.ino, named.size, named.mode, named.mtimeMs],
      );
    });
  },

  'every file has an inode of its own on one device, and readdir tells it, too'(directory) {
    const seen = new Map<number, string>();
    const device = fs.statSync(directory).dev;
    const visit = (path: string): void => {
      const stream = openDirectory(path);
      for (let entry = stream.read(); entry; entry = stream.read()) {
        if (entry.name === '.' || entry.name === '..') continue;
        const inner = join(path, entry.name);
        // Names that are not UTF-8 are somebody else's test.
        const found = fs.lstatSync(inner, { throwIfNoEntry: false });
        if (!found) continue;
        assert.equal(found.ino, entry.inode, inner);
        assert.equal(found.dev, device, inner);
        assert.equal(seen.get(found.ino), undefined, `${inner} has the inode of ${seen.get(found.ino)}`);
        seen.set(found.ino, inner);
        if (found.isDirectory()) visit(inner);
      }
      stream.close();
    };
    visit(directory);
  },

  'readdir gives every name once, in the same order each time'(directory) {
    const once = fs.readdirSync(join(directory, 'many'));
    assert.deepEqual(fs.readdirSync(join(directory, 'many')), once);
    assert.equal(new Set(once).size, MANY);
    assert.equal(once.length, MANY);
  },

  'readdir tells the kinds'(directory) {
    const kinds = Object.fromEntries(
      fs
        .readdirSync(directory, { withFileTypes: true })
        .map((entry) => [
          entry.name,
          entry.isSymbolicLink() ? 'link' : entry.isDirectory() ? 'directory' : entry.isFile() ? 'file' : '?',
        ]),
    );
    assert.equal(kinds.text, 'file');
    assert.equal(kinds.dir, 'directory');
    assert.equal(kinds.dangling, 'link');
  },

  'seekdir goes back to where telldir was'(directory) {
    const stream = openDirectory(join(directory, 'many'));
    const places: { at: number | bigint; name: string }[] = [];
    for (;;) {
      const at = stream.tell();
      const entry = stream.read();
      if (!entry) break;
      places.push({ at, name: entry.name });
    }
    assert.equal(places.length, MANY + 2);
    for (const { at, name } of [...places].reverse().filter((_, i) => i % 7 === 0)) {
      stream.seek(at);
      assert.equal(stream.read()?.name, name);
    }
    stream.close();
  },

  'readdir of an empty directory'(directory) {
    assert.deepEqual(names(join(directory, 'empty-dir')), []);
  },

  'symlinks are read and followed'(directory) {
    assert.equal(fs.readlinkSync(join(directory, 'link')), 'text');
    assert.equal(read(join(directory, 'link')), 'hello\n');
    assert.equal(read(join(directory, 'to-dir/sub/c')), 'c\n');
    assert.equal(
      codeOf(() => read(join(directory, 'dangling'))),
      'ENOENT',
    );
    assert.equal(
      codeOf(() => read(join(directory, 'loop'))),
      'ELOOP',
    );
    assert.equal(
      codeOf(() => fs.readlinkSync(join(directory, 'text'))),
      'EINVAL',
    );
    assert.equal(fs.realpathSync(join(directory, 'to-dir/a')), join(fs.realpathSync(directory), 'dir/a'));
  },

  'open flags are heeded'(directory) {
    const open = (name: string, flags: number) =>
      codeOf(() => fs.closeSync(fs.openSync(join(directory, name), flags)));
    assert.equal(open('text', O_RDONLY | O_DIRECTORY), 'ENOTDIR');
    assert.equal(open('dir', O_RDONLY | O_DIRECTORY), 'no error');
    assert.equal(open('link', O_RDONLY | O_NOFOLLOW), 'ELOOP');
    assert.equal(open('absent', O_RDONLY), 'ENOENT');
    assert.equal(open('text/below', O_RDONLY), 'ENOTDIR');
    assert.equal(open('dir', O_WRONLY), 'EISDIR');
    assert.equal(
      codeOf(() => read(join(directory, 'dir'))),
      'EISDIR',
    );
  },

  'access tells who may do what'(directory) {
    const access = (name: string, mode: number) => codeOf(() => fs.accessSync(join(directory, name), mode));
    assert.equal(access('text', fs.constants.R_OK), 'no error');
    assert.equal(access('text', fs.constants.X_OK), 'EACCES');
    assert.equal(access('script', fs.constants.X_OK), 'no error');
    assert.equal(access('dir', fs.constants.X_OK), 'no error');
    assert.equal(access('absent', fs.constants.F_OK), 'ENOENT');
  },

  'programs and scripts run, and files that are neither do not'(directory) {
    const script = spawnSync(join(directory, 'script'), ['it'], { encoding: 'utf8' });
    assert.equal(script.stdout, 'ran with it\n');
    assert.equal(spawnSync(join(directory, 'program')).status, 0);
    const { error } = spawnSync(join(directory, 'not-executable'));
    assert.equal((error as NodeJS.ErrnoException).code, 'EACCES');
  },

  'a process can work there'(directory) {
    const { stdout } = spawnSync('sh', ['-c', 'cd dir/sub && pwd -P && cat c ../a'], {
      cwd: directory,
      encoding: 'utf8',
    });
    assert.equal(stdout, `${fs.realpathSync(directory)}/dir/sub\nc\na\n`);
  },

  'reads at, across and after the end'(directory) {
    withFile(join(directory, 'large'), 'r', (fd) => {
      const size = LARGE.length;
      for (const [from, length] of [
        [0, 1],
        [size - 1, 1],
        [size - 10, 100],
        [size, 10],
        [size + 1, 10],
        [size * 2, 10],
        [262143, 2],
        [4095, 4098],
        [0, 0],
      ]) {
        assert.ok(
          readAt(fd, from, length).equals(LARGE.subarray(from, from + length)),
          `${length} at ${from}`,
        );
      }
      for (const far of [2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 62n, 2n ** 63n - 4097n]) {
        assert.equal(readAt(fd, far, 10).length, 0, `at ${far}`);
      }
    });
    withFile(join(directory, 'empty'), 'r', (fd) => assert.equal(readAt(fd, 0, 10).length, 0));
  },

  'lseek finds the end, data and holes'(directory) {
    withFile(join(directory, 'large'), 'r', (fd) => {
      assert.equal(lseek(fd, 0, SEEK.END), LARGE.length);
      assert.equal(lseek(fd, 0, SEEK.DATA), 0);
      assert.equal(lseek(fd, 0, SEEK.HOLE), LARGE.length);
      assert.equal(
        codeOf(() => lseek(fd, LARGE.length, SEEK.DATA)),
        'ENXIO',
      );
      assert.equal(
        codeOf(() => lseek(fd, -1, SEEK.SET)),
        'EINVAL',
      );
    });
  },

  'mapped pages are the content'(directory) {
    withFile(join(directory, 'large'), 'r', (fd) => {
      assert.ok(readMapped(fd, 0, 10_000).equals(LARGE.subarray(0, 10_000)));
      assert.ok(readMapped(fd, 409_600, 100_000).equals(LARGE.subarray(409_600, 509_600)));
      // Beyond the end, the last page is zeros.
      const last = Math.floor(LARGE.length / 4096) * 4096;
      const tail = readMapped(fd, last, 4096);
      assert.ok(tail.subarray(0, LARGE.length - last).equals(LARGE.subarray(last)));
      assert.ok(tail.subarray(LARGE.length - last).every((byte) => byte === 0));
    });
  },

  'advice and read-ahead are taken'(directory) {
    withFile(join(directory, 'large'), 'r', (fd) => {
      for (const advice of [0, 1, 2, 3, 4, 5]) assert.equal(fadvise(fd, 0, 0, advice), 0);
      assert.ok(readAt(fd, 300_000, 5000).equals(LARGE.subarray(300_000, 305_000)));
      fs.fsyncSync(fd);
    });
  },

  async 'many read one file at once'(directory) {
    const readers = Array.from({ length: 16 }, async (_, i) => {
      const handle = await fs.promises.open(join(directory, 'large'));
      try {
        for (let n = 0; n < 40; n++) {
          const from = (i * 104_729 + n * 15_485_863) % LARGE.length;
          const { buffer, bytesRead } = await handle.read(Buffer.alloc(9000), 0, 9000, from);
          assert.ok(buffer.subarray(0, bytesRead).equals(LARGE.subarray(from, from + 9000)));
        }
      } finally {
        await handle.close();
      }
    });
    await Promise.all(readers);
  },

  'names of 255 bytes and of any bytes'(directory) {
    const inside = join(directory, 'names');
    assert.equal(read(join(inside, LONG_NAME)), 'long\n');
    assert.equal(
      codeOf(() => read(join(inside, `${LONG_NAME}n`))),
      'ENAMETOOLONG',
    );
    const latin1 = Buffer.concat([Buffer.from(`${inside}/`), LATIN1]);
    assert.equal(fs.readFileSync(latin1, 'utf8'), 'latin1\n');
    const found = fs.readdirSync(inside, { encoding: 'buffer' });
    assert.ok(found.some((name) => name.equals(LATIN1)));
    for (const odd of [' ', '\n', '-rf', '...', '\\', 'ä', '😀', '*'])
      assert.equal(read(join(inside, odd)), odd);
    // As they are, and not as Unicode would have them.
    assert.equal(
      codeOf(() => read(join(inside, 'a\u0308'))),
      'ENOENT',
    );
    assert.equal(
      codeOf(() => read(join(directory, 'TEXT'))),
      'ENOENT',
    );
  },

  'deep paths'(directory) {
    const bottom = join(deepPath(directory), 'bottom');
    assert.equal(read(bottom), 'bottom\n');
    const up = join(deepPath(directory), ...Array.from({ length: DEPTH + 1 }, () => '..'));
    assert.equal(read(`${up}/text`), 'hello\n');
    const { stdout } = spawnSync('sh', ['-c', `cat ${'../'.repeat(DEPTH + 1)}text`], {
      cwd: deepPath(directory),
      encoding: 'utf8',
    });
    assert.equal(stdout, 'hello\n');
  },

  'watching is possible'(directory) {
    for (const path of [directory, join(directory, 'text')]) fs.watch(path).close();
  },

  statfs(directory) {
    const { bsize, blocks } = fs.statfsSync(directory);
    assert.ok(bsize >= 512 && Number.isSafeInteger(bsize * blocks));
  },

  'locks of readers'(directory) {
    withFile(join(directory, 'text'), 'r', (one) => {
      withFile(join(directory, 'text'), 'r', (two) => {
        flock(one, 1);
        flock(two, 1);
        lockRange(one, 'read', 0, 10);
        lockRange(two, 'read', 5, 10);
      });
    });
  },

  'copies are equal'(directory) {
    const copy = spawnSync('sh', ['-c', 'cmp large /dev/stdin < large && tar -cf - dir | tar -tf - | sort'], {
      cwd: directory,
      encoding: 'utf8',
    });
    assert.equal(copy.stdout, 'dir/\ndir/a\ndir/b\ndir/sub/\ndir/sub/c\n');
    assert.equal(copy.stderr, '');
  },
};

/** What a plain mount says to whoever wants to change it. */
export const REFUSING: PosixSuite = {
  'every kind of write is refused, for the file system is read-only'(directory) {
    const at = (name: string) => join(directory, name);
    const writes: Record<string, () => unknown> = {
      'open to write': () => fs.openSync(at('text'), O_WRONLY),
      'open to read and write': () => fs.openSync(at('text'), O_RDWR),
      'open to append': () => fs.openSync(at('text'), O_WRONLY | O_APPEND),
      'open to truncate': () => fs.openSync(at('text'), O_WRONLY | O_TRUNC),
      create: () => fs.openSync(at('new'), O_WRONLY | O_CREAT),
      'create exclusively': () => fs.openSync(at('new'), O_WRONLY | O_CREAT | O_EXCL),
      'create without a name': () => fs.openSync(directory, O_TMPFILE | O_RDWR, 0o600),
      truncate: () => fs.truncateSync(at('text'), 1),
      mkdir: () => fs.mkdirSync(at('new')),
      rmdir: () => fs.rmdirSync(at('empty-dir')),
      unlink: () => fs.unlinkSync(at('text')),
      rename: () => fs.renameSync(at('text'), at('new')),
      'rename over': () => fs.renameSync(at('text'), at('empty')),
      'rename a directory': () => fs.renameSync(at('dir'), at('new')),
      link: () => fs.linkSync(at('text'), at('new')),
      symlink: () => fs.symlinkSync('text', at('new')),
      mknod: () => mknod(at('new'), 0o010644, 0),
      chmod: () => fs.chmodSync(at('text'), 0o600),
      chown: () => fs.chownSync(at('text'), 1, 1),
      lchown: () => fs.lchownSync(at('link'), 1, 1),
      utimes: () => fs.utimesSync(at('text'), 1, 1),
      setxattr: () => setxattr(at('text'), 'user.x', Buffer.from('x'), 1, 0),
      removexattr: () => removexattr(at('text'), 'user.lazytree.cid'),
      'access to write': () => fs.accessSync(at('text'), fs.constants.W_OK),
    };
    const codes = Object.fromEntries(Object.entries(writes).map(([name, write]) => [name, codeOf(write)]));
    const refused = Object.fromEntries(Object.keys(writes).map((name) => [name, 'EROFS']));
    assert.deepEqual(codes, refused);
  },

  'a mapping cannot be written to'(directory) {
    withFile(join(directory, 'text'), 'r', (fd) => {
      assert.equal(
        codeOf(() => fs.writeSync(fd, 'x')),
        'EBADF',
      );
      assert.equal(
        codeOf(() => fs.ftruncateSync(fd, 1)),
        'EINVAL',
      );
      assert.notEqual(
        codeOf(() => fallocate(fd, 0, 0, 10)),
        'no error',
      );
    });
  },

  'extended attributes are the CID and nothing else'(directory) {
    for (const name of ['text', 'large', 'dir']) {
      assert.deepEqual(listxattr(join(directory, name)), ['user.lazytree.cid']);
      assert.match(getxattr(join(directory, name), 'user.lazytree.cid'), /^baf[a-z2-7]{56}$/);
      assert.equal(
        codeOf(() => getxattr(join(directory, name), 'user.other')),
        'ENODATA',
      );
    }
    assert.deepEqual(listxattr(join(directory, 'link')), []);
  },

  'times are the same for all'(directory) {
    const { atimeMs, mtimeMs, ctimeMs } = fs.statSync(join(directory, 'text'));
    assert.deepEqual([atimeMs, mtimeMs, ctimeMs], [499162500_000, 499162500_000, 499162500_000]);
    assert.equal(fs.statSync(directory).mtimeMs, 499162500_000);
    read(join(directory, 'text'));
    assert.equal(fs.statSync(join(directory, 'text')).atimeMs, 499162500_000);
  },
};

/** What can be done to a tree; each function finds the fixture as it was made. */
export const WRITING: PosixSuite = {
  'create, also exclusively'(directory) {
    const path = join(directory, 'new');
    withFile(path, O_WRONLY | O_CREAT | O_EXCL, (fd) => fs.writeSync(fd, 'new'));
    assert.equal(
      codeOf(() => fs.openSync(path, O_WRONLY | O_CREAT | O_EXCL)),
      'EEXIST',
    );
    assert.equal(
      codeOf(() => fs.openSync(join(directory, 'text'), O_WRONLY | O_CREAT | O_EXCL)),
      'EEXIST',
    );
    assert.equal(
      codeOf(() => fs.openSync(join(directory, 'dangling'), O_WRONLY | O_CREAT | O_EXCL)),
      'EEXIST',
    );
    assert.equal(read(path), 'new');
    fs.writeFileSync(join(directory, 'dangling'), 'through a link');
    assert.equal(read(join(directory, 'nowhere')), 'through a link');
  },

  'a part of a file is written over'(directory) {
    const path = join(directory, 'large');
    const expected = Buffer.from(LARGE);
    withFile(path, 'r+', (fd) => {
      for (const at of [0, 4095, 262_140, LARGE.length - 3]) {
        fs.writeSync(fd, Buffer.from('written'), 0, 7, at);
        if (at + 7 <= expected.length) expected.write('written', at);
      }
    });
    const found = fs.readFileSync(path);
    assert.equal(found.length, LARGE.length + 4);
    assert.equal(found.subarray(-7).toString(), 'written');
    assert.ok(found.subarray(0, LARGE.length - 3).equals(expected.subarray(0, LARGE.length - 3)));
  },

  'append goes to the end, whatever the position'(directory) {
    const path = join(directory, 'text');
    withFile(path, 'a', (one) =>
      withFile(path, 'a', (two) => {
        fs.writeSync(one, '1');
        fs.writeSync(two, '2');
        fs.writeSync(one, '3', 0);
      }),
    );
    assert.equal(read(path), 'hello\n123');
  },

  'truncate makes shorter and longer'(directory) {
    const path = join(directory, 'large');
    fs.truncateSync(path, 300_000);
    assert.ok(fs.readFileSync(path).equals(LARGE.subarray(0, 300_000)));
    fs.truncateSync(path, 300_010);
    assert.ok(fs.readFileSync(path).subarray(300_000).equals(Buffer.alloc(10)));
    withFile(path, O_WRONLY | O_TRUNC, () => undefined);
    assert.equal(fs.statSync(path).size, 0);
    assert.equal(
      codeOf(() => fs.truncateSync(join(directory, 'dir'), 0)),
      'EISDIR',
    );
  },

  'sparse files have holes, beyond 4 GiB as well'(directory) {
    const path = join(directory, 'sparse');
    const far = 5 * 2 ** 30 + 12_288;
    withFile(path, 'w+', (fd) => {
      fs.writeSync(fd, Buffer.from('far'), 0, 3, far);
      assert.equal(fs.fstatSync(fd).size, far + 3);
      assert.ok(fs.fstatSync(fd).blocks < 1000);
      assert.equal(lseek(fd, 0, SEEK.DATA), far);
      assert.ok(readAt(fd, 2 ** 32, 100).equals(Buffer.alloc(100)));
      assert.equal(readAt(fd, far, 10).toString(), 'far');
    });
  },

  'fallocate takes room, and gives it back'(directory) {
    const path = join(directory, 'large');
    withFile(path, 'r+', (fd) => {
      fallocate(fd, 0, 0, 1 << 20);
      assert.equal(fs.fstatSync(fd).size, 1 << 20);
      // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
      fallocate(fd, 3, 8192, 8192);
      assert.ok(readAt(fd, 8192, 8192).equals(Buffer.alloc(8192)));
      assert.ok(readAt(fd, 16_384, 100).equals(LARGE.subarray(16_384, 16_484)));
    });
  },

  'sync of files and directories'(directory) {
    withFile(join(directory, 'text'), 'r+', (fd) => {
      fs.writeSync(fd, 'j');
      fs.fsyncSync(fd);
      fs.fdatasyncSync(fd);
    });
    for (const path of [directory, join(directory, 'dir')]) withFile(path, 'r', fs.fsyncSync);
    assert.equal(read(join(directory, 'text')), 'jello\n');
  },

  'rename of files'(directory) {
    const at = (name: string) => join(directory, name);
    fs.renameSync(at('text'), at('moved'));
    assert.equal(
      codeOf(() => read(at('text'))),
      'ENOENT',
    );
    assert.equal(read(at('moved')), 'hello\n');
    fs.renameSync(at('moved'), at('dir/a'));
    assert.equal(read(at('dir/a')), 'hello\n');
    fs.renameSync(at('link'), at('script'));
    assert.equal(fs.readlinkSync(at('script')), 'text');
    assert.equal(
      codeOf(() => fs.renameSync(at('absent'), at('x'))),
      'ENOENT',
    );
    assert.equal(
      codeOf(() => fs.renameSync(at('large'), at('dir'))),
      'EISDIR',
    );
    assert.equal(
      codeOf(() => fs.renameSync(at('dir'), at('large'))),
      'ENOTDIR',
    );
    assert.ok(fs.readFileSync(at('large')).equals(LARGE));
  },

  'rename of directories that were there before'(directory) {
    const at = (name: string) => join(directory, name);
    fs.renameSync(at('dir'), at('moved'));
    assert.deepEqual(names(at('moved')), ['a', 'b', 'sub']);
    assert.equal(read(at('moved/sub/c')), 'c\n');
    fs.writeFileSync(at('moved/sub/d'), 'd\n');
    fs.renameSync(at('moved/sub'), at('sub'));
    assert.deepEqual(names(at('sub')), ['c', 'd']);
    fs.mkdirSync(at('dir'));
    assert.deepEqual(names(at('dir')), []);
    assert.equal(
      codeOf(() => fs.renameSync(at('sub'), at('moved'))),
      'ENOTEMPTY',
    );
    fs.renameSync(at('sub'), at('dir'));
    assert.deepEqual(names(at('dir')), ['c', 'd']);
    assert.equal(
      codeOf(() => fs.renameSync(at('moved'), at('moved/below'))),
      'EINVAL',
    );
    fs.renameSync(at('empty-dir'), at('moved/inside'));
    fs.renameSync(at('many'), at('moved/inside'));
    assert.equal(names(at('moved/inside')).length, MANY);
  },

  'rename that replaces nothing, and that exchanges'(directory) {
    const at = (name: string) => join(directory, name);
    const rename = (from: string, to: string, flags: number) =>
      renameat2(AT_FDCWD, at(from), AT_FDCWD, at(to), flags);
    assert.equal(
      codeOf(() => rename('text', 'empty', 1)),
      'EEXIST',
    );
    rename('text', 'fresh', 1);
    assert.equal(read(at('fresh')), 'hello\n');
    rename('fresh', 'script', 2);
    assert.equal(read(at('script')), 'hello\n');
    assert.match(read(at('fresh')), /^#!/);
    rename('dir', 'many', 2);
    assert.equal(names(at('dir')).length, MANY);
    assert.deepEqual(names(at('many')), ['a', 'b', 'sub']);
  },

  'a file that is open lives on without a name'(directory) {
    for (const name of ['text', 'new']) {
      const path = join(directory, name);
      withFile(path, O_RDWR | O_CREAT, (fd) => {
        fs.writeSync(fd, 'HELLO\n', 0);
        fs.unlinkSync(path);
        assert.equal(
          codeOf(() => fs.statSync(path)),
          'ENOENT',
        );
        fs.writeSync(fd, 'more', 6);
        assert.equal(readAt(fd, 0, 100).toString(), 'HELLO\nmore');
        assert.equal(fs.fstatSync(fd).nlink, 0);
      });
    }
  },

  'a directory that is open lives on without a name'(directory) {
    const path = join(directory, 'empty-dir');
    withFile(path, O_RDONLY | O_DIRECTORY, (fd) => {
      fs.rmdirSync(path);
      assert.deepEqual(fs.readdirSync(`/proc/self/fd/${fd}`), []);
      assert.equal(
        codeOf(() => fs.writeFileSync(`/proc/self/fd/${fd}/x`, '')),
        'ENOENT',
      );
    });
  },

  'what was removed can be made anew, as something else'(directory) {
    const at = (name: string) => join(directory, name);
    fs.unlinkSync(at('text'));
    fs.mkdirSync(at('text'));
    fs.writeFileSync(at('text/inside'), 'x');
    fs.rmSync(at('dir'), { recursive: true });
    assert.equal(
      codeOf(() => fs.statSync(at('dir/a'))),
      'ENOENT',
    );
    fs.writeFileSync(at('dir'), 'a file');
    assert.equal(read(at('dir')), 'a file');
    fs.unlinkSync(at('dir'));
    fs.mkdirSync(at('dir'));
    assert.deepEqual(names(at('dir')), []);
    fs.writeFileSync(at('dir/b'), 'new b');
    assert.deepEqual(names(at('dir')), ['b']);
    assert.deepEqual(names(at('text')), ['inside']);
  },

  'mkdir, rmdir and unlink refuse what they are not for'(directory) {
    const at = (name: string) => join(directory, name);
    assert.equal(
      codeOf(() => fs.rmdirSync(at('dir'))),
      'ENOTEMPTY',
    );
    assert.equal(
      codeOf(() => fs.rmdirSync(at('text'))),
      'ENOTDIR',
    );
    assert.equal(
      codeOf(() => fs.mkdirSync(at('dir'))),
      'EEXIST',
    );
    assert.equal(
      codeOf(() => fs.mkdirSync(at('text'))),
      'EEXIST',
    );
    assert.equal(
      codeOf(() => fs.mkdirSync(at('text/below'))),
      'ENOTDIR',
    );
    assert.equal(
      codeOf(() => fs.mkdirSync(at('absent/below'))),
      'ENOENT',
    );
    assert.equal(
      codeOf(() => fs.unlinkSync(at('dir'))),
      'EISDIR',
    );
    assert.equal(
      codeOf(() => fs.unlinkSync(at('absent'))),
      'ENOENT',
    );
    fs.rmdirSync(at('empty-dir'));
    assert.equal(
      codeOf(() => fs.statSync(at('empty-dir'))),
      'ENOENT',
    );
    fs.mkdirSync(at('new'), 0o700);
    assert.equal(fs.statSync(at('new')).mode & 0o777, 0o700);
  },

  'symlinks and their replacement'(directory) {
    const at = (name: string) => join(directory, name);
    fs.symlinkSync('dir/a', at('new'));
    assert.equal(read(at('new')), 'a\n');
    assert.equal(
      codeOf(() => fs.symlinkSync('x', at('link'))),
      'EEXIST',
    );
    fs.unlinkSync(at('link'));
    fs.symlinkSync('dir/b', at('link'));
    assert.equal(read(at('link')), 'b\n');
    fs.symlinkSync('t'.repeat(4000), at('far'));
    assert.equal(fs.readlinkSync(at('far')).length, 4000);
  },

  'hard links are one file'(directory) {
    const at = (name: string) => join(directory, name);
    fs.writeFileSync(at('new'), 'new');
    for (const [from, to] of [
      ['text', 'second'],
      ['new', 'third'],
    ]) {
      fs.linkSync(at(from), at(to));
      const [one, two] = [fs.statSync(at(from)), fs.statSync(at(to))];
      assert.deepEqual([one.nlink, two.nlink], [2, 2]);
      assert.equal(one.ino, two.ino);
      fs.appendFileSync(at(to), 'both');
      assert.match(read(at(from)), /both$/);
      assert.equal(
        codeOf(() => fs.linkSync(at(from), at(to))),
        'EEXIST',
      );
      fs.unlinkSync(at(from));
      assert.match(read(at(to)), /both$/);
      assert.equal(fs.statSync(at(to)).nlink, 1);
    }
    assert.equal(
      codeOf(() => fs.linkSync(at('dir'), at('other'))),
      'EPERM',
    );
  },

  'modes, owners and times'(directory) {
    for (const name of ['text', 'dir', 'large']) {
      const path = join(directory, name);
      fs.chmodSync(path, 0o1751);
      fs.chownSync(path, 12, 34);
      fs.utimesSync(path, 1000.5, 2000.25);
      const { mode, uid, gid, atimeMs, mtimeMs } = fs.statSync(path);
      assert.deepEqual([mode & 0o7777, uid, gid, atimeMs, mtimeMs], [0o1751, 12, 34, 1_000_500, 2_000_250]);
    }
    fs.lchownSync(join(directory, 'link'), 12, 34);
    fs.lutimesSync(join(directory, 'link'), 1000, 2000);
    const { uid, mtimeMs } = fs.lstatSync(join(directory, 'link'));
    assert.deepEqual([uid, mtimeMs], [12, 2_000_000]);
    assert.ok(fs.readFileSync(join(directory, 'large')).equals(LARGE));
    assert.deepEqual(names(join(directory, 'dir')), ['a', 'b', 'sub']);
  },

  'a file that becomes executable runs'(directory) {
    const path = join(directory, 'not-executable');
    fs.chmodSync(path, 0o755);
    assert.equal(spawnSync(path, { encoding: 'utf8' }).stdout, 'no\n');
    fs.writeFileSync(join(directory, 'own'), '#!/bin/sh\necho own\n', { mode: 0o755 });
    assert.equal(spawnSync(join(directory, 'own'), { encoding: 'utf8' }).stdout, 'own\n');
  },

  'locks keep others out'(directory) {
    for (const name of ['text', 'new']) {
      withFile(join(directory, name), O_RDWR | O_CREAT, (one) =>
        withFile(join(directory, name), O_RDWR, (two) => {
          // LOCK_EX, with LOCK_NB
          flock(one, 2);
          assert.equal(
            codeOf(() => flock(two, 2 | 4)),
            'EAGAIN',
          );
          flock(one, 8);
          flock(two, 2 | 4);
          lockRange(one, 'write', 0, 10);
          assert.equal(
            codeOf(() => lockRange(two, 'write', 5, 10)),
            'EAGAIN',
          );
          lockRange(two, 'write', 10, 10);
          lockRange(one, 'unlock', 0, 10);
          lockRange(two, 'write', 0, 10);
        }),
      );
    }
  },

  'a directory is emptied while it is read'(directory) {
    const path = join(directory, 'many');
    for (let i = 0; i < 2000; i++) fs.writeFileSync(join(path, `more ${i}`), '');
    const stream = fs.opendirSync(path, { bufferSize: 1 });
    for (let entry = stream.readSync(); entry; entry = stream.readSync())
      fs.unlinkSync(join(path, entry.name));
    stream.closeSync();
    // What is added or removed meanwhile may be told or not; what was there all the time is told.
    assert.deepEqual(names(path), []);
    fs.rmdirSync(path);
  },

  'everything can be removed'(directory) {
    const { status, stderr } = spawnSync('rm', ['-rf', directory], { encoding: 'utf8' });
    assert.equal(stderr, '');
    assert.equal(status, 0);
    assert.ok(!fs.existsSync(directory));
    assert.ok(!fs.readdirSync(join(directory, '..')).includes(basename(directory)));
  },

  'mapped pages are written'(directory) {
    for (const name of ['large', 'new']) {
      const path = join(directory, name);
      if (name === 'new') fs.writeFileSync(path, LARGE);
      withFile(path, 'r+', (fd) => {
        writeMapped(fd, 8192, Buffer.from('through a mapping'));
        assert.equal(readAt(fd, 8192, 17).toString(), 'through a mapping');
        assert.ok(readAt(fd, 8209, 1000).equals(LARGE.subarray(8209, 9209)));
      });
      assert.equal(fs.readFileSync(path).subarray(8192, 8209).toString(), 'through a mapping');
    }
  },

  'a file without a name gets one'(directory) {
    withFile(directory, O_TMPFILE | O_RDWR, (fd) => {
      fs.writeSync(fd, 'nameless');
      assert.ok(!names(directory).includes('named'));
      linkat(AT_FDCWD, `/proc/self/fd/${fd}`, AT_FDCWD, join(directory, 'named'), AT_SYMLINK_FOLLOW);
    });
    assert.equal(read(join(directory, 'named')), 'nameless');
  },

  'extended attributes'(directory) {
    for (const name of ['text', 'dir']) {
      const path = join(directory, name);
      setxattr(path, 'user.mine', Buffer.from('value'), 5, 0);
      assert.equal(getxattr(path, 'user.mine'), 'value');
      assert.deepEqual(
        listxattr(path).filter((key) => key.startsWith('user.')),
        ['user.mine'],
      );
      removexattr(path, 'user.mine');
      assert.equal(
        codeOf(() => getxattr(path, 'user.mine')),
        'ENODATA',
      );
    }
  },

  pipes(directory) {
    const path = join(directory, 'pipe');
    mknod(path, 0o010644, 0);
    assert.ok(fs.statSync(path).isFIFO());
    const { stdout } = spawnSync('sh', ['-c', 'echo through > pipe & cat pipe'], {
      cwd: directory,
      encoding: 'utf8',
    });
    assert.equal(stdout, 'through\n');
  },

  'names of 255 bytes and of any bytes are made'(directory) {
    const at = (name: Buffer) => Buffer.concat([Buffer.from(`${directory}/`), name]);
    for (const name of [
      Buffer.from('é'.repeat(127)),
      Buffer.from('x'.repeat(255)),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('\n'),
    ]) {
      fs.writeFileSync(at(name), 'x');
      assert.ok(fs.readdirSync(directory, { encoding: 'buffer' }).some((found) => found.equals(name)));
      fs.unlinkSync(at(name));
    }
    assert.equal(
      codeOf(() => fs.writeFileSync(at(Buffer.from('x'.repeat(256))), '')),
      'ENAMETOOLONG',
    );
  },

  'a file is replaced as editors do, many times'(directory) {
    const path = join(directory, 'dir/a');
    for (let i = 0; i < 200; i++) {
      fs.writeFileSync(`${path}.new`, `${i}\n`);
      fs.renameSync(`${path}.new`, path);
      assert.equal(read(path), `${i}\n`);
    }
    assert.deepEqual(names(join(directory, 'dir')), ['a', 'b', 'sub']);
  },
};
