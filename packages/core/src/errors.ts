/**
 * Every error that lazytree raises on purpose is a {@link LazytreeError}: a stable `code`, one line of text
 * that says what and where, and a hint that says what to do. The command line maps codes to exit codes.
 */
export type ErrorCode =
  | 'FAILED'
  | 'USAGE'
  | 'NOT_FOUND'
  | 'BLOCK_MISSING'
  | 'CORRUPT'
  | 'INVALID_NODE'
  | 'LOCKED'
  | 'REFUSED'
  | 'NO_SPACE'
  | 'UNSUPPORTED'
  | 'NOT_EMPTY'
  | 'NETWORK'
  | 'ABORTED';

export interface ErrorDetails {
  cause?: unknown;
  /** What the reader can do about it, as one imperative sentence. */
  hint?: string;
}

export class LazytreeError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'LazytreeError';
    this.code = code;
    this.hint = details.hint;
  }
}

/** The block is not in the store that was asked. Never raised for a store that could not answer. */
export class BlockMissingError extends LazytreeError {
  readonly cid: string;
  constructor(cid: string, where: string) {
    super('BLOCK_MISSING', `block ${cid} is not in ${where}`);
    this.name = 'BlockMissingError';
    this.cid = cid;
  }
}

/** The bytes at hand are not the bytes that the CID names. */
export class CorruptBlockError extends LazytreeError {
  readonly cid: string;
  constructor(cid: string, where: string, reason: string) {
    super('CORRUPT', `block ${cid} in ${where} is corrupt: ${reason}`, {
      hint: 'run `lazytree verify --repair`, then import the source again',
    });
    this.name = 'CorruptBlockError';
    this.cid = cid;
  }
}

/** The bytes are a block, but not a valid lazytree node. */
export class InvalidNodeError extends LazytreeError {
  constructor(message: string) {
    super('INVALID_NODE', `invalid node: ${message}`);
    this.name = 'InvalidNodeError';
  }
}

/** Origins that are not here, while nobody may be asked for them. */
export class OfflineError extends LazytreeError {
  /** References, each with its driver. */
  readonly missing: readonly string[];
  constructor(missing: readonly string[], message = `offline, and ${missing.join(', ')} are not here`) {
    super('NETWORK', message, {
      hint: 'use it once with the network, or pull a tree that has it; then it stays',
    });
    this.name = 'OfflineError';
    this.missing = missing;
  }
}

export function isMissing(error: unknown): error is BlockMissingError {
  return error instanceof BlockMissingError;
}

export function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** Turns an error of the operating system into one of ours; anything else passes through unchanged. */
export function fromSystemError(error: unknown, doing: string): Error {
  if (error instanceof LazytreeError) return error;
  const details = { cause: error };
  switch (errnoOf(error)) {
    case 'ENOENT':
      return new LazytreeError('NOT_FOUND', `${doing}: no such file or directory`, details);
    case 'ENOTDIR':
      return new LazytreeError('NOT_FOUND', `${doing}: a part of the path is not a directory`, details);
    case 'EACCES':
    case 'EPERM':
      return new LazytreeError('REFUSED', `${doing}: permission denied`, details);
    case 'EROFS':
      return new LazytreeError('REFUSED', `${doing}: the file system is read-only`, details);
    case 'ENOSPC':
    case 'EDQUOT':
      return new LazytreeError('NO_SPACE', `${doing}: no space left on the device`, {
        ...details,
        hint: 'free some space and run the command again; what was stored before is intact',
      });
    case 'ELOOP':
      return new LazytreeError('FAILED', `${doing}: a symlink that leads to itself`, details);
    case 'ENAMETOOLONG':
    case 'EISDIR':
    case 'EEXIST':
    case 'EMFILE':
    case 'ENFILE':
    case 'EIO':
    case 'EBUSY':
      return new LazytreeError('FAILED', `${doing}: ${(error as Error).message}`, details);
    default:
      return error instanceof Error ? error : new Error(String(error));
  }
}
