/**
 * What a WGSL source binds, and where: the resources and parameters of each compute entry point, through the functions that it calls.
 * Reads declarations at module scope and the names that bodies use, and leaves the rest to the driver's compiler, whose messages are
 * better. wgsl_reflect says the same of every kernel (test/engine/reflect.test.ts), but is twenty times as large.
 */

/** A variable that a pipeline binds. */
export interface Resource {
  readonly name: string;
  readonly group: number;
  readonly binding: number;
  /** 'storage', 'uniform', or '' for a texture or sampler. */
  readonly space: string;
  readonly writable: boolean;
  /** Name of its type, without templates. */
  readonly type: string;
  /** The template of its type, as tokens: of a storage texture `format , access`. */
  readonly template: readonly string[];
}

/** A member of a structure of scalars. */
export interface Member {
  readonly name: string;
  readonly type: string;
  /** In bytes, while it and all before it are 32-bit scalars; NaN after another. */
  readonly offset: number;
}

/** A source's interface. */
export interface Interface {
  /** Compute entry points, with what they and the functions that they call use. */
  readonly entries: readonly { readonly name: string; readonly resources: readonly Resource[] }[];
  readonly structs: ReadonlyMap<string, readonly Member[]>;
}

const SCALARS = new Set(['u32', 'i32', 'f32']);
const TOKENS = /\/\/[^\n]*|\/\*|[\p{XID_Start}_]\p{XID_Continue}*|\.?\d[\w.]*(?:(?<=[eEpP])[+-]\d\w*)?|\s+|./gsu;

/** Identifiers, numbers and single characters, without comments and blanks. @throws Error for a comment without end. */
export function tokens(code: string): string[] {
  const out: string[] = [];
  const pattern = new RegExp(TOKENS);
  for (let found = pattern.exec(code); found; found = pattern.exec(code)) {
    const [token] = found;
    if (token === '/*') pattern.lastIndex = endOfComment(code, pattern.lastIndex);
    else if (!/^(\s|\/\/)/.test(token)) out.push(token);
  }
  return out;
}

/** Where the block comment ends whose inside begins at `from`; block comments nest. */
function endOfComment(code: string, from: number): number {
  const mark = /\/\*|\*\//g;
  mark.lastIndex = from;
  for (let depth = 1; depth > 0; ) {
    const found = mark.exec(code);
    if (!found) throw new Error('a comment has no end');
    depth += found[0] === '/*' ? 1 : -1;
  }
  return mark.lastIndex;
}

