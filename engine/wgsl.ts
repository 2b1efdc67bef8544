/**
 * WGSL sources as the single truth about a kernel: textual specialisation (`override` -> `const`, `//#if` blocks, access
 * of bindings) and reflection of what is left (engine/reflect.ts).
 *
 * Overrides become constants in the text, because WGSL forbids an `override` to size a private array and because drivers
 * then unroll loops over them. `//#if A == 1 && B > 2`, `//#else`, `//#endif` lines choose code by override values.
 * `//#unroll i COUNT` ... `//#end` repeats its lines with i = 0, 1, ...: a lone `i` becomes `0u`, `name_i` becomes `name_0`. So
 * that values stay in named variables where a loop would put them into indexed memory.
 */
import { UsageError } from './errors.ts';
import { type Interface, type Resource, reflectWgsl } from './reflect.ts';

export type Constants = Readonly<Record<string, number | boolean>>;

export interface ReflectedBinding {
  readonly name: string;
  readonly binding: number;
  readonly writable: boolean;
  /** Of a texture, into which the engine copies the tensor before the dispatch (engine/mirrors.ts). */
  readonly mirror: Mirror | null;
}

/** Formats of mirrors, with the bytes of a texel, which is four elements of a tensor. */
export const TEXEL_BYTES = { rgba32float: 16, rgba16float: 8, rgba8sint: 4 } as const;
export type MirrorFormat = keyof typeof TEXEL_BYTES;

/** How a binding is mirrored: by a texture of this format and name, which others of the same entry point do not have. */
export interface Mirror {
  readonly format: MirrorFormat;
  readonly name: string;
}

export type FieldType = 'u32' | 'i32' | 'f32';

export interface ReflectedEntry {
  readonly name: string;
  readonly bindings: readonly ReflectedBinding[];
  /** Fields of `var<uniform> params: Params` (group 1), in order; empty when the entry has none. */
  readonly params: readonly ParamField[];
}

/** A field of a kernel's Params, at `offset` bytes. */
export interface ParamField {
  readonly name: string;
  readonly type: FieldType;
  readonly offset: number;
}

/**
 * Where the linker binds what the source declares as group 1, binding 0: beside the tensors, as setting one bind group instead
 * of two for every dispatch saves a microsecond.
 */
export const PARAMS_BINDING = 100;

export interface LinkedWgsl {
  readonly code: string;
  readonly entries: ReadonlyMap<string, ReflectedEntry>;
}

const PARAMS_GROUP = /@group\(\s*1u?\s*\)\s*@binding\(\s*0u?\s*\)|@binding\(\s*0u?\s*\)\s*@group\(\s*1u?\s*\)/g;
const OVERRIDE = /^([ \t]*)override\s+(\w+)\s*:\s*(u32|i32|f32|bool)\s*=\s*([^;]+);/gm;

/** Specialises `source`; `promoted` names read-only bindings to be bound as read_write (see engine/program.ts). */
export function linkWgsl(name: string, source: string, constants: Constants, promoted: readonly string[]): LinkedWgsl {
  const values = new Map<string, number>();
  for (const [, , key, , text] of source.matchAll(OVERRIDE)) values.set(key!, literal(name, key!, text!.trim()));
  for (const [key, value] of Object.entries(constants)) {
    if (!values.has(key)) {
      throw new UsageError(`kernel ${name} has no override '${key}'`, {
        hint: `it has: ${[...values.keys()].join(', ')}`,
      });
    }
    values.set(key, Number(value));
  }
  let code = source.replace(
    OVERRIDE,
    (_all, indent, key, type) => `${indent}const ${key}: ${type} = ${constant(name, key, type, values.get(key)!)};`,
  );
  code = unrolled(name, conditionals(name, code, values), values);
  for (const binding of promoted) {
    const pattern = new RegExp(`var<storage,\\s*read>\\s*${binding}\\b`);
    if (!pattern.test(code)) throw new UsageError(`kernel ${name}: no read-only binding '${binding}' to promote`);
    code = code.replace(pattern, `var<storage, read_write> ${binding}`);
  }
  const entries = reflect(name, code);
  return { code: code.replace(PARAMS_GROUP, `@group(0) @binding(${PARAMS_BINDING})`), entries };
}

