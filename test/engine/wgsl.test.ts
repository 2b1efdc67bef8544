/** Specialisation and reflection of WGSL, from text alone: no GPU. */
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../engine/errors.ts';
import { defineKernel, linkedKernel } from '../../engine/kernel.ts';
import { type Constants, linkWgsl } from '../../engine/wgsl.ts';

const entry = (body = '') => `
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1) fn main() { ${body} y[0] = x[0]; }
`;
const link = (source: string, constants: Constants = {}, promoted: string[] = []) =>
  linkWgsl('test', `${source}\n${entry()}`, constants, promoted);
/** Lines of the specialised source that are not blank, up to the entry point's bindings. */
const lines = (source: string, constants: Constants = {}) =>
  link(source, constants)
    .code.split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .slice(0, -3);

/** The UsageError that `body` throws. */
function usage(body: () => unknown): UsageError {
  try {
    body();
  } catch (error) {
    if (error instanceof UsageError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('overrides', () => {
  it.each([
    ['override A: u32 = 4;', {}, 'const A: u32 = 4u;'],
    ['override A: u32 = 4u;', { A: 7 }, 'const A: u32 = 7u;'],
    ['override A: u32 = 0x1fu;', {}, 'const A: u32 = 31u;'],
    ['override A: u32 = 0x1f;', {}, 'const A: u32 = 31u;'],
    ['override A: u32 = 0;', { A: true }, 'const A: u32 = 1u;'],
    ['override A: u32 = 1;', { A: 4294967295 }, 'const A: u32 = 4294967295u;'],
    ['override A: i32 = -3;', {}, 'const A: i32 = -3;'],
    ['override A: i32 = 5i;', { A: -2147483648 }, 'const A: i32 = -2147483648;'],
    ['override A: f32 = 2;', {}, 'const A: f32 = 2.0;'],
    ['override A: f32 = 1.5f;', {}, 'const A: f32 = 1.5;'],
    ['override A: f32 = 0.0;', { A: -0.25 }, 'const A: f32 = -0.25;'],
    ['override A: f32 = 0.0;', { A: 1e-7 }, 'const A: f32 = 1e-7;'],
    ['override A: f32 = 0.0;', { A: 1e21 }, 'const A: f32 = 1e+21;'],
    ['override A: bool = false;', {}, 'const A: bool = false;'],
    ['override A: bool = false;', { A: true }, 'const A: bool = true;'],
    ['override A: bool = true;', { A: 0 }, 'const A: bool = false;'],
    ['  override A : u32 = 4 ;', {}, 'const A: u32 = 4u;'],
  ])('%s with %o becomes %s', (source, constants, expected) => {
    expect(lines(source, constants as Constants)[0]).toBe(expected);
  });

  it('are resolved everywhere in the source, in any order', () => {
    const code = lines('override B: u32 = 2;\nvar<private> p: array<f32, B>;\noverride A: u32 = 3;', { A: 5 });
    expect(code).toEqual(['const B: u32 = 2u;', 'var<private> p: array<f32, B>;', 'const A: u32 = 5u;']);
  });

  it('an unknown constant names the kernel and lists what it has', () => {
    const error = usage(() => link('override TILE: u32 = 4;\noverride EACH: u32 = 1;', { TILES: 8 }));
    expect(error.message).toBe("kernel test has no override 'TILES'");
    expect(error.hint).toBe('it has: TILE, EACH');
  });

  it.each([
    ['u32', -1],
    ['u32', 1.5],
    ['u32', 2 ** 32],
    ['u32', Number.NaN],
    ['i32', 2 ** 31],
    ['i32', 0.5],
    ['f32', Number.POSITIVE_INFINITY],
    ['f32', 1e39],
    ['bool', Number.NaN],
  ])('a %s cannot be %d', (type, value) => {
    const source = `override A: ${type} = ${type === 'bool' ? 'false' : '0'};`;
    expect(usage(() => link(source, { A: value })).message).toBe(
      `kernel test: override A is ${value}, which is no ${type}`,
    );
  });

  it('needs a literal default', () => {
    expect(usage(() => link('override A: u32 = B * 2;')).message).toMatch(
      /override A needs a literal default, found 'B \* 2'/,
    );
  });
});

describe('//#if', () => {
  const source = `
override A: u32 = 1;
override B: u32 = 2;
//#if A == 1
const a = 0;
//#if B > 2
const a_b = 0;
//#else
const a_not_b = 0;
//#endif
//#else
const not_a = 0;
//#if B == 9
const not_a_b = 0;
//#endif
//#endif
const end = 0;`;

  it.each([
    [{}, ['a', 'a_not_b', 'end']],
    [{ B: 3 }, ['a', 'a_b', 'end']],
    [{ A: 0 }, ['not_a', 'end']],
    [{ A: 0, B: 9 }, ['not_a', 'not_a_b', 'end']],
  ])('nests: %o', (constants, expected) => {
    expect(lines(source, constants as Constants).slice(2)).toEqual(expected.map((name) => `const ${name} = 0;`));
  });

  it.each([
    ['A == 3', true],
    ['A != 3', false],
    ['A < 3', false],
    ['A <= 3', true],
    ['A > 2', true],
    ['A >= 4', false],
    ['A == C', true],
    ['F == true', true],
    ['F == false', false],
    ['A == 1 || B == 2', true],
    ['A == 1 || B == 2 && C == 9', false],
    ['A == 3 && B == 2 && C == 3', true],
    ['(A == 3) && (B == 2)', true],
    ['(A == 1) || (B == 1)', false],
  ])('%s is %s', (condition, holds) => {
    const all = `override A: u32 = 3;\noverride B: u32 = 2;\noverride C: u32 = 3;\noverride F: bool = true;\n`;
    const code = lines(`${all}//#if ${condition}\nconst yes = 1;\n//#else\nconst no = 1;\n//#endif`);
    expect(code.slice(4)).toEqual([holds ? 'const yes = 1;' : 'const no = 1;']);
  });

  it('keeps line numbers', () => {
    const { code } = link('override A: u32 = 0;\n//#if A == 1\nconst x1 = 1;\n//#endif\nconst x2 = 2;');
    expect(code.split('\n').slice(0, 5)).toEqual(['const A: u32 = 0u;', '', '', '', 'const x2 = 2;']);
  });

  it.each([
    ['//#if A == 1\nconst x1 = 1;', /kernel test: \/\/#if without \/\/#endif/],
    ['//#endif', /kernel test, line 2: \/\/#endif without \/\/#if/],
    ['//#else', /line 2: \/\/#else without \/\/#if/],
    ['//#if A == 1\n//#else\n//#else\n//#endif', /line 4: \/\/#else for the second time/],
    ['//#elif A == 1', /line 2: \/\/#elif A == 1 is no directive/],
    ['//#ifdef A\n//#endif', /line 2: \/\/#ifdef A is no directive/],
    ['//#if Q == 1\n//#endif', /cannot read the condition '\/\/#if Q == 1'/],
    ['//#if A\n//#endif', /cannot read the condition/],
    ['//#if A == q\n//#endif', /cannot read the condition/],
    ['//#if (A == 1 || A == 2) && A == 3\n//#endif', /cannot read the condition/],
  ])('%j is refused', (text, message) => {
    expect(usage(() => link(`override A: u32 = 1;\n${text}`)).message).toMatch(message);
  });
});

describe('//#unroll', () => {
  it('replaces a lone index by a literal and a suffix by a digit', () => {
    const { code } = link('fn f() {\n//#unroll i 2\nlet v_i = g[i + 1u];\n//#end\n}\nvar<private> g: array<f32, 4>;');
    expect(code.split('\n').slice(1, 3)).toEqual(['let v_0 = g[0u + 1u];', 'let v_1 = g[1u + 1u];']);
  });

  it('leaves members, longer names and other suffixes alone', () => {
    const { code } = link(
      'fn f(p: vec4f, i2: u32) {\n//#unroll i 1\nlet a_i = p.x + f32(i2); let x_index = f32(i); let b_i_j = 1;\n//#end\n}',
    );
    expect(code.split('\n')[1]).toBe('let a_0 = p.x + f32(i2); let x_index = f32(0u); let b_0_j = 1;');
  });

  it('nests, with counts from overrides', () => {
    const source =
      'override N: u32 = 2;\nfn f() {\n//#unroll i N\n//#unroll j 3\nlet v_i_j = i * 10u + j;\n//#end\nlet row_i = i;\n//#end\n}';
    const body = link(source, { N: 2 }).code.split('\n');
    expect(body.slice(2, 10)).toEqual([
      'let v_0_0 = 0u * 10u + 0u;',
      'let v_0_1 = 0u * 10u + 1u;',
      'let v_0_2 = 0u * 10u + 2u;',
      'let row_0 = 0u;',
      'let v_1_0 = 1u * 10u + 0u;',
      'let v_1_1 = 1u * 10u + 1u;',
      'let v_1_2 = 1u * 10u + 2u;',
      'let row_1 = 1u;',
    ]);
    expect(link(source, { N: 0 }).code).not.toContain('v_');
  });

  it('inside a dropped //#if vanishes; around one sees its choice', () => {
    const source = `override A: u32 = 0;
//#if A == 1
//#unroll i nonsense
const n_i = i;
//#end
//#endif
//#unroll i 2
//#if A == 0
const k_i = i;
//#endif
//#end`;
    expect(lines(source)).toEqual(['const A: u32 = 0u;', 'const k_0 = 0u;', 'const k_1 = 1u;']);
  });

  it.each([
    ['//#unroll i 2\nconst n_i = i;', /\/\/#unroll i without \/\/#end/],
    ['//#unroll i\n//#end', /'\/\/#unroll i' does not fit/],
    ['//#end', /'\/\/#end' does not fit/],
    ['//#unroll i nonsense\n//#end', /cannot unroll 'nonsense' times/],
    ['//#unroll i 1.5\n//#end', /does not fit/],
  ])('%j is refused', (text, message) => {
    expect(usage(() => link(text)).message).toMatch(message);
  });
});

describe('promotion', () => {
  it('declares the named read-only bindings read_write, and nothing else', () => {
    const { code, entries } = link('', {}, ['x']);
    expect(code).toContain('var<storage, read_write> x: array<f32>;');
    expect(entries.get('main')!.bindings.map((b) => b.writable)).toEqual([true, true]);
    expect(link('').code).toContain('var<storage, read> x: array<f32>;');
  });

  it('does not touch a binding whose name begins alike', () => {
    const { code } = link('@group(0) @binding(2) var<storage, read> xs: array<f32>;', {}, ['x']);
    expect(code).toContain('var<storage, read> xs: array<f32>;');
  });

  it.each(['y', 'nothing'])('%s cannot be promoted', (name) => {
    expect(usage(() => link('', {}, [name])).message).toBe(`kernel test: no read-only binding '${name}' to promote`);
  });

  it('specialisations are linked once per kernel, whatever the order of the constants', () => {
    const kernel = defineKernel('k', `override A: u32 = 1;\noverride B: u32 = 2;${entry()}`);
    const one = linkedKernel(kernel, { A: 2, B: 3 });
    expect(linkedKernel(kernel, { B: 3, A: 2 })).toBe(one);
    expect(linkedKernel(kernel, { A: 2, B: 3 }, ['x'])).not.toBe(one);
    expect(linkedKernel(kernel, { A: true, B: 3 })).toBe(linkedKernel(kernel, { A: 1, B: 3 }));
  });
});

describe('reflection', () => {
  const source = `
struct Params { rows: u32, shift: i32, @align(16) scale: f32, last: u32 }
@group(1) @binding(0) var<uniform> params: Params;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(5) var<storage, read> unused: array<f32>;
@group(0) @binding(1) var copied: texture_storage_2d<rgba32float, read>;
fn helper() -> f32 { return a[params.rows] + textureLoad(copied, vec2u()).x; }
@compute @workgroup_size(1) fn through_a_helper() { out[0] = helper(); }
@compute @workgroup_size(1) fn bare() { out[0] = 1.0; }
`;
  const { entries } = linkWgsl('test', source, {}, []);

  it('lists the bindings an entry uses, also through functions, in binding order', () => {
    expect(entries.get('through_a_helper')!.bindings).toEqual([
      { name: 'a', binding: 0, writable: false, mirror: null },
      { name: 'copied', binding: 1, writable: false, mirror: { format: 'rgba32float', name: 'rgba32float/0' } },
      { name: 'out', binding: 3, writable: true, mirror: null },
    ]);
    expect(entries.get('bare')!.bindings).toEqual([{ name: 'out', binding: 3, writable: true, mirror: null }]);
  });

  it('lists the parameters with their offsets by the rules of WGSL', () => {
    expect(entries.get('through_a_helper')!.params).toEqual([
      { name: 'rows', type: 'u32', offset: 0 },
      { name: 'shift', type: 'i32', offset: 4 },
      { name: 'scale', type: 'f32', offset: 16 },
      { name: 'last', type: 'u32', offset: 20 },
    ]);
    expect(entries.get('bare')!.params).toEqual([]);
  });

  it('refuses parameters that it cannot pack', () => {
    const bad = source.replace('shift: i32', 'shift: vec2f');
    expect(usage(() => linkWgsl('test', bad, {}, [])).message).toMatch(/Params.shift is .*; only u32, i32 and f32/);
  });

  it('refuses resources outside the two groups', () => {
    const bad = source.replace('@group(0) @binding(0)', '@group(2) @binding(0)');
    expect(usage(() => linkWgsl('test', bad, {}, [])).message).toBe("kernel test: unexpected resource 'a' in group 2");
  });

  it('refuses more storage bindings than WebGPU guarantees', () => {
    const many = Array.from(
      { length: 9 },
      (_, i) => `@group(0) @binding(${i}) var<storage, read_write> t${i}: array<f32>;`,
    );
    const use = Array.from({ length: 9 }, (_, i) => `t${i}[0] = 0.0;`).join(' ');
    const text = `${many.join('\n')}\n@compute @workgroup_size(1) fn main() { ${use} }`;
    expect(usage(() => linkWgsl('test', text, {}, [])).message).toBe(
      'kernel test/main uses 9 storage bindings; WebGPU guarantees 8',
    );
    expect(linkWgsl('test', text.replace('t8[0] = 0.0;', ''), {}, []).entries.get('main')!.bindings.length).toBe(8);
  });

  it('source that does not parse names its kernel and keeps the cause', () => {
    const error = usage(() => linkWgsl('broken', 'fn (', {}, []));
    expect(error.message).toBe('kernel broken: the WGSL does not parse');
    expect(error.cause).toBeInstanceOf(Error);
  });
});
