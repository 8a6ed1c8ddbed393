import { type ErrorDetails, LazytreeError } from '@lazytree/core/errors';

/** What was asked for is not on this machine, and nobody else has been asked: a peer or a remote may have it. */
export class NotHereError extends LazytreeError {
  constructor(message: string, details?: ErrorDetails) {
    super('NOT_FOUND', message, details);
    this.name = 'NotHereError';
  }
}
