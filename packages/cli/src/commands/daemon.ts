import { setTimeout as sleep } from 'node:timers/promises';
import { LazytreeError } from '@lazytree/core/errors';
import { warmUp } from '@lazytree/node';
import {
  type DaemonStatus,
  daemonStatus,
  keepDaemon,
  type Launched,
  LOG_FORMATS,
  LOG_LEVELS,
  type LogFormat,
  type LogLevel,
  launchedFor,
  stopDaemon,
} from '@lazytree/node/daemon-client';
import { daemonLog, homeDirectory } from '@lazytree/node/home-directory';
import { type Action, type Context, ExitCode, type Options } from '../command.js';
import { table } from '../output.js';
import { startForUser } from '../start-daemon.js';
import { VERSION } from '../version.js';

const PLACES: [string, string][] = [
  ['--listen <address...>', 'where peers of the cluster find this machine, as a multiaddr'],
  ['--peer <address...>', 'a peer to connect to that is not discovered by itself, as a multiaddr'],
];

/** Readers of a mount without a daemon wait that long, some of them in a way that nothing can end. */
const MOST_KEEP_SECONDS = 3600;
const LOG_FORMAT = '--log-format <format>';

const run: Action = {
  arguments: '',
  summary: 'be the daemon, in the foreground, with the log on stderr',
  details: 'Ends with SIGTERM, SIGINT or `lazytree daemon stop`, when the commands under way have ended.',
  where: 'here',
  options: [[LOG_FORMAT, 'json or text; text when stderr is a terminal, else json'], ...PLACES],
  handlesSignals: true,
  async run(context, _, options) {
    const launched = launchedFor();
    try {
      await become(context, launched, options);
    } catch (error) {
      const { code = 'FAILED', message, hint } = error as LazytreeError;
      launched?.tell({ error: { code, message, ...(hint ? { hint } : {}) } });
      throw error;
    }
    return { data: { ended: process.pid } };
  },
};

async function become(
  context: Context,
  launched: Launched | undefined,
  { listen, peer, logFormat }: Options,
): Promise<void> {
  const format = formatNamed(logFormat);
  const keepMs = keepTime();
  const level = logLevel();
  // What is mounted first needs a thread, which takes as long to start as all the rest of a daemon.
  warmUp();
  const [{ createLog, openLogFile, readableLog, runDaemon }, { commandsOf, loadCommands }] =
    await Promise.all([import('@lazytree/node/daemon'), context.commands()]);
  const home = homeDirectory();
  // A caller's relative path is its own affair, and this home's must not depend on a directory.
  process.env.LAZYTREE_HOME = home;
  // A log that nobody reads any more ends nothing.
  process.stderr.on('error', () => undefined);
  const destination = launched ? openLogFile(daemonLog(home)) : process.stderr;
  const isRead = !launched && process.stderr.isTTY === true;
  const isText = format === undefined ? isRead : format === 'text';
  const colour = isRead && process.stderr.hasColors();
  // Until here nothing of the home was touched but its log.
  if (launched && !(await launched.wanted)) return;
  const log = createLog(isText ? await readableLog(destination, { colour }) : destination, level);
  await runDaemon({
    home,
    version: VERSION,
    log,
    ...(keepMs !== undefined && { keepMs }),
    execute: commandsOf,
    listen: listen as string[] | undefined,
    peers: peer as string[] | undefined,
    stays: launched?.startedFor !== 'command',
    awaited: launched?.left,
    onReady(host) {
      launched?.tell({ ready: true });
      const load = async () => {
        // Whoever has started it waits for a command of its own.
        await Promise.race([launched?.left, sleep(LOAD_AFTER_MS, undefined, { ref: false })]);
        await loadCommands();
        await (await host.remotes())?.prepare();
      };
      load().catch((err) => log.error({ err }, 'what commands need cannot be loaded'));
    },
  });
}