/** @throws Error for what cannot be read as declarations. */
export function reflectWgsl(code: string): Interface {
  const all = tokens(code);
  let at = 0;
  const next = (): string => {
    const token = all[at++];
    if (token === undefined) throw new Error('the source ends within a declaration');
    return token;
  };
  const expect = (wanted: string): void => {
    const found = next();
    if (found !== wanted) throw new Error(`'${wanted}' is expected, not '${found}'`);
  };
  const identifier = (): string => {
    const found = next();
    if (!/^[\p{XID_Start}_]/u.test(found)) throw new Error(`a name is expected, not '${found}'`);
    return found;
  };
  /** The tokens between brackets, the first of which has been read. */
  const inside = (open: string, close: string): string[] => {
    const out: string[] = [];
    for (let depth = 1; depth > 0; ) {
      const token = next();
      if (token === open) depth++;
      else if (token === close) depth--;
      if (depth > 0) out.push(token);
    }
    return out;
  };
  const attributes = (): Map<string, readonly string[]> => {
    const found = new Map<string, readonly string[]>();
    while (all[at] === '@') {
      at++;
      const name = identifier();
      if (all[at] !== '(') found.set(name, []);
      else {
        at++;
        found.set(name, inside('(', ')'));
      }
    }
    return found;
  };
  /** What stands in angle brackets, if any does. */
  const template = (): string[] => {
    if (all[at] !== '<') return [];
    at++;
    return inside('<', '>');
  };
  const upTo = (end: string): string[] => {
    const out: string[] = [];
    for (let token = next(); token !== end; token = next()) out.push(token);
    return out;
  };

  const structs = new Map<string, Member[]>();
  const aliases = new Map<string, string>();
  const resources = new Map<string, Resource>();
  const functions = new Map<string, ReadonlySet<string>>();
  const entries: string[] = [];
  const plain = (type: string): string => aliases.get(type) ?? type;

  const struct = (): void => {
    const name = identifier();
    expect('{');
    const members: Member[] = [];
    let offset = 0;
    while (all[at] !== '}') {
      const given = attributes();
      const member = identifier();
      expect(':');
      const type = plain(identifier());
      const whole = `${type}${bracketed(template())}`;
      const align = given.has('align') ? integer(given.get('align')!) : 4;
      offset = SCALARS.has(whole) ? Math.ceil(offset / align) * align : Number.NaN;
      members.push({ name: member, type: whole, offset });
      offset += given.has('size') ? integer(given.get('size')!) : 4;
      if (all[at] !== '}') expect(',');
    }
    at++;
    structs.set(name, members);
  };
  const variable = (given: ReadonlyMap<string, readonly string[]>): void => {
    const [space = '', , access = 'read'] = template();
    const name = identifier();
    const [, type = '', , ...rest] = upTo(';');
    const [group, binding] = [given.get('group'), given.get('binding')];
    if (!group || !binding) return;
    const writable = space === 'storage' && access !== 'read';
    resources.set(name, {
      name,
      group: integer(group),
      binding: integer(binding),
      space,
      writable,
      type: plain(type),
      template: rest.slice(0, -1),
    });
  };
  const define = (given: ReadonlyMap<string, readonly string[]>): void => {
    const name = identifier();
    expect('(');
    const parameters = inside('(', ')');
    while (next() !== '{');
    functions.set(name, namesUsed(parameters, inside('{', '}')));
    if (given.has('compute')) entries.push(name);
  };

  while (at < all.length) {
    const given = attributes();
    const word = next();
    if (word === 'struct') struct();
    else if (word === 'var') variable(given);
    else if (word === 'fn') define(given);
    else if (word === 'alias') {
      const name = identifier();
      expect('=');
      const type = upTo(';');
      if (type.length === 1) aliases.set(name, plain(type[0]!));
    } else if (['const', 'override', 'const_assert', 'enable', 'requires', 'diagnostic'].includes(word)) upTo(';');
    else if (word !== ';') throw new Error(`a declaration is expected, not '${word}'`);
  }

  const reached = (name: string, seen: Set<string>): Set<string> => {
    if (seen.has(name)) return seen;
    seen.add(name);
    for (const used of functions.get(name) ?? []) reached(used, seen);
    return seen;
  };
  return {
    structs,
    entries: entries.map((name) => {
      const used = reached(name, new Set());
      return { name, resources: [...resources.values()].filter((resource) => used.has(resource.name)) };
    }),
  };
}

const bracketed = (template: readonly string[]): string => (template.length > 0 ? `<${template.join('')}>` : '');

/** The number that an attribute is given. */
function integer(given: readonly string[]): number {
  const [text = '', ...more] = given.filter((token) => token !== ',');
  if (more.length > 0 || !/^(\d+|0[xX][\da-fA-F]+)[ui]?$/.test(text)) {
    throw new Error(`an attribute needs an integer, not '${given.join(' ')}'`);
  }
  return Number(text.replace(/[ui]$/, ''));
}

/** Names in a function's body that are not its own: neither members nor declared within. */
function namesUsed(parameters: readonly string[], body: readonly string[]): ReadonlySet<string> {
  const used = new Set<string>();
  const scopes: Set<string>[] = [new Set(parameters.filter((_, i) => parameters[i + 1] === ':'))];
  /** Scopes of loops' own variables, which end with the loop's body. */
  const loops = new Set<Set<string>>();
  const push = (): Set<string> => scopes[scopes.push(new Set()) - 1]!;
  /** A declaration whose initial value is being read: it sees what was declared before. */
  let pending: string | null = null;
  for (let i = 0; i < body.length; i++) {
    const token = body[i]!;
    if (token === '{') push();
    else if (token === '}') {
      scopes.pop();
      if (loops.delete(scopes.at(-1)!)) scopes.pop();
    } else if (token === 'for') loops.add(push());
    else if (token === ';') {
      if (pending !== null) scopes.at(-1)!.add(pending);
      pending = null;
    } else if (token === 'let' || token === 'var' || token === 'const') {
      if (body[i + 1] === '<') i = body.indexOf('>', i);
      pending = body[++i] ?? null;
    } else if (token !== '.' && body[i - 1] !== '.' && body[i - 1] !== '@' && !scopes.some((s) => s.has(token))) {
      used.add(token);
    }
  }
  return used;
}
