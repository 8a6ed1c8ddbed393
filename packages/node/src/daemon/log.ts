import { LOG_LEVELS, type LogLevel } from './log-level.js';

/** Fields and a message, or a message alone. An error is given as `err`. */
type Tell = (fields: object | string, message?: string) => void;
export type Log = Readonly<Record<LogLevel, Tell>>;

/** JSON, one object a line: the level, the time in ISO 8601, the process, the fields, and the message as `msg`. */
export function createLog(destination: { write(line: string): void }, level: LogLevel): Log {
  const told = LOG_LEVELS.slice(0, LOG_LEVELS.indexOf(level) + 1);
  const teller = (label: LogLevel): Tell => {
    if (!told.includes(label)) return () => undefined;
    return (fields, message) => {
      const given = typeof fields === 'string' ? { msg: fields } : { ...fields, msg: message };
      const head = { level: label, time: new Date().toISOString(), pid: process.pid };
      destination.write(`${asJson({ ...head, ...given })}\n`);
    };
  };
  return { error: teller('error'), warn: teller('warn'), info: teller('info'), debug: teller('debug') };
}

/** To tell of something never fails. */
function asJson(line: { msg?: unknown }): string {
  try {
    return JSON.stringify(line, (_, value) => plain(value));
  } catch (error) {
    const { msg } = line;
    return JSON.stringify({ level: 'error', msg: String(msg), untold: String(error) });
  }
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (!(value instanceof Error)) return value;
  const { name, message, stack, cause } = value;
  return { ...value, type: name, message, stack, ...(cause === undefined ? {} : { cause }) };
}
