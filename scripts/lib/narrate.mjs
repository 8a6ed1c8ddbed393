// Steps of a demonstration: what happens, the command line that does it, what it prints, how long it takes.
// This file runs on whatever Node the system has (20 or newer), so: built-ins only.
import { spawnSync } from 'node:child_process';

/** A step that did not do what it should. */
export class StepFailed extends Error {}

/**
 * @param {{ cwd: string, env: NodeJS.ProcessEnv }} options of every command
 */
export function createNarrator({ cwd, env }) {
  let step = 0;

  return {
    /** @param {string} text what comes next */
    step(text) {
      step += 1;
      console.log(`\n${step}. ${text}`);
    },

    /** @param {string} text what to see in it */
    note(text) {
      console.log(`   => ${text}`);
    },

    /**
     * Prints a command line, runs exactly that, and prints what it says.
     * @param {string[]} command
     * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, lines?: number, mayFail?: boolean }} [options] where else
     *   it runs, and after how many lines its output is cut
     * @returns {{ ok: boolean, out: string, seconds: number }}
     */
    run(command, options = {}) {
      console.log(`   $ ${command.map(quote).join(' ')}`);
      const [program, ...args] = command;
      const began = performance.now();
      // A terminal on stderr gets the progress bars; without one they do not exist.
      const { status, signal, error, stdout, stderr } = spawnSync(program, args, {
        cwd: options.cwd ?? cwd,
        env: options.env ?? env,
        stdio: ['ignore', 'pipe', process.stderr.isTTY && program !== 'npm' ? 'inherit' : 'pipe'],
        encoding: 'utf8',
        maxBuffer: 1 << 28,
      });
      const seconds = (performance.now() - began) / 1000;
      const ok = status === 0;
      printLines(stdout ?? '', options.lines ?? 12);
      if (!ok) printLines(stderr ?? '', 40);
      console.log(`   (${formatSeconds(seconds)})`);
      if (!ok && !options.mayFail) {
        const reason = error?.message ?? signal ?? `exit code ${status}`;
        throw new StepFailed(`${command.map(quote).join(' ')}: ${reason}`);
      }
      return { ok, out: stdout ?? '', seconds };
    },

    /**
     * @param {boolean} condition
     * @param {string} text what was expected
     */
    check(condition, text) {
      if (!condition) throw new StepFailed(`not as expected: ${text}`);
    },
  };
}

/**
 * @param {string} text
 * @param {number} limit
 */
function printLines(text, limit) {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  for (const line of lines.slice(0, limit)) console.log(`     ${line}`);
  if (lines.length > limit) console.log(`     ... ${lines.length - limit}${limit > 0 ? ' more' : ''} lines`);
}

/** @param {string} argument */
function quote(argument) {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

/** @param {number} seconds */
export function formatSeconds(seconds) {
  return seconds < 10 ? `${seconds.toFixed(2)} s` : `${seconds.toFixed(0)} s`;
}

/** @param {number} bytes */
export function formatBytes(bytes) {
  if (bytes < 10_000) return `${bytes} bytes`;
  if (bytes < 10_000_000) return `${(bytes / 1000).toFixed(0)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}
