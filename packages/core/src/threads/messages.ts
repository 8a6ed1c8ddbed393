/** From a pool to a thread. */
export type ToThread<Job, Answer> =
  | { type: 'job'; id: number; job: Job }
  /** The job of that id is not wanted any more; it still ends with a result, or fails. */
  | { type: 'abort'; id: number }
  | { type: 'answer'; id: number; answer: Answer };

/** From a thread to its pool. A question waits for the answer of its id. */
export type FromThread<Result, Question> =
  | { type: 'question'; id: number; question: Question }
  | { type: 'result'; id: number; result: Result }
  | { type: 'failed'; id: number; error: unknown };
