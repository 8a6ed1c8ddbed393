import { pino } from 'pino';
import type { LogLevel } from './log-level.js';

export type Log = pino.BaseLogger;

/** JSON, one object a line (pino's, with the level by name and the time in ISO 8601). */
export function createLog(destination: { write(line: string): void }, level: LogLevel): Log {
  return pino(
    {
      level,
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}
