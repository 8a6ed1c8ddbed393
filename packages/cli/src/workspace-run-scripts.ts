import { LazytreeError } from '@lazytree/core';
import { askForJson } from './ask-for-json.js';
import { type Action, type Context, type Options, type Output, RUN_SCRIPTS } from './command.js';
import { become, enterIfNeeded, findMounted } from './workspace-exec.js';

/** Runs as whoever gives it, with their environment, and not as the daemon. */
export const runScripts: Action = {
  arguments: '<name>',
  summary: 'run the install scripts of the packages in a workspace of npm-lock:',
  details:
    'In the order of `npm rebuild`: what they write is in the workspace alone. That of optional packages may fail.\nThose of the project itself are not run.',
  where: 'here',
  run: (context, [name]) => run(context, name),
};

/** What `workspace create --run-scripts` does: the daemon makes the workspace, and scripts run here. */
export async function createAndRunScripts(
  context: Context,
  [name, directory]: string[],
  options: Options,
): Promise<Output> {
  if (!String(options.from).startsWith('npm-lock:')) {
    throw new LazytreeError('USAGE', `${RUN_SCRIPTS} is for trees of npm-lock:`, {
      hint: `of other trees that have one in them, \`lazytree workspace run-scripts ${name}\` runs the scripts`,
    });
  }
  const given = Object.entries({ ...options, runScripts: undefined, json: undefined }).flatMap(
    ([option, value]) => {
      // Of an option that is on unless it is denied, commander has what was not said.
      if (option === 'ignore') return value === false ? ['--no-ignore'] : [];
      if (value === true) return [`--${option}`];
      return typeof value === 'string' ? [`--${option}`, value] : [];
    },
  );
  await askForJson(['workspace', 'create', ...given, '--', name, context.path(directory ?? name)], {
    signal: context.signal,
    directory: context.path('.'),
    writeError: (line) => context.warn(line.replace(/^lazytree: warning: /, '').trimEnd()),
  });
  return run(context, name);
}

async function run(context: Context, name: string): Promise<Output> {
  const { signal } = context;
  const { target, holder } = await findMounted(name, signal);
  const again = [process.execPath, process.argv[1], 'workspace', 'run-scripts', name];
  const elsewhere = enterIfNeeded(holder, context.json ? [...again, '--json'] : again);
  if (elsewhere) return become(elsewhere);
  const { runInstallScripts } = await import('@lazytree/node/install-scripts');
  const scripts = await runInstallScripts(target, {
    signal,
    environment: process.env,
    onWarning: (text) => context.warn(text),
  });
  return { data: { name, target, scripts }, text: `${target}\n` };
}
