/**
 * `@lazytree/core/survey`: what a program needs to begin a survey, which can be under way while it loads the rest.
 * What is imported here is on the way to that, so it has to be little.
 */
export { fromSystemError, LazytreeError } from '../errors.js';
export { toFsPath } from '../format/name.js';
export { statCacheFile } from './stat-caches.js';
export { beginSurvey, type Survey } from './survey.js';
