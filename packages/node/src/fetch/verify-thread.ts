import { createReceivedChecker, serveJobs, UntrueRecordError } from '@lazytree/core';

/** Checks records of a bulk transfer. Resolves to what is wrong with them, if anything is. */
const check = createReceivedChecker();

serveJobs<ArrayBuffer, string | undefined>(async (records) => {
  try {
    check(Buffer.from(records));
    return undefined;
  } catch (error) {
    if (error instanceof UntrueRecordError) return error.message;
    throw error;
  }
});
