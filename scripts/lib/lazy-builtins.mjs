// Node's own modules in a bundle. `import` would make each of them a namespace with all its exports, for which node
// loads dozens of others; process.getBuiltinModule gives what is there.
import { isBuiltin } from 'node:module';

/** They load much, and most commands need nothing of it: loaded when something of theirs is used. */
export const LATE = [
  'node:assert',
  'node:child_process',
  'node:crypto',
  'node:fs/promises',
  'node:v8',
  'node:worker_threads',
  'node:zlib',
];

/**
 * @param {readonly string[]} lateOnes those of node's modules that are loaded when something of theirs is used
 * @returns {import('esbuild').Plugin}
 */
export const lazyBuiltins = (lateOnes) => ({
  name: 'lazy-builtins',
  setup({ onResolve, onLoad }) {
    const isLate = (/** @type {string} */ path) => lateOnes.includes(path);
    onResolve({ filter: /.*/ }, ({ path, kind }) => {
      if (!isBuiltin(path)) return undefined;
      const builtin = { path: `node:${path.replace(/^node:/, '')}`, sideEffects: false };
      if (kind === 'import-statement') return { ...builtin, namespace: 'builtin' };
      if (kind === 'require-call' && isLate(builtin.path)) return { ...builtin, namespace: 'required-late' };
      return undefined;
    });
    onLoad({ filter: /.*/, namespace: 'required-late' }, ({ path }) => ({
      contents: `module.exports = ${whole(path)};`,
    }));
    onLoad({ filter: /.*/, namespace: 'builtin' }, async ({ path }) => {
      const exported = Object.entries(await import(path)).filter(([name]) => name !== 'default');
      return { contents: isLate(path) ? late(path, exported) : early(path, exported) };
    });
  },
});

/**
 * @param {string} path
 * @param {[string, unknown][]} exported
 */
function early(path, exported) {
  const lines = exported.map(
    // Marked as pure, so that nothing of what is not used is left.
    ([name]) => `const $${name} = /* @__PURE__ */ (() => all.${name})(); export { $${name} as ${name} };`,
  );
  return `const all = /* @__PURE__ */ process.getBuiltinModule('${path}'); export default all;\n${lines.join('\n')}`;
}

/**
 * Functions, classes and objects have names of their own here. To import another thing by its name is an error when the
 * bundle is made.
 * @param {string} path
 * @param {[string, unknown][]} exported
 */
function late(path, exported) {
  const lines = exported
    .filter(([, value]) => typeof value === 'function' || (typeof value === 'object' && value !== null))
    .map(
      ([name, value]) =>
        `const $${name} = /* @__PURE__ */ ${standIn(name, value)}; export { $${name} as ${name} };`,
    );
  // To ask for a module takes longer than many a function of it.
  return `let found; const all = () => found ??= process.getBuiltinModule('${path}');
    export default ${whole(path)};
    ${lines.join('\n')}`;
}

/**
 * @param {string} name
 * @param {unknown} value what has it
 */
function standIn(name, value) {
  if (typeof value === 'function' && /^[a-z]/.test(name)) return `(...args) => all().${name}(...args)`;
  const get = `get: (_, key) => all().${name}[key]`;
  if (typeof value !== 'function') return `new Proxy({}, { ${get} })`;
  return `new Proxy(class {}, { construct: (_, args) => new (all().${name})(...args), ${get} })`;
}

/**
 * What stands for all of a module, which is a function in some.
 * @param {string} path
 */
function whole(path) {
  const all = `process.getBuiltinModule('${path}')`;
  return `new Proxy(() => {}, { get: (_, name) => ${all}[name], apply: (_, self, values) => ${all}(...values) })`;
}
