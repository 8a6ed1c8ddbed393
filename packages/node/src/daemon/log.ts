import { pino } from 'pino';
import type { LogLevel } from './log-options.js';

export type Log = pino.BaseLogger;

export interface LogDestination {
  write(line: string): void;
}

/** JSON, one object a line (pino's, with the level by name and the time in ISO 8601). */
export function createLog(destination: LogDestination, level: LogLevel): Log {
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
