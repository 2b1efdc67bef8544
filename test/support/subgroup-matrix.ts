/**
 * Chromium's experimental subgroup matrices for devices without: what kernels use of them is rewritten into plain WGSL, in which every
 * lane holds every matrix whole. For values only; it is as slow as it sounds. `f16` becomes f32, as far as the matrices need it.
 */

/** A kind of matrix unit, as GPUAdapterInfo.subgroupMatrixConfigs lists them. */
export interface Unit {
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** `device` as it would be with matrix units of these kinds and subgroups of four. */
export function emulatingMatrixUnits(device: GPUDevice, units: readonly Unit[]): GPUDevice {
  const features = new Set<string>([
    ...device.features,
    'subgroups',
    'shader-f16',
    'chromium-experimental-subgroup-matrix',
  ]);
  const subgroupMatrixConfigs = units.map((unit) => ({ componentType: 'f16', resultComponentType: 'f32', ...unit }));
  const changed: Record<string, unknown> = {
    features,
    adapterInfo: { subgroupMinSize: 4, subgroupMaxSize: 4, subgroupMatrixConfigs },
    createShaderModule: ({ label, code }: GPUShaderModuleDescriptor) =>
      device.createShaderModule({ label, code: emulated(code) }),
  };
  return new Proxy(device, {
    get(target, name) {
      if (typeof name === 'string' && name in changed) return changed[name];
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

const MATRIX = /alias (\w+) ?= ?subgroup_matrix_(left|right|result)<\w+, ?(\w+), ?(\w+)>;/g;
const LOAD = /subgroupMatrixLoad<(\w+), ?row_major>\(&(\w+), ?/g;
const STORE = /subgroupMatrixStore<row_major>\(&(\w+), ?/g;

/** The same shader without the extensions; untouched where it does not enable them. */
function emulated(code: string): string {
  if (!/enable chromium_experimental_subgroup_matrix;/.test(code)) return code;
  const alias: Record<string, { name: string; columns: string; rows: string }> = {};
  for (const [, name, kind, columns, rows] of code.matchAll(MATRIX)) {
    alias[kind!] = { name: name!, columns: columns!, rows: rows! };
  }
  const { left, right, result } = alias as Record<'left' | 'right' | 'result', (typeof alias)[string]>;
  const functions = new Map<string, string>();
  for (const [, name, from] of code.matchAll(LOAD)) {
    const { columns, rows } = Object.values(alias).find((a) => a.name === name)!;
    functions.set(
      `load_${name}_${from}`,
      `fn load_${name}_${from}(offset: u32, stride: u32) -> ${name} {
  var m: ${name};
  for (var i = 0u; i < ${rows} * ${columns}; i++) { m[i] = ${from}[offset + i / ${columns} * stride + i % ${columns}]; }
  return m;
}`,
    );
  }
  for (const [, to] of code.matchAll(STORE)) {
    functions.set(
      `store_${to}`,
      `fn store_${to}(offset: u32, matrix: ${result.name}, stride: u32) {
  var m = matrix;
  for (var i = 0u; i < ${result.rows} * ${result.columns}; i++) { ${to}[offset + i / ${result.columns} * stride + i % ${result.columns}] = m[i]; }
}`,
    );
  }
  functions.set(
    'multiply_accumulate',
    `fn multiply_accumulate(x: ${left.name}, y: ${right.name}, sums: ${result.name}) -> ${result.name} {
  var a = x;
  var b = y;
  var m = sums;
  for (var i = 0u; i < ${result.rows} * ${result.columns}; i++) {
    for (var k = 0u; k < ${left.columns}; k++) {
      m[i] += a[i / ${result.columns} * ${left.columns} + k] * b[k * ${right.columns} + i % ${result.columns}];
    }
  }
  return m;
}`,
  );
  const plain = code
    .replace(/^enable (?:f16|subgroups|chromium_experimental_subgroup_matrix|subgroup_size_control);/gm, '')
    .replace(MATRIX, 'alias $1 = array<f32, $3 * $4>;')
    .replace(LOAD, 'load_$1_$2(')
    .replace(STORE, 'store_$1(')
    .replace(/subgroupMatrixMultiplyAccumulate\(/g, 'multiply_accumulate(')
    .replace(/bitcast<vec4<f16>>\(/g, 'unpack_halves(')
    .replace(/\bf16\b/g, 'f32');
  return `${plain}\n${[...functions.values()].join('\n')}\n`;
}