/** A value as a WGSL literal of its type. */
function constant(kernel: string, key: string, type: string, value: number): string {
  const [min, max] = type === 'u32' ? [0, 0xffffffff] : [-0x80000000, 0x7fffffff];
  const fits =
    type === 'bool' || type === 'f32'
      ? Number.isFinite(Math.fround(value))
      : Number.isInteger(value) && value >= min && value <= max;
  if (!fits) throw new UsageError(`kernel ${kernel}: override ${key} is ${value}, which is no ${type}`);
  if (type === 'bool') return String(value !== 0);
  if (type === 'u32') return `${value}u`;
  return type === 'f32' && /^-?\d+$/.test(`${value}`) ? `${value}.0` : `${value}`;
}

function literal(kernel: string, key: string, text: string): number {
  if (text === 'true' || text === 'false') return Number(text === 'true');
  const value = Number(text.replace(/^0x/i.test(text) ? /[ui]$/ : /[uif]$/, ''));
  if (Number.isNaN(value))
    throw new UsageError(`kernel ${kernel}: override ${key} needs a literal default, found '${text}'`);
  return value;
}

/** Keeps or drops the lines between `//#if`, `//#else` and `//#endif`; dropped lines stay blank so line numbers hold. */
function conditionals(kernel: string, code: string, values: ReadonlyMap<string, number>): string {
  const stack: { holds: boolean; inElse: boolean }[] = [];
  const out: string[] = [];
  for (const [index, line] of code.split('\n').entries()) {
    const fail = (why: string) => new UsageError(`kernel ${kernel}, line ${index + 1}: ${line.trim()} ${why}`);
    const [, word, rest] = /^\s*\/\/#(\w*)(.*)$/.exec(line) ?? [];
    if (word === undefined || word === 'unroll' || word === 'end') {
      out.push(stack.every((s) => s.holds) ? line : '');
      continue;
    }
    if (word === 'if') stack.push({ holds: condition(kernel, rest!, values), inElse: false });
    else if (word !== 'else' && word !== 'endif') throw fail('is no directive (if, else, endif, unroll, end)');
    else {
      const top = stack.pop();
      if (!top) throw fail('without //#if');
      if (word === 'else' && top.inElse) throw fail('for the second time');
      if (word === 'else') stack.push({ holds: !top.holds, inElse: true });
    }
    out.push('');
  }
  if (stack.length > 0) throw new UsageError(`kernel ${kernel}: //#if without //#endif`);
  return out.join('\n');
}