/** The longest time that the code of commands is not loaded for the sake of whoever has started the daemon. */
const LOAD_AFTER_MS = 500;

function logLevel(): LogLevel {
  const wanted = process.env.LAZYTREE_LOG_LEVEL ?? 'info';
  const level = LOG_LEVELS.find((known) => known === wanted);
  if (level) return level;
  throw new LazytreeError('USAGE', `LAZYTREE_LOG_LEVEL is one of ${LOG_LEVELS.join(', ')}, not '${wanted}'`);
}

function formatNamed(wanted: Options[string]): LogFormat | undefined {
  if (wanted === undefined) return undefined;
  const format = LOG_FORMATS.find((known) => known === wanted);
  if (format) return format;
  throw new LazytreeError('USAGE', `--log-format is one of ${LOG_FORMATS.join(', ')}, not '${wanted}'`);
}

/** How long mounts are kept for another daemon when this one is killed. */
function keepTime(): number | undefined {
  const wanted = process.env.LAZYTREE_KEEP_SECONDS;
  if (wanted === undefined) return undefined;
  const seconds = Number(wanted);
  if (wanted.trim() !== '' && seconds >= 0 && seconds <= MOST_KEEP_SECONDS) return seconds * 1000;
  throw new LazytreeError(
    'USAGE',
    `LAZYTREE_KEEP_SECONDS is a number of seconds up to ${MOST_KEEP_SECONDS}, not '${wanted}'`,
  );
}

const start: Action = {
  arguments: '',
  options: [[LOG_FORMAT, 'of its log: json (the default) or text'], ...PLACES],
  summary: 'start the daemon in the background, unless it runs',
  details: 'It stays until `lazytree daemon stop`. Its log is daemon.log in the home.',
  where: 'here',
  async run(context, _, { listen, peer, logFormat }) {
    const flags = (name: string, values: unknown) =>
      ((values ?? []) as string[]).flatMap((value) => [name, value]);
    const format = formatNamed(logFormat);
    const wanted = [
      ...flags('--listen', listen),
      ...flags('--peer', peer),
      ...flags('--log-format', format === undefined ? [] : [format]),
    ];
    const status = await startForUser(wanted);
    if (!status.started) {
      await keepDaemon(status.home);
      if (wanted.length > 0) context.warn('the daemon runs already, as it was told before');
    }
    const { pid, started, home } = status;
    const what = started ? 'started' : 'is running already';
    return { data: { pid, started, home }, text: `the daemon ${what}: process ${pid}\n` };
  },
};

const stop: Action = {
  arguments: '',
  summary: 'end the daemon, when the commands under way have ended',
  where: 'here',
  async run() {
    const home = homeDirectory();
    const stopped = await stopDaemon(home);
    const text = stopped ? `the daemon has ended: process ${stopped.pid}\n` : 'no daemon is running\n';
    return { data: { stopped: stopped !== undefined, pid: stopped?.pid, home }, text };
  },
};

const status: Action = {
  arguments: '',
  summary: 'say whether the daemon runs, and what it does; exit code 4 when it does not run',
  where: 'here',
  async run() {
    const home = homeDirectory();
    const found = await daemonStatus(home);
    if (found) return { data: { running: true, ...found }, text: describe(found) };
    return { data: { running: false, home }, text: 'no daemon is running\n', exitCode: ExitCode.notFound };
  },
};

function describe({ pid, version, home, uptime, stays, busy, commands }: DaemonStatus): string {
  return table([
    ['process', String(pid)],
    ['version', version],
    ['home', home],
    ['up', `${Math.round(uptime)} s`],
    ['ends', stays || busy ? 'when it is stopped' : 'when it has nothing to do'],
    ...commands.map(({ name, seconds }) => ['command', `${name}, for ${Math.round(seconds)} s`]),
  ]);
}

export const command = {
  summary: 'the process that keeps the home open',
  actions: { start, stop, status, run },
};
