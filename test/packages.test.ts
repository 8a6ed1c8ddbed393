import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface Packed {
  name: string;
  files: { path: string; mode: number }[];
}

function readManifest(directory: string) {
  return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
}

function pack(cwd: string): Packed {
  const json = execFileSync('npm', ['pack', '--dry-run', '--json'], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed]: Packed[] = Object.values(JSON.parse(json));
  return packed;
}

describe.each(['core', 'node', 'cli'])('packages/%s', (folder) => {
  const directory = join(ROOT, 'packages', folder);
  const manifest = readManifest(directory);

  test('packs what belongs in it and nothing else', () => {
    const { name, files } = pack(directory);
    const paths = files.map((file) => file.path);
    expect(name).toBe(manifest.name);
    expect(paths).toEqual(
      expect.arrayContaining(['LICENSE', 'README.md', 'package.json', 'dist/index.js', 'dist/index.d.ts']),
    );
    const allowed =
      folder === 'cli'
        ? /^(?:LICENSE|README\.md|package\.json|bin\/lazytree\.js|systemd\/lazytree\.service)$/
        : /^(?:LICENSE|README\.md|package\.json)$/;
    const built = /^dist\/.+\.(?:js|js\.map|d\.ts|d\.ts\.map|js\.LEGAL\.txt|wasm)$/;
    expect(paths.filter((path) => !allowed.test(path) && !built.test(path))).toEqual([]);
    expect(paths.filter((path) => /(?:^|\/)tests?\/|\.test\./.test(path))).toEqual([]);
    if (folder === 'cli') {
      expect(paths).toEqual(
        expect.arrayContaining(['bin/lazytree.js', 'dist/main.js', 'systemd/lazytree.service']),
      );
      expect(files.find((file) => file.path === 'bin/lazytree.js')!.mode & 0o111).not.toBe(0);
    }
  });

  test('publint finds nothing', async () => {
    const { messages, pkg } = await publint({
      pkgDir: directory,
      level: 'suggestion',
      strict: true,
      pack: 'npm',
    });
    expect(messages.map((message) => formatMessage(message, pkg!, { color: false }))).toEqual([]);
  });

  test('its manifest is as agreed', () => {
    expect(manifest).toMatchObject({
      version: readManifest(ROOT).version,
      type: 'module',
      license: 'MIT',
      sideEffects: false,
      engines: { node: '>=22.15' },
      description: expect.stringMatching(/./),
      exports: { '.': { types: './dist/index.d.ts', default: './dist/index.js' } },
    });
    expect(readFileSync(join(directory, 'LICENSE'), 'utf8')).toBe(
      readFileSync(join(ROOT, 'LICENSE'), 'utf8'),
    );
  });
});

test('the lockfile has a checksum for every package, and names no registry', () => {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  const external = Object.entries<{ link?: boolean; resolved?: string; integrity?: string }>(
    lock.packages,
  ).filter(([path, entry]) => path.includes('node_modules/') && !entry.link);
  expect(external.length).toBeGreaterThan(0);
  expect(external.filter(([, entry]) => entry.resolved || !entry.integrity).map(([path]) => path)).toEqual(
    [],
  );
});

test('the packed packages run where nothing else of this repository is', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lazytree-packed-'));
  try {
    const packed = ['core', 'node', 'cli'].map((folder) =>
      packInto(join(ROOT, 'packages', folder), directory),
    );
    writeFileSync(join(directory, 'package.json'), '{"private":true}');
    const options = ['--ignore-scripts', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund'];
    execFileSync('npm', ['install', ...options, ...packed], { cwd: directory, stdio: 'ignore' });
    const env = { ...process.env, LAZYTREE_HOME: join(directory, 'home') };
    const lazytree = (...args: string[]) =>
      execFileSync(join(directory, 'node_modules', '.bin', 'lazytree'), args, {
        cwd: directory,
        env,
        encoding: 'utf8',
      });
    // A block that is large and compressed is decoded by the addon.
    const text = 'a line of which there are many\n'.repeat(20_000);
    mkdirSync(join(directory, 'tree'));
    writeFileSync(join(directory, 'tree', 'small.txt'), 'small');
    writeFileSync(join(directory, 'tree', 'large.txt'), text);
    const root = lazytree('import', 'tree').trim().split(/\s/)[0];
    lazytree('export', root, 'copy');
    expect(readFileSync(join(directory, 'copy', 'small.txt'), 'utf8')).toBe('small');
    expect(readFileSync(join(directory, 'copy', 'large.txt'), 'utf8')).toBe(text);
    lazytree('save', root, 'tree.lzt');
    expect(lazytree('ls', 'image:tree.lzt').trim().split('\n')).toHaveLength(2);
    expect(JSON.parse(lazytree('verify', '--json', root))).toMatchObject({ sound: true });
    const outside = new Set(bundled().flatMap(requiredBy));
    expect(outside).toContain('snappy');
    expect([...outside].filter((name) => !isInstalled(name))).toEqual([]);

    function bundled(): string[] {
      const place = join(directory, 'node_modules', 'lazytree', 'dist', 'bundle');
      return readdirSync(place, { recursive: true, encoding: 'utf8' })
        .filter((path) => path.endsWith('.js'))
        .map((path) => join(place, path));
    }

    function isInstalled(name: string): boolean {
      return existsSync(join(directory, 'node_modules', name, 'package.json'));
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 300_000);

/** Packages that are not in a bundle and that it loads when it needs them. */
function requiredBy(file: string): string[] {
  const text = readFileSync(file, 'utf8').replace(/^\s*(?:\/\/|\/?\*).*$/gm, '');
  const names = text.matchAll(
    /(?:\b(?:require|import)|createRequire\([\w.]+\))\(\s*["'](@[\w-]+\/[\w.-]+|\w[\w.-]*)(?:\/[^"']*)?["']\s*\)/g,
  );
  return [...new Set(Array.from(names, ([, name]) => name))].filter((name) => !isBuiltin(name));
}

/** @returns the file that was made */
function packInto(cwd: string, directory: string): string {
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', directory];
  const json = execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const [{ filename }] = Object.values<{ filename: string }>(JSON.parse(json));
  return join(directory, filename);
}

test('the types of everything that is exported are sound, for those who check libraries as well', () => {
  const directory = mkdtempSync(join(tmpdir(), 'lazytree-types-'));
  try {
    symlinkSync(join(ROOT, 'node_modules'), join(directory, 'node_modules'));
    const modules = ['core', 'node', 'cli'].flatMap((folder) => {
      const { name, exports } = readManifest(join(ROOT, 'packages', folder));
      return Object.entries<{ types?: string }>(exports)
        .filter(([, target]) => target.types !== undefined)
        .map(([path]) => `${name}${path.slice(1)}`);
    });
    expect(modules).toContain('@lazytree/node/daemon');
    const lines = modules.map((module, i) => `import * as m${i} from '${module}';\nvoid m${i};\n`);
    writeFileSync(join(directory, 'use.ts'), lines.join(''));
    const compilerOptions = {
      strict: true,
      module: 'nodenext',
      target: 'es2024',
      types: ['node'],
      noEmit: true,
    };
    writeFileSync(
      join(directory, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: { ...compilerOptions, skipLibCheck: false }, files: ['use.ts'] }),
    );
    const tsc = join(ROOT, 'node_modules', '.bin', 'tsc');
    const { stdout } = spawnSync(tsc, ['-p', directory], { encoding: 'utf8' });
    expect(stdout.split('\n').filter((line) => /packages\/(?:core|node|cli)\/|^use\.ts/.test(line))).toEqual(
      [],
    );
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);
