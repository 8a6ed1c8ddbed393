import { createReceivedChecker, serveJobs, splitReceived, UntrueRecordError } from '@lazytree/core';

/** Records of a bulk transfer, somewhere in a buffer. */
export interface CheckJob {
  buffer: ArrayBuffer;
  offset: number;
  length: number;
}

/** The buffer again, and what is wrong with the records, if anything is. */
export interface Checked {
  buffer: ArrayBuffer;
  problem?: string;
}

const check = createReceivedChecker();

serveJobs<CheckJob, Checked>(
  async ({ buffer, offset, length }) => {
    const bytes = Buffer.from(buffer, offset, length);
    try {
      check(bytes, splitReceived(bytes));
      return { buffer };
    } catch (error) {
      if (error instanceof UntrueRecordError) return { buffer, problem: error.message };
      throw error;
    }
  },
  ({ buffer }) => [buffer],
);
