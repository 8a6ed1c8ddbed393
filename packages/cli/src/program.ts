import { Command as Program } from 'commander';
import type { Action, Command, Options } from './command.js';
import { VERSION } from './version.js';

type Loaders = Record<string, () => Promise<{ command: Command }>>;
type Execute = (action: Action, values: string[], options: Options) => Promise<void>;

interface ProgramOptions {
  args: readonly string[];
  execute: Execute;
  /** Where help goes. */
  write(text: string): Promise<unknown>;
}

const TREES = `
TREE is a root CID, the name of a ref, NAME@PEER, NAME@REMOTE, or image:FILE, each with an optional /path below it; or
an origin, such as npm:react@18, git:URL#main, tar:URL or dir:PATH, with an optional //path below it.
State is kept in $LAZYTREE_HOME (default: lazytree in the XDG data directory).

Exit codes: 0 done, 1 failed, 2 usage, 3 partly done, 4 not found, 5 corrupt, 6 store locked,
7 network or peer, 8 refused, 130 interrupted.`;

/** The command line, with only the command that `args` name in it, or with all of them for help. */
export async function buildProgram(
  loaders: Loaders,
  { args, execute, write }: ProgramOptions,
): Promise<{ parse(): Promise<void> }> {
  const written: Promise<unknown>[] = [];
  const program = new Program('lazytree')
    .description('Content-addressed trees: import, compare, export and share directories by their root hash.')
    .version(VERSION, '-V, --version', 'print the version')
    .option('--json', 'print one JSON document')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText('after', TREES)
    .showSuggestionAfterError()
    .configureOutput({ writeErr: () => undefined, writeOut: (text) => void written.push(write(text)) })
    .exitOverride();
  const [named, action] = args.filter((arg) => !arg.startsWith('-'));
  const wanted = named !== undefined && named in loaders ? [named] : Object.keys(loaders);
  for (const name of wanted) {
    const { command } = await loaders[name]();
    // Or the program's options would be looked for everywhere.
    if ('actions' in command && command.actions[action]?.passesThrough) program.enablePositionalOptions();
    addCommand(program, name, command, execute);
  }
  return {
    async parse() {
      await program.parseAsync(args, { from: 'user' }).finally(() => Promise.all(written));
    },
  };
}

function addCommand(program: Program, name: string, command: Command, execute: Execute): void {
  if (!('actions' in command)) {
    addAction(program, name, command, execute);
    return;
  }
  const group = program.command(name).description(command.summary).exitOverride().enablePositionalOptions();
  for (const [action, definition] of Object.entries(command.actions))
    addAction(group, action, definition, execute);
}

function addAction(parent: Program, name: string, action: Action, execute: Execute): void {
  const command = parent
    .command(`${name} ${action.arguments}`.trim())
    .description(action.summary)
    .option('--json', 'print one JSON document')
    .option('--offline', 'ask no origin; what was resolved before is used')
    .exitOverride();
  for (const [flags, description, value] of action.options ?? []) command.option(flags, description, value);
  if (action.passesThrough) command.passThroughOptions();
  if (action.details) command.addHelpText('after', `\n${action.details}`);
  command.action((...values: unknown[]) => {
    const args = values
      .slice(0, -2)
      .flat()
      .filter((value) => value !== undefined);
    return execute(action, args as string[], values.at(-2) as Options);
  });
}
