/** The interface that is read from WGSL, held to wgsl_reflect's for every kernel as contracts dispatch it on every kind of adapter. */
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { WgslReflect } from 'wgsl_reflect/wgsl_reflect.module.js';
import type { AdapterKind } from '../../engine/device.ts';
import { dryEngine } from '../../engine/dry-device.ts';
import type { Engine } from '../../engine/engine.ts';
import { linkedKernel } from '../../engine/kernel.ts';
import { record } from '../../engine/program.ts';
import { reflectWgsl, tokens } from '../../engine/reflect.ts';
import { linkWgsl } from '../../engine/wgsl.ts';
import { contracts } from '../../kernels/registry.ts';
import { bareWgsl } from '../../scripts/wgsl-text.mjs';
import { runTrial } from '../../tuning/fingerprint.ts';
import { ROOT, textOf } from '../support/repository.ts';

const FEATURES = ['subgroups', 'shader-f16', 'chromium-experimental-subgroup-matrix'];
const UNITS = [{ M: 8, N: 8, K: 8, componentType: 'f16', resultComponentType: 'f32' }];

/** An adapter of this kind that runs nothing; `lanes`: of its subgroups, 0 for none. */
function dry(adapterClass: AdapterKind, lanes: number): Engine {
  const limits = {
    maxBufferSize: 2 ** 28,
    maxStorageBufferBindingSize: 2 ** 27,
    maxComputeWorkgroupsPerDimension: 65535,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
  };
  const adapterInfo = lanes > 0 ? { subgroupMinSize: lanes, subgroupMaxSize: lanes, subgroupMatrixConfigs: UNITS } : {};
  const device = { limits, features: new Set(lanes > 0 ? FEATURES : []), adapterInfo } as unknown as GPUDevice;
  const largestBinding = limits.maxStorageBufferBindingSize;
  return dryEngine({ device, adapterClass, largestBinding, mirrors: 'always' } as Engine);
}

const engines = [dry('gpu', 0), dry('gpu', 32), dry('lavapipe', 8), dry('swiftshader', 4), dry('software', 0)];

/** Every specialisation that the contracts dispatch, with its linked source. */
const dispatched = new Map<string, { readonly kernel: string; readonly code: string }>();
for (const engine of engines) {
  for (const contract of contracts) {
    for (const k of contract.cases) {
      const { recording } = record(engine, contract.name, (ctx) => runTrial(ctx, { contract, case: k }));
      for (const { dispatch } of recording.nodes) {
        const { code } = linkedKernel(dispatch.kernel, dispatch.constants);
        dispatched.set(code, { kernel: dispatch.kernel.name, code });
      }
    }
  }
}

/** What wgsl_reflect says; subgroup matrices have templates that it cannot read. */
function oracle(code: string) {
  const known = code.replace(
    /\b(subgroup_matrix_\w+)<[^<>]*>|\b(subgroupMatrix\w+)<[^<>]*>/g,
    (_all, _type, call) => call ?? 'f32',
  );
  return new WgslReflect(known).entry.compute.map(({ name, resources }) => ({
    name,
    resources: resources
      .map((r) => ({
        ...{ name: r.name, group: r.group, binding: r.binding, writable: r.access === 'read_write' },
        members: (r.type as { members?: { name: string; offset: number; type: { name: string } }[] }).members?.map(
          (m) => ({ name: m.name, type: m.type.name, offset: m.offset }),
        ),
      }))
      .sort((a, b) => a.group - b.group || a.binding - b.binding),
  }));
}

function ours(code: string) {
  const { entries, structs } = reflectWgsl(code);
  return entries.map(({ name, resources }) => ({
    name,
    resources: resources
      .map(({ name, group, binding, writable, type }) => ({
        name,
        group,
        binding,
        writable,
        members: structs.get(type),
      }))
      .sort((a, b) => a.group - b.group || a.binding - b.binding),
  }));
}

