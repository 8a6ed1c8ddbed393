import type { Check } from '@lazytree/node/doctor';
import { homeDirectory } from '@lazytree/node/home-directory';
import { type Action, ExitCode } from '../command.js';
import { oneLine } from '../one-line.js';
import { table } from '../output.js';
import { VERSION } from '../version.js';

export const command: Action = {
  arguments: '',
  summary: 'find out what this machine can do, and what to do about what it cannot',
  details: `Each thing is tried. \`limited\`: what needs it does not work, and all else does. Exit code 0 when all works that is
set up, 3 when something is limited, 1 when nothing works.`,
  where: 'here',
  async run({ signal }) {
    const { examine } = await import('@lazytree/node/doctor');
    const checks: Check[] = [];
    for await (const check of examine({ home: homeDirectory(), version: VERSION, env: process.env, signal }))
      checks.push(check);
    const isThere = (status: Check['status']) => checks.some((check) => check.status === status);
    const exitCode = isThere('failed')
      ? ExitCode.failed
      : isThere('limited')
        ? ExitCode.partly
        : ExitCode.done;
    return { data: { ok: exitCode === ExitCode.done, checks }, text: table(checks.map(row)), exitCode };
  },
};

function row({ name, status, detail, hint }: Check): string[] {
  return [status === 'unused' ? '-' : status, name, oneLine(hint ? `${detail} (${hint})` : detail)];
}
