// Finds what a TypeScript or JavaScript file imports, without a parser: comments, strings, templates and
// regular expressions are told apart by a small scanner, then import forms are read off the tokens.

/**
 * @typedef {object} Import
 * @property {string} specifier
 * @property {number} line
 * @property {boolean} isImport false for `new URL('…', import.meta.url)`, which names a file without importing it
 */

/**
 * @param {string} source
 * @returns {Import[]}
 */
export function scanImports(source) {
  const tokens = tokenize(source);
  /** @type {Import[]} */
  const found = [];
  const text = (/** @type {number} */ index) => tokens[index]?.text;
  const add = (/** @type {number} */ index, isImport = true) => {
    const token = tokens[index];
    if (token?.kind !== 'string') return false;
    found.push({ specifier: token.text, line: token.line, isImport });
    return true;
  };
  for (let i = 0; i < tokens.length; i++) {
    if (tokens[i].kind !== 'word' || text(i - 1) === '.') continue;
    switch (text(i)) {
      case 'import':
        if (text(i + 1) === '(') add(i + 2);
        else if (text(i + 1) !== '.' && !add(i + 1)) add(afterFrom(i + 1));
        break;
      case 'export': {
        const clause = text(i + 1) === 'type' ? i + 2 : i + 1;
        if (text(clause) === '{' || text(clause) === '*') add(afterFrom(clause));
        break;
      }
      case 'require':
        if (text(i + 1) === '(') add(i + 2);
        break;
      case 'URL':
        if (text(i + 1) === '(' && text(i + 4) === 'import') add(i + 2, false);
        break;
    }
  }
  return found;

  /**
   * The index after the `from` that ends an import or export clause, or -1.
   * @param {number} index
   */
  function afterFrom(index) {
    for (let i = index; i < tokens.length; i++) {
      const { kind, text } = tokens[i];
      if (kind === 'word' && text === 'from' && tokens[i + 1]?.kind === 'string') return i + 1;
      const inClause = kind === 'word' || kind === 'string' || '{},*='.includes(text);
      if (!inClause) break;
    }
    return -1;
  }
}

/** After these words a slash starts a regular expression; after any other word it divides. */
const BEFORE_EXPRESSION =
  /^(?:return|typeof|case|in|of|do|else|void|delete|throw|new|instanceof|yield|await|default|extends)$/;

/**
 * @typedef {{ kind: 'word' | 'string' | 'mark', text: string, line: number }} Token
 * @param {string} source
 * @returns {Token[]}
 */
function tokenize(source) {
  /** @type {Token[]} */
  const tokens = [];
  /** Depth of braces at which each open `${` ends. @type {number[]} */
  const templates = [];
  let depth = 0;
  let line = 1;
  let at = 0;

  /** @param {RegExp} pattern sticky */
  const match = (pattern) => {
    pattern.lastIndex = at;
    return pattern.exec(source)?.[0];
  };
  /** @param {string} passed */
  const advance = (passed) => {
    at += passed.length;
    for (const char of passed) if (char === '\n') line++;
  };
  /** Passes template text up to and including the next `${` or the closing backtick. */
  const passTemplate = () => {
    const passed = match(/(?:[^`\\$]|\\[\s\S]|\$(?!\{))*(?:`|\$\{)?/y) ?? '';
    advance(passed);
    if (passed.endsWith('${')) templates.push(depth++);
  };
  const regexMayStart = () => {
    const last = tokens.at(-1);
    if (!last) return true;
    if (last.kind === 'word') return BEFORE_EXPRESSION.test(last.text);
    return last.kind === 'mark' && last.text !== ')' && last.text !== ']' && last.text !== '}';
  };

  while (at < source.length) {
    const skipped = match(/(?:\s+|\/\/.*|\/\*[\s\S]*?\*\/|^#!.*)+/y);
    if (skipped) {
      advance(skipped);
      continue;
    }
    const start = line;
    const string = match(/'(?:[^'\\\n]|\\[\s\S])*'|"(?:[^"\\\n]|\\[\s\S])*"/y);
    if (string) {
      tokens.push({ kind: 'string', text: string.slice(1, -1), line: start });
      advance(string);
      continue;
    }
    const word = match(/[\w$#\u0080-\uffff]+/y);
    if (word) {
      tokens.push({ kind: 'word', text: word, line: start });
      advance(word);
      continue;
    }
    const plain = match(/`((?:[^`\\$]|\\[\s\S]|\$(?!\{))*)`/y);
    if (plain) {
      tokens.push({ kind: 'string', text: plain.slice(1, -1), line: start });
      advance(plain);
      continue;
    }
    const char = source[at];
    if (char === '`') {
      tokens.push({ kind: 'string', text: '', line: start });
      advance(char);
      passTemplate();
      continue;
    }
    const regex =
      char === '/' && regexMayStart()
        ? match(/\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/\w*/y)
        : undefined;
    if (regex) {
      tokens.push({ kind: 'string', text: '', line: start });
      advance(regex);
      continue;
    }
    advance(char);
    if (char === '{') depth++;
    if (char === '}' && templates.at(-1) === --depth) {
      templates.pop();
      passTemplate();
      continue;
    }
    tokens.push({ kind: 'mark', text: char, line: start });
  }
  return tokens;
}