describe('every kernel', () => {
  const files = readdirSync(`${ROOT}/kernels`, { recursive: true, encoding: 'utf8' }).filter((f) =>
    f.endsWith('.wgsl'),
  );

  it('is dispatched by some contract, in many specialisations', () => {
    expect(new Set([...dispatched.values()].map(({ kernel }) => kernel)).size).toBeGreaterThan(20);
    expect(dispatched.size).toBeGreaterThan(150);
    expect(files.length).toBeGreaterThan(25);
  });

  it('has the interface that wgsl_reflect reads', () => {
    for (const { kernel, code } of dispatched.values()) expect(ours(code), kernel).toEqual(oracle(code));
  });

  it.each(files)('%s is the same program without its comments', (file) => {
    const source = textOf(`kernels/${file}`);
    const bare = bareWgsl(source);
    const directives = (text: string) => text.split('\n').filter((line) => /^\s*\/\/#/.test(line));
    expect(tokens(bare)).toEqual(tokens(source));
    expect(directives(bare)).toEqual(directives(source).map((line) => line.trim()));
    expect(bare.length).toBeLessThan(source.length);
    expect(bare).not.toMatch(/\/\/(?!#)|\/\*|^\s|\n\s/);
  });
});

describe('names', () => {
  const used = (body: string, more = '') =>
    reflectWgsl(`
      @group(0) @binding(1) var<storage, read_write> out: array<f32>;
      @group(0) @binding(0) var<storage, read> a: array<f32>;
      @group(0) @binding(2) var<storage> b: array<f32>;
      ${more}
      @workgroup_size(8, 1) @compute fn main(@builtin(local_invocation_index) i: u32) { ${body}
 }
    `).entries[0]!.resources.map(({ name }) => name);

  it.each([
    ['out[i] = a[i];', ['out', 'a']],
    ['out[i] = 1.0; // a', ['out']],
    ['/* a // /* b */ */ out[i] = 1.0; /**/ let x = b[0];', ['out', 'b']],
    ['/* a /* b */ a */ out[i] = 1.0;', ['out']],
    ['let s = S(1.0); out[i] = s.a;', ['out'], 'struct S { a: f32 }'],
    ['let a = 1.0; out[i] = a;', ['out']],
    ['let a = a[0]; out[i] = a;', ['out', 'a']],
    ['{ var a = 1.0; out[i] = a; } out[i] += a[i];', ['out', 'a']],
    ['for (var a = 0u; a < 3u; a++) { out[a] = 1.0; } let x = b[0];', ['out', 'b']],
    ['for (var a = 0u; a < 3u; a++) { out[a] = 1.0; } let x = a[0];', ['out', 'a']],
    ['out[i] = first();', ['out', 'b'], 'fn second() -> f32 { return b[0]; } fn first() -> f32 { return second(); }'],
    ['out[i] = first(1.0);', ['out'], 'fn first(b: f32) -> f32 { return b; }'],
    ['var<function> a: array<vec2<f32>, 2>; out[i] = a[0].x;', ['out']],
  ])('in %j: %j', (body, want, more = '') => {
    expect(used(body, more)).toEqual(want);
  });
});

describe('declarations', () => {
  it('of every kind are read or passed over', () => {
    const { entries, structs } = reflectWgsl(`
      enable f16; requires x; diagnostic(off, derivative_uniformity);
      alias Word = u32; alias Pair = vec2<f32>; const N = 3 * 2u; const_assert N > 1u;
      override W: u32 = 4; var<private> p: array<f32, N>; var<workgroup> w: array<vec4f, 3>;
      struct Params { @size(16) first: Word, @align(0x20) second: f32, third: Pair, fourth: array<vec4<f32>, 4>, }
      @binding(0) @group(1) var<uniform> params: Params;
      @group(0) @binding(4) var<storage, read_write> out: array<atomic<u32>>;
      @group(0) @binding(2) var copied: texture_storage_2d<rgba16float, read>;
      @vertex fn shade() -> @builtin(position) vec4f { return vec4f(params.second); }
      @compute @workgroup_size(W) fn main() { atomicAdd(&out[0], params.first + u32(textureLoad(copied, vec2u()).x)); };
    `);
    expect(structs.get('Params')).toEqual([
      { name: 'first', type: 'u32', offset: 0 },
      { name: 'second', type: 'f32', offset: 32 },
      { name: 'third', type: 'Pair', offset: Number.NaN },
      { name: 'fourth', type: 'array<vec4<f32>,4>', offset: Number.NaN },
    ]);
    expect(entries).toEqual([
      {
        name: 'main',
        resources: [
          { name: 'params', group: 1, binding: 0, space: 'uniform', writable: false, type: 'Params', template: [] },
          {
            ...{ name: 'out', group: 0, binding: 4, space: 'storage', writable: true },
            ...{ type: 'array', template: ['atomic', '<', 'u32', '>'] },
          },
          {
            ...{ name: 'copied', group: 0, binding: 2, space: '', writable: false },
            ...{ type: 'texture_storage_2d', template: ['rgba16float', ',', 'read'] },
          },
        ],
      },
    ]);
  });

  it.each([
    ['fn (', "a name is expected, not '('"],
    ['struct S { a u32 }', "':' is expected, not 'u32'"],
    ['/* /* */ fn f() {}', 'a comment has no end'],
    ['nonsense;', "a declaration is expected, not 'nonsense'"],
    ['fn f() { if (true) { }', 'the source ends within a declaration'],
    ['@group(A) @binding(0) var<storage> x: array<f32>;', "an attribute needs an integer, not 'A'"],
  ])('%j is refused', (source, message) => {
    expect(() => reflectWgsl(source)).toThrow(new Error(message));
  });

  it.each([
    'texture_2d<f32>',
    'texture_storage_2d<rgba32float, write>',
    'texture_storage_2d<rgba8unorm, read>',
    'sampler',
  ])('of a %s cannot be bound', (type) => {
    const source = `@group(0) @binding(0) var t: ${type};
      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
      @compute @workgroup_size(1) fn main() { y[0] = f(t); }`;
    expect(() => linkWgsl('test', source, {}, [])).toThrow("kernel test: unexpected resource 't' in group 0");
  });
});
