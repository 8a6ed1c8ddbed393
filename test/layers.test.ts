import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const SCRIPT = join(ROOT, 'scripts', 'check-layers.mjs');

function checkLayers(root: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, root], { encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

describe('check-layers', () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'lazytree-layers-'));
  });

  afterEach(() => {
    rmSync(root, { recursive: true });
  });

  function write(files: Record<string, string>) {
    for (const [name, content] of Object.entries(files)) {
      const path = join(root, 'packages', name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
    }
    return checkLayers(root);
  }

  test('this repository keeps to its layers', () => {
    expect(checkLayers(ROOT)).toMatchObject({ status: 0, output: expect.stringContaining('no violation') });
  });

  test('imports that point the right way pass', () => {
    const result = write({
      'core/src/index.ts': "export * from './a.js';\nimport { readFile } from 'node:fs/promises';\n",
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source code
      'core/src/a.ts': "export const a = /['\"`/]/.test(`${'x'}`);\n",
      'node/src/index.ts': "import { a } from '@lazytree/core';\nimport net from 'node:net';\n",
      'cli/src/main.ts': "import '@lazytree/node';\nimport type { A } from '@lazytree/core';\n",
      'cli/bin/lazytree.js': "await import('../dist/main.js');\n",
      'core/test/helpers.ts': '',
      'node/test/fuse/x.test.ts': "import { file } from '../../../core/test/helpers.ts';\n",
    });
    expect(result).toMatchObject({ status: 0 });
  });

  test.each([
    ['core imports node', 'core/src/x.ts', "import { daemon } from '@lazytree/node';"],
    ['core imports cli', 'core/src/x.ts', "import 'lazytree';"],
    ['core imports node lazily', 'core/src/x.ts', "const node = await import('@lazytree/node/sub');"],
    ['core imports a type of node', 'core/src/x.ts', "import type {\n  D,\n} from '@lazytree/node';"],
    ['core re-exports node', 'core/src/x.ts', "export * from '@lazytree/node';"],
    ['a test of core imports node', 'core/test/x.test.ts', "import '@lazytree/node';"],
    ['node imports cli', 'node/src/x.ts', "import { main } from 'lazytree';"],
    ['a relative path into another package', 'node/src/x.ts', "export { a } from '../../core/src/a.js';"],
    ['a test of another package above', 'core/test/x.test.ts', "import '../../node/test/helpers.ts';"],
    ['a test, of another package’s source', 'node/test/x.test.ts', "import '../../core/src/a.js';"],
    ['a source file, of another package’s tests', 'node/src/x.ts', "import '../../core/test/helpers.ts';"],
    ['a worker of another package', 'cli/src/x.ts', "new URL('../../node/dist/w.js', import.meta.url);"],
    ['network: node:net', 'core/src/x.ts', "import { connect } from 'node:net';"],
    ['network: node:http', 'core/src/x.ts', "import http from 'node:http';"],
    ['network: node:https', 'core/src/x.ts', "export { get } from 'node:https';"],
    ['network: tls', 'core/src/x.ts', "import tls from 'tls';"],
    ['network: node:dgram', 'core/src/x.ts', "await import('node:dgram');"],
    ['network: libp2p', 'core/src/x.ts', "import { createLibp2p } from 'libp2p';"],
  ])('%s: refused', (_, file, code) => {
    const comment = "// import 'not-this-one'\n/*\n */\n";
    const line = 4 + code.split('\n').length - 1;
    const result = write({ [file]: `${comment}${code}\n` });
    expect(result.output).toContain(`packages/${file}:${line}: `);
    expect(result.status).toBe(1);
  });

  test('an import cycle is refused, with its path', () => {
    const result = write({
      'core/src/index.ts': "export * from './a.js';\n",
      'core/src/a.ts': "import { b } from './b.js';\nexport const a = () => b;\n",
      'core/src/b.ts': "export { c as b } from './sub/c.js';\n",
      'core/src/sub/c.ts': "\nimport { a } from '../a.js';\nexport const c = a;\n",
    });
    expect(result.output).toContain('packages/core/src/sub/c.ts:2: import cycle: ');
    expect(result.output).toContain(
      ['a.ts', 'b.ts', 'sub/c.ts', 'a.ts'].map((name) => `packages/core/src/${name}`).join(' -> '),
    );
    expect(result.status).toBe(1);
  });

  test('what only looks like an import is not one', () => {
    const result = write({
      'core/src/x.ts': [
        "// import '@lazytree/node';",
        "/* import '@lazytree/node'; */",
        'export const text = "import \'@lazytree/node\'";',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is source code
        "export const template = `import '@lazytree/node' ${[1].map((n) => `${n} from 'lazytree'`)}`;",
        "export const regex = /import 'lazytree'/;",
        "export const from = (from: string) => from + 'lazytree';",
        "export function imports() { return { import: 'lazytree' }; }",
      ].join('\n'),
    });
    expect(result).toMatchObject({ status: 0 });
  });

  test('a folder without packages is an error, not a pass', () => {
    expect(checkLayers(root)).toMatchObject({ status: 1 });
  });
});
