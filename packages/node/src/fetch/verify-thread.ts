import { createReceivedChecker, serveJobs, splitReceived, UntrueRecordError } from '@lazytree/core';

/** Checks records of a bulk transfer. Resolves to what is wrong with them, if anything is. */
const check = createReceivedChecker();

serveJobs<ArrayBuffer, string | undefined>(async (job) => {
  const bytes = Buffer.from(job);
  try {
    check(bytes, splitReceived(bytes));
    return undefined;
  } catch (error) {
    if (error instanceof UntrueRecordError) return error.message;
    throw error;
  }
});
