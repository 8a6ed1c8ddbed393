import { readlinkSync } from 'node:fs';
import { LazytreeError } from '@lazytree/core';
import { type Holder, replaceProcess } from '@lazytree/node';
import { askForJson } from './ask-for-json.js';
import type { Action } from './command.js';
import { exactDirectory } from './exact-directory.js';

/** Changes into its first argument and becomes the rest. */
const IN_DIRECTORY = ['/bin/sh', '-c', 'cd -P -- "$0" && exec "$@"'];
/** Without a change of uid, which takes privileges, and into the user namespace first, which gives them. */
const ENTER = ['nsenter', '--preserve-credentials', '--user', '--mount'];

interface Found {
  name: string;
  target: string;
  state: string;
  holder: Holder | null;
}

export const exec: Action = {
  arguments: '<name> [command...]',
  summary: 'run a command in a workspace, or $SHELL',
  details:
    'It begins at the top of the workspace, or where you are if that is below. Without root, only what is run so\nsees the workspace. All after NAME is the command, and its exit code is that of the command.',
  where: 'here',
  handlesSignals: true,
  passesThrough: true,
  async run({ signal }, [name, ...words]) {
    const { target, holder } = await findMounted(name, signal);
    const command = words[0] === '--' ? words.slice(1) : words;
    if (command.length === 0) command.push(process.env.SHELL || '/bin/sh');
    const here = await exactDirectory();
    const isInside = here !== undefined && `${here}/`.startsWith(`${target}/`);
    const inDirectory = [...IN_DIRECTORY, isInside ? here : target, ...command];
    become(enterIfNeeded(holder, inDirectory) ?? inDirectory);
  },
};

/** @throws LazytreeError NOT_FOUND, and FAILED when it is not mounted */
export async function findMounted(name: string, signal: AbortSignal): Promise<Found> {
  const { workspaces } = (await askForJson(['workspace', 'list'], { signal })) as { workspaces: Found[] };
  const found = workspaces.find((workspace) => workspace.name === name);
  if (!found) {
    throw new LazytreeError('NOT_FOUND', `there is no workspace '${name}'`, {
      hint: '`lazytree workspace list` lists them',
    });
  }
  if (found.state !== 'mounted') {
    throw new LazytreeError('FAILED', `the workspace '${name}' is not mounted`, {
      hint: 'see daemon.log in the home; `lazytree daemon stop`, and the next daemon mounts it again',
    });
  }
  return found;
}

/** What runs a command where the workspaces are seen; undefined when that is here. */
export function enterIfNeeded(holder: Holder | null, command: readonly string[]): string[] | undefined {
  if (!holder || holder.namespace === ownNamespace()) return undefined;
  return [...ENTER, '--target', String(holder.pid), '--', ...command];
}

function ownNamespace(): string {
  return readlinkSync('/proc/self/ns/mnt');
}

/** Goes on as another program. */
export function become([program, ...args]: readonly string[]): never {
  try {
    return replaceProcess(program, args);
  } catch (error) {
    if ((error as LazytreeError).code !== 'NOT_FOUND') throw error;
    throw new LazytreeError(
      'UNSUPPORTED',
      'a workspace without root is entered with nsenter, which is not here',
      {
        cause: error,
        hint: 'install the package util-linux',
      },
    );
  }
}
