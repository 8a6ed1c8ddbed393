import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeSpec, directory, file } from '../../../../core/test/helpers.js';
import { driver as npm } from '../../../dist/origins/npm/npm-driver.js';
import { driver as npmLock } from '../../../src/origins/npm/npm-lock-driver.js';
import { driver as unpkg } from '../../../src/origins/npm/unpkg-driver.js';
import { driverConformance } from '../driver-conformance.js';
import { integrityOf } from './packed.js';
import { type Registry, registry } from './registry.js';

const MANIFEST = { name: '@scope/tool', version: '1.2.3', bin: { tool: './bin/tool.js' } };
const FILES = {
  'index.js': 'x'.repeat(100_000),
  'bin/tool.js': '#!/usr/bin/env node\r\nrun()\r\n',
  'lib/a.js': 'a',
};
const WRONG = integrityOf(Buffer.from('something else'));

function contentOf(manifest: object): string[] {
  return describeSpec(
    directory({
      'index.js': file(FILES['index.js']),
      bin: directory({ 'tool.js': file('#!/usr/bin/env node\nrun()\r\n', true) }),
      lib: directory({ 'a.js': file('a') }),
      'package.json': file(JSON.stringify(manifest)),
    }),
  );
}

function asServer(at: Registry) {
  return { requests: () => at.log.length, stall: at.stall, breakOff: at.breakOff };
}

driverConformance('npm', async () => {
  const at = await registry();
  at.publish(MANIFEST, { files: FILES });
  at.publish({ ...MANIFEST, version: '2.0.0' }, { tags: ['next'] });
  return {
    driver: npm,
    environment: { ...at.environment, 'npm_config_//127.0.0.1/:_authToken': 'hush' },
    directory: at.directory,
    texts: ['@scope/tool@1.2.3', '@scope/tool@v1.2.3', 'alias@npm:@scope/tool@1.2.3', ' @scope/tool@=1.2.3'],
    bad: ['', '@scope', './some/directory', 'https://user:secret@example.org/x.tgz', '../up'],
    expected: contentOf(MANIFEST),
    missing: '@scope/none@1',
    wrongIntegrity: WRONG,
    server: asServer(at),
    secrets: ['hush', 'secret'],
  };
});

driverConformance('unpkg', async () => {
  const at = await registry();
  at.publish(MANIFEST, { files: FILES });
  return {
    driver: unpkg,
    environment: { ...at.environment, LAZYTREE_UNPKG_URL: at.url },
    directory: at.directory,
    texts: ['@scope/tool@1.2.3', '@scope/tool@1.2.3/', '@scope/tool@v1.2.3'],
    bad: ['', '@scope', '@scope/tool@1.2.3/../other', 'https://example.org/x', 'file:x'],
    expected: contentOf(MANIFEST),
    missing: '@scope/tool@1.2.3/no/such/file',
    wrongIntegrity: WRONG,
    server: asServer(at),
  };
});

driverConformance('npm-lock', async () => {
  const at = await registry();
  const lockfile = join(at.directory, 'package-lock.json');
  const text = `${JSON.stringify({ name: 'x', lockfileVersion: 3, requires: true, packages: { '': { name: 'x' } } }, null, 2)}\n`;
  await writeFile(lockfile, text);
  const hidden = `${JSON.stringify({ name: 'x', lockfileVersion: 3, requires: true, packages: {} }, null, 2)}\n`;
  return {
    driver: npmLock,
    directory: at.directory,
    texts: ['package-lock.json', './package-lock.json', lockfile],
    bad: ['', 'package-lock.json?omit=prod', 'package-lock.json?what=1', 'package-lock.json?workspace=../x'],
    expected: describeSpec(directory({ '.package-lock.json': file(hidden) })),
    missing: 'no-such-lock.json',
    wrongIntegrity: WRONG,
  };
});