/** Repeats `//#unroll` blocks, outermost first. */
function unrolled(kernel: string, code: string, values: ReadonlyMap<string, number>): string {
  const out: string[] = [];
  const lines = code.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const start = /^\s*\/\/#unroll\s+(\w+)\s+(\w+)\s*$/.exec(lines[i]!);
    if (!start) {
      if (/^\s*\/\/#/.test(lines[i]!))
        throw new UsageError(`kernel ${kernel}: '${lines[i]!.trim()}' does not fit //#unroll INDEX COUNT ... //#end`);
      out.push(lines[i]!);
      continue;
    }
    const [, index, bound] = start;
    const count = values.get(bound!) ?? Number(bound);
    if (!(Number.isInteger(count) && count >= 0))
      throw new UsageError(`kernel ${kernel}: cannot unroll '${bound}' times`);
    let depth = 1;
    const body: string[] = [];
    for (i++; i < lines.length && depth > 0; i++) {
      if (/^\s*\/\/#unroll\b/.test(lines[i]!)) depth++;
      else if (/^\s*\/\/#end\s*$/.test(lines[i]!)) depth--;
      if (depth > 0) body.push(lines[i]!);
    }
    if (depth > 0) throw new UsageError(`kernel ${kernel}: //#unroll ${index} without //#end`);
    i--;
    const lone = new RegExp(`(?<![\\w.])${index}(?!\\w)`, 'g');
    const suffix = new RegExp(`(?<=_)${index}(?![A-Za-z0-9])`, 'g');
    const text = body.join('\n');
    for (let n = 0; n < count; n++)
      out.push(unrolled(kernel, text.replace(lone, `${n}u`).replace(suffix, `${n}`), values));
  }
  return out.join('\n');
}

function condition(kernel: string, text: string, values: ReadonlyMap<string, number>): boolean {
  return text.split('||').some((any) =>
    any.split('&&').every((term) => {
      // Brackets around one comparison only: && binds tighter than ||, as in WGSL.
      const bare = /^\s*\((.*)\)\s*$/.exec(term)?.[1] ?? term;
      const m = /^\s*(\w+)\s*(==|!=|<=|>=|<|>)\s*(\w+)\s*$/.exec(bare);
      const left = m && values.get(m[1]!);
      const right = m && (values.get(m[3]!) ?? (m[3] === 'true' ? 1 : m[3] === 'false' ? 0 : Number(m[3])));
      if (!m || left === undefined || left === null || right === null || Number.isNaN(right)) {
        throw new UsageError(`kernel ${kernel}: cannot read the condition '//#if${text}'`);
      }
      if (m[2] === '==') return left === right;
      if (m[2] === '!=') return left !== right;
      if (m[2] === '<') return left < right;
      if (m[2] === '>') return left > right;
      return m[2] === '<=' ? left <= right : left >= right;
    }),
  );
}

/** The format of a storage texture that is read, if it is one that mirrors have. */
function mirrorFormat({ type, template }: Resource): MirrorFormat | null {
  const [format = '', , access] = template;
  return type === 'texture_storage_2d' && access === 'read' && format in TEXEL_BYTES ? (format as MirrorFormat) : null;
}

function reflect(kernel: string, code: string): Map<string, ReflectedEntry> {
  let found: Interface;
  try {
    found = reflectWgsl(code);
  } catch (cause) {
    throw new UsageError(`kernel ${kernel}: the WGSL does not parse`, { cause });
  }
  const entries = new Map<string, ReflectedEntry>();
  for (const entry of found.entries) {
    const bindings: Resource[] = [];
    let params: ReflectedEntry['params'] = [];
    for (const r of entry.resources) {
      const members = r.space === 'uniform' ? found.structs.get(r.type) : undefined;
      if (r.group === 0 && (r.space === 'storage' || mirrorFormat(r))) bindings.push(r);
      else if (r.group === 1 && r.binding === 0 && members) {
        params = members.map(({ name, type, offset }) => {
          if (type !== 'u32' && type !== 'i32' && type !== 'f32') {
            throw new UsageError(`kernel ${kernel}: Params.${name} is ${type}; only u32, i32 and f32 are allowed`);
          }
          return { name, type, offset };
        });
      } else throw new UsageError(`kernel ${kernel}: unexpected resource '${r.name}' in group ${r.group}`);
    }
    bindings.sort((a, b) => a.binding - b.binding);
    if (bindings.length > 8) {
      throw new UsageError(
        `kernel ${kernel}/${entry.name} uses ${bindings.length} storage bindings; WebGPU guarantees 8`,
      );
    }
    const seen: Partial<Record<MirrorFormat, number>> = {};
    const mirrorOf = (r: Resource): Mirror | null => {
      const format = mirrorFormat(r);
      if (!format) return null;
      const index = seen[format] ?? 0;
      seen[format] = index + 1;
      return { format, name: `${format}/${index}` };
    };
    const named = bindings.map((r) => ({
      name: r.name,
      binding: r.binding,
      writable: r.writable,
      mirror: mirrorOf(r),
    }));
    entries.set(entry.name, { name: entry.name, bindings: named, params });
  }
  return entries;
}
