export type { Check } from './check.js';
export { type ExamineOptions, examine } from './examine.js';
