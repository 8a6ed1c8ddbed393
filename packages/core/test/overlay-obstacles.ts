import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const NOBODY = 65534;
/** What comes before a command that somebody who is not root runs as the root of a user namespace. */
export const IN_NAMESPACE = [
  ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'],
  ...['unshare', '--user', '--map-root-user', '--mount'],
];

/** Why no overlay can be mounted by root here, or undefined. */
export function whyNoOverlay(): string | undefined {
  if (process.platform !== 'linux') return 'overlayfs is Linux';
  if (process.getuid?.() !== 0) return 'only root can mount with trusted.overlay';
  return whyNotMounted([], 'redirect_dir=on,metacopy=on');
}

/** Why none can be mounted in a user namespace by somebody else, or undefined. */
export function whyNoUserOverlay(): string | undefined {
  if (process.platform !== 'linux') return 'overlayfs is Linux';
  if (process.getuid?.() !== 0) return 'only root can become somebody else';
  const [program, ...args] = [...IN_NAMESPACE, process.execPath, '--input-type=module', '-e', READS_THIS];
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) return `uid ${NOBODY} cannot run this: ${error?.message ?? stderr.trim()}`;
  return whyNotMounted(IN_NAMESPACE, 'userxattr');
}

const READS_THIS = `import fs from 'node:fs'; fs.readFileSync(${JSON.stringify(import.meta.filename)})`;

function whyNotMounted(within: readonly string[], options: string): string | undefined {
  const directory = fs.mkdtempSync(join(tmpdir(), 'lazytree-overlay-'));
  try {
    const made = ['.', 'lower', 'upper', 'work', 'mount'].map((name) => join(directory, name));
    for (const path of made) fs.mkdirSync(path, { recursive: true });
    if (within.length > 0) for (const path of made) fs.chownSync(path, NOBODY, NOBODY);
    const layers = `lowerdir=${directory}/lower,upperdir=${directory}/upper,workdir=${directory}/work`;
    const command = `mount -t overlay overlay -o ${layers},${options} ${directory}/mount && umount ${directory}/mount`;
    const [program, ...args] = [...within, 'sh', '-c', command];
    const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
    return status === 0 ? undefined : `an overlay cannot be mounted: ${error?.message ?? stderr.trim()}`;
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
}
