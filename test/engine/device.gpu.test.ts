/** Device acquisition: the order of candidates, unpacking SwiftShader, limits, errors, loss, and a real round trip. */

import {
  chmodSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { formatInfo, gatherInfo } from '../../cli/info.ts';
import {
  adapterChoice,
  type Candidate,
  type Machine,
  planCandidates,
  requestNodeDevice,
  surveyMachine,
  takeFirst,
} from '../../engine/adapters.node.ts';
import { dawnFlags, loadDawn } from '../../engine/dawn.node.ts';
import {
  adapterKind,
  COMPUTE_LIMITS,
  type ComputeLimit,
  chooseLimits,
  describeAdapter,
  requestDevice,
} from '../../engine/device.ts';
import { engineOn } from '../../engine/engine.ts';
import {
  ConfigError,
  DataError,
  DeviceLostError,
  LimitError,
  UnsupportedError,
  UsageError,
} from '../../engine/errors.ts';
import { cacheFolder } from '../../engine/folders.node.ts';
import { readTar, swiftshaderIcd, unpackSwiftshader } from '../../engine/swiftshader.node.ts';
import { runProgram } from '../support/child.ts';

const scratch = mkdtempSync(join(tmpdir(), 'odelt-device-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const bare: Machine = {
  platform: 'linux',
  arch: 'x64',
  userDriver: undefined,
  lavapipeIcds: [],
  swiftshaderDirectories: [],
  swiftshaderArchive: undefined,
};
const full: Machine = {
  ...bare,
  lavapipeIcds: ['/icd/lvp_icd.json'],
  swiftshaderDirectories: ['/chromium'],
  swiftshaderArchive: '/npm/swiftshader.tar.br',
};
const outline = (candidates: Candidate[]) => candidates.map(({ source, accepts }) => `${source.from}:${accepts}`);

describe('planCandidates', () => {
  it('tries a GPU, lavapipe, Chromium, then the npm package', () => {
    expect(outline(planCandidates('auto', full))).toEqual([
      'system:gpu',
      'icd:lavapipe',
      'directory:swiftshader',
      'archive:swiftshader',
    ]);
  });

  it('keeps to an explicit choice', () => {
    expect(outline(planCandidates('gpu', full))).toEqual(['system:gpu']);
    expect(outline(planCandidates('lavapipe', full))).toEqual(['icd:lavapipe']);
    expect(outline(planCandidates('swiftshader', full))).toEqual(['directory:swiftshader', 'archive:swiftshader']);
  });

  it("takes whatever the user's own driver variable leads to, unless a kind was asked for", () => {
    const machine = { ...full, userDriver: 'VK_DRIVER_FILES=/my.json' };
    expect(outline(planCandidates('auto', machine))[0]).toBe('system:gpu,lavapipe,swiftshader,software');
    expect(outline(planCandidates('lavapipe', machine))).toEqual(['system:lavapipe', 'icd:lavapipe']);
    expect(planCandidates('auto', machine)[0]?.name).toContain('/my.json');
  });

  it('names what is missing', () => {
    const sources = planCandidates('auto', bare).map(({ source }) => source);
    expect(sources.map(({ from }) => from)).toEqual(['system', 'nowhere', 'nowhere', 'nowhere']);
    expect(sources[3]).toEqual({ from: 'nowhere', reason: 'the npm package is not installed' });
    const mac = planCandidates('auto', { ...full, platform: 'darwin', lavapipeIcds: [], swiftshaderDirectories: [] });
    expect(outline(mac)[0]).toBe('system:gpu,lavapipe,swiftshader,software');
    expect(mac.slice(1).every(({ source }) => source.from === 'nowhere')).toBe(true);
  });
});

describe('takeFirst', () => {
  const candidates = planCandidates('auto', full);

  it('takes the first that works and says why not the others', async () => {
    const tried: string[] = [];
    const { result, reports } = await takeFirst(candidates, async ({ source }) => {
      tried.push(source.from);
      if (source.from !== 'icd') throw new UnsupportedError('no such hardware');
      return { result: 42, reason: 'lavapipe: Mesa' };
    });
    expect(result).toBe(42);
    expect(tried).toEqual(['system', 'icd']);
    expect(reports.map(({ outcome }) => outcome)).toEqual(['refused', 'taken', 'not tried', 'not tried']);
    expect(reports[0]?.reason).toBe('no such hardware');
    expect(reports[1]?.reason).toBe('lavapipe: Mesa');
  });

  it('names every refusal and the three ways out when nothing works', async () => {
    const failure: unknown = await takeFirst(candidates, async ({ name }) => {
      throw new Error(`refused ${name}`);
    }).catch((error) => error);
    expect(failure).toBeInstanceOf(UnsupportedError);
    const { message, hint } = failure as UnsupportedError;
    for (const { name } of candidates) expect(message).toContain(`- ${name}: refused ${name}`);
    expect(hint).toMatch(/driver of your GPU/);
    expect(hint).toMatch(/apt-get install mesa-vulkan-drivers.*bookworm-backports/);
    expect(hint).toMatch(/npm install @sparticuz\/chromium, or apt-get install chromium/);
  });

  it('does not pass over an adapter that cannot grant a required limit', async () => {
    let attempts = 0;
    const asked = takeFirst(candidates, async () => {
      attempts++;
      throw new LimitError('too much', { asked: 2, available: 1 });
    });
    await expect(asked).rejects.toBeInstanceOf(LimitError);
    expect(attempts).toBe(1);
  });
});

describe('options', () => {
  it('reads the choice from the option, then ODELT_ADAPTER, then auto', () => {
    expect(adapterChoice('gpu', { ODELT_ADAPTER: 'lavapipe' })).toBe('gpu');
    expect(adapterChoice(undefined, { ODELT_ADAPTER: 'lavapipe' })).toBe('lavapipe');
    expect(adapterChoice(undefined, { ODELT_ADAPTER: '' })).toBe('auto');
    expect(() => adapterChoice(undefined, { ODELT_ADAPTER: 'voodoo' })).toThrow(/ODELT_ADAPTER 'voodoo'/);
    expect(() => adapterChoice('voodoo', {})).toThrow(ConfigError);
  });

  it('merges toggles into one flag per kind, as Dawn heeds only the last', () => {
    const flags = dawnFlags({
      toggles: ['enable-dawn-features=a,b', 'enable-dawn-features=c', 'disable-dawn-features=d'],
      disableRobustness: true,
    });
    expect(flags).toContain('enable-dawn-features=disable_robustness,a,b,c');
    expect(flags).toContain('disable-dawn-features=timestamp_quantization,d');
    expect(() => dawnFlags({ toggles: ['dump_shaders'] })).toThrow(ConfigError);
  });

  it('tells an absent webgpu package from one that cannot be loaded', async () => {
    const absent = Object.assign(new Error('no'), { code: 'ERR_MODULE_NOT_FOUND' });
    await expect(loadDawn(() => Promise.reject(absent))).rejects.toThrow(/webgpu \(Dawn\) is not installed/);
    await expect(loadDawn(() => Promise.reject(new Error('libc too old')))).rejects.toThrow(/libc too old/);
  });

  it('chooses limits', () => {
    const available = Object.fromEntries(COMPUTE_LIMITS.map((name) => [name, 1000])) as Record<ComputeLimit, number>;
    expect(chooseLimits(available)).toEqual(available);
    expect(chooseLimits(available, { forceDefaultLimits: true })).toEqual({});
    const requiredLimits = { maxBufferSize: 900 };
    expect(chooseLimits(available, { forceDefaultLimits: true, requiredLimits })).toEqual(requiredLimits);
    expect(chooseLimits(available, { requiredLimits }).maxBufferSize).toBe(1000);
    const asked = () => chooseLimits(available, { requiredLimits: { maxBufferSize: 1001 } });
    expect(asked).toThrow(expect.objectContaining({ code: 'limit', asked: 1001, available: 1000 }));
    expect(() => chooseLimits(available, { requiredLimits: { nonsense: 1 } as object })).toThrow(ConfigError);
  });

  it('knows adapters by their words', () => {
    const info = (words: Partial<GPUAdapterInfo>) =>
      adapterKind({ vendor: '', architecture: '', device: '', description: '', ...words } as GPUAdapterInfo);
    expect(info({ architecture: 'swiftshader' })).toBe('swiftshader');
    expect(info({ description: 'llvmpipe: Mesa 25.0.7' })).toBe('lavapipe');
    expect(info({ description: 'Microsoft Basic Render Driver' })).toBe('software');
    expect(info({ vendor: 'somebody', isFallbackAdapter: true })).toBe('software');
    expect(info({ vendor: 'nvidia', architecture: 'hopper' })).toBe('gpu');
  });

  it('knows matrix units that the adapter lists and its device does not', async () => {
    const unit = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 8, K: 16 };
    const words = { vendor: '', architecture: '', device: 'made up', description: '' };
    const limits = Object.fromEntries(COMPUTE_LIMITS.map((name) => [name, 1]));
    const gpu = (features: readonly string[]) => {
      const device = {
        ...{ features: new Set(features), limits, adapterInfo: words },
        ...{ lost: new Promise<never>(() => {}), addEventListener: () => {}, createComputePipeline: () => {} },
      };
      // Dawn's are objects whose fields are getters of their prototype.
      const listed = Object.create(
        Object.defineProperties({}, Object.fromEntries(Object.entries(unit).map(([k, v]) => [k, { get: () => v }]))),
      );
      const adapter = { features: new Set(features), limits, info: { ...words, subgroupMatrixConfigs: [listed] } };
      return { requestAdapter: async () => ({ ...adapter, requestDevice: async () => device }) } as unknown as GPU;
    };
    const units = async (...features: string[]) => (await requestDevice(gpu(features))).adapter.matrixUnits;
    expect(await units('chromium-experimental-subgroup-matrix')).toEqual([unit]);
    expect(await units()).toEqual([]);
  });

  it('does without the words of a device that tells none (Safari 26.0), by those of its adapter', async () => {
    const limits = Object.fromEntries(COMPUTE_LIMITS.map((name) => [name, 1]));
    const made = () => ({
      ...{ features: new Set(), limits, lost: new Promise<never>(() => {}), addEventListener: () => {} },
      createComputePipeline: () => {},
    });
    const info = { vendor: 'apple', architecture: 'metal-3', device: '', description: '', subgroupMinSize: 32 };
    const adapter = { features: new Set(), limits, info, requestDevice: async () => made() };
    const { device, adapter: described } = await requestDevice({
      requestAdapter: async () => adapter,
    } as unknown as GPU);
    expect(described).toMatchObject({ name: 'metal-3', vendor: 'apple', kind: 'gpu' });
    expect(device.adapterInfo.subgroupMinSize).toBe(32);
    // A caller's own, whose adapter nobody knows.
    const own = engineOn(made() as unknown as GPUDevice, { mirrors: false });
    expect([own.adapterClass, own.mirrors, own.device.adapterInfo.subgroupMinSize]).toEqual(['gpu', false, undefined]);
    expect(describeAdapter(own.device).name).toBe('unnamed adapter');
    for (const wrong of [{}, null, 'gpu']) expect(() => engineOn(wrong as never, {})).toThrow(UsageError);
    expect(() => engineOn({} as never, {})).toThrow('a GPUDevice was expected, not [object Object]');
  });

  it('refuses where there is no WebGPU or no adapter', async () => {
    await expect(requestDevice(undefined)).rejects.toThrow(/no WebGPU/);
    const empty = { requestAdapter: async () => null } as unknown as GPU;
    await expect(requestDevice(empty)).rejects.toBeInstanceOf(UnsupportedError);
  });
});

/** One tar member: header and padded data. */
function tarMember(name: string, data: Uint8Array, { type = '0', prefix = '' } = {}): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write('0000644\0', 100);
  header.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write(' '.repeat(8), 148);
  header.write(type, 156);
  header.write('ustar\x0000', 257);
  header.write(prefix, 345);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

const tar = (...members: Buffer[]) => Buffer.concat([...members, Buffer.alloc(1024)]);

describe('readTar', () => {
  const long = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);

  it('reads regular files of any length, with prefixes, and leaves out the rest', () => {
    const archive = tar(
      tarMember('directory/', new Uint8Array(0), { type: '5' }),
      tarMember('a', long),
      tarMember('b', new Uint8Array(512).fill(7), { prefix: 'far/away' }),
      tarMember('empty', new Uint8Array(0), { type: '\0' }),
    );
    const entries = readTar(archive);
    expect(entries.map(({ name, data }) => [name, data.length])).toEqual([
      ['a', 1000],
      ['far/away/b', 512],
      ['empty', 0],
    ]);
    expect([...entries[0]!.data]).toEqual([...long]);
    expect(entries[1]!.data.every((byte) => byte === 7)).toBe(true);
  });

  it('refuses what is cut short or damaged', () => {
    const archive = tar(tarMember('a', long));
    expect(() => readTar(archive.subarray(0, 700))).toThrow(DataError);
    expect(() => readTar(archive.subarray(0, 300))).toThrow(DataError);
    const damaged = Buffer.from(archive);
    damaged[0] = 66;
    expect(() => readTar(damaged)).toThrow(/checksum/);
    expect(readTar(new Uint8Array(0))).toEqual([]);
  });
});

describe('unpackSwiftshader', () => {
  const names = ['libvk_swiftshader.so', 'libvulkan.so.1', 'vk_swiftshader_icd.json'];
  const members = names.map((name) => tarMember(name, Buffer.from(`this is ${name}`)));
  const quick = { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } };
  const archive = join(scratch, 'swiftshader.tar.br');
  writeFileSync(archive, brotliCompressSync(tar(...members, tarMember('libEGL.so', new Uint8Array(9))), quick));

  it('unpacks once for many at a time and leaves nothing else behind', async () => {
    const cache = join(scratch, 'many');
    const directories = await Promise.all(Array.from({ length: 8 }, () => unpackSwiftshader(archive, cache)));
    expect(new Set(directories).size).toBe(1);
    expect(readdirSync(cache)).toHaveLength(1);
    expect(readdirSync(directories[0]!).sort()).toEqual(['complete.json', ...names].sort());
    expect(readFileSync(join(directories[0]!, names[0]!), 'utf8')).toBe('this is libvk_swiftshader.so');
  });

  it('replaces a damaged copy', async () => {
    const cache = join(scratch, 'damaged');
    const directory = await unpackSwiftshader(archive, cache);
    writeFileSync(join(directory, names[1]!), 'evil');
    expect(await unpackSwiftshader(archive, cache)).toBe(directory);
    expect(readFileSync(join(directory, names[1]!), 'utf8')).toBe('this is libvulkan.so.1');
    expect(readdirSync(cache)).toHaveLength(1);
  });

  it.skipIf(process.getuid?.() !== 0)("refuses a cache behind somebody else's link", async () => {
    const [cache, link] = [join(scratch, 'own'), join(scratch, 'link')];
    mkdirSync(cache, { mode: 0o700 });
    symlinkSync(cache, link);
    expect(await unpackSwiftshader(archive, link)).toContain(link);
    lchownSync(link, 12345, 12345); // only root can
    await expect(unpackSwiftshader(archive, link)).rejects.toThrow(/belongs to another user/);
  });

  it('refuses a cache that others can write, and damaged archives', async () => {
    const cache = mkdtempSync(join(scratch, 'open-'));
    chmodSync(cache, 0o777);
    await expect(unpackSwiftshader(archive, cache)).rejects.toThrow(/writable by others/);
    const cut = join(scratch, 'cut.tar.br');
    writeFileSync(cut, readFileSync(archive).subarray(0, 40));
    await expect(unpackSwiftshader(cut, join(scratch, 'cut'))).rejects.toBeInstanceOf(DataError);
    const partial = join(scratch, 'partial.tar.br');
    writeFileSync(partial, brotliCompressSync(tar(members[0]!), quick));
    await expect(unpackSwiftshader(partial, join(scratch, 'partial'))).rejects.toThrow(/holds no libvulkan/);
    expect(readdirSync(join(scratch, 'partial'))).toEqual([]);
  });

  it('caches per user', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/c', HOME: '/h' })).toBe('/c/odelt');
    expect(cacheFolder({ HOME: '/h' })).toBe('/h/.cache/odelt');
    const temporary = join(tmpdir(), `odelt-${process.getuid?.() ?? 0}`);
    expect(cacheFolder({ HOME: '/' })).toBe(temporary);
    // Relative ones would lead into the current directory, which may be anybody's.
    expect(cacheFolder({ XDG_CACHE_HOME: 'c', HOME: '/h' })).toBe('/h/.cache/odelt');
    expect(cacheFolder({ HOME: 'h' })).toBe(temporary);
    expect(cacheFolder({ HOME: '' })).toBe(temporary);
  });
});

/** out[i] = 3 i + 1 over 1000 invocations, read back. */
async function roundTrip(device: GPUDevice): Promise<Uint32Array> {
  const code = `@group(0) @binding(0) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
      if (id.x < arrayLength(&out)) { out[id.x] = 3 * id.x + 1; }
    }`;
  const pipeline = device.createComputePipeline({
    layout: 'auto',
    compute: { module: device.createShaderModule({ code }) },
  });
  const out = device.createBuffer({ size: 4000, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const staging = device.createBuffer({ size: 4000, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer: out } }];
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(16);
  pass.end();
  encoder.copyBufferToBuffer(out, 0, staging, 0, 4000);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const values = new Uint32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  out.destroy();
  return values;
}

const expected = Uint32Array.from({ length: 1000 }, (_, i) => 3 * i + 1);
const machine = surveyMachine();
const software = [
  { kind: 'lavapipe', present: machine.lavapipeIcds.length > 0 },
  { kind: 'swiftshader', present: machine.swiftshaderDirectories.length > 0 || !!machine.swiftshaderArchive },
] as const;

for (const { kind, present } of software) {
  describe.skipIf(!present)(`${kind}${present ? '' : ' (skipped: not on this machine)'}`, () => {
    it('computes, and can be destroyed and acquired again', async () => {
      for (let round = 0; round < 2; round++) {
        const { device, adapterReport, watch } = await requestNodeDevice({ adapter: kind });
        expect(adapterReport.adapter.kind).toBe(kind);
        expect(adapterReport.adapter.software).toBe(true);
        expect(adapterReport.candidates.at(-1)?.outcome === 'refused').toBe(false);
        expect(await roundTrip(device)).toEqual(expected);
        watch.check();
        device.destroy();
        expect((await watch.whenLost).message).toBe('the device was destroyed');
        expect(() => watch.check()).toThrow(DeviceLostError);
      }
    });

    it('has the adapter limits, or just the guaranteed ones', async () => {
      const best = await requestNodeDevice({ adapter: kind });
      const least = await requestNodeDevice({ adapter: kind, forceDefaultLimits: true });
      expect(least.device.limits.maxBufferSize).toBe(268435456);
      expect(least.device.limits.maxStorageBufferBindingSize).toBe(134217728);
      expect(least.device.limits.maxStorageBuffersPerShaderStage).toBe(8);
      expect(best.device.limits.maxBufferSize).toBeGreaterThan(268435456);
      expect(best.adapter.limits.maxBufferSize).toBe(best.device.limits.maxBufferSize);
      expect(best.device.features.has('timestamp-query')).toBe(true);
      expect(await roundTrip(least.device)).toEqual(expected);
      const requiredLimits = { maxBufferSize: 2 ** 45 };
      await expect(requestNodeDevice({ adapter: kind, requiredLimits })).rejects.toBeInstanceOf(LimitError);
      best.device.destroy();
      least.device.destroy();
    });

    it('collects and reports uncaptured errors', async () => {
      const seen: string[] = [];
      const { device, watch } = await requestNodeDevice({ adapter: kind, onError: (error) => seen.push(error.code) });
      device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE });
      await device.queue.onSubmittedWorkDone();
      expect(seen).toEqual(['validation']);
      expect(watch.errors).toHaveLength(1);
      expect(() => watch.check()).toThrow(/validation failed/);
      expect(() => watch.check()).not.toThrow();
      device.destroy();
      await watch.whenLost;
      expect(seen).toEqual(['validation']); // destroying on purpose is no error
    });
  });
}

/** SwiftShader's description on this machine, if it is there as files. */
const icdOfSwiftshader = () => machine.swiftshaderDirectories.slice(0, 1).map((folder) => swiftshaderIcd(folder)!);

const anySoftware = software.some(({ present }) => present);

describe.skipIf(!anySoftware)('on any adapter', () => {
  it('holds two devices of different adapters at once and leaves the environment alone', async () => {
    const before = { ...process.env };
    const kinds = software.filter(({ present }) => present).map(({ kind }) => kind);
    const all = await Promise.all(kinds.map((adapter) => requestNodeDevice({ adapter })));
    expect(all.map(({ adapter }) => adapter.kind)).toEqual(kinds);
    for (const { device } of all) expect(await roundTrip(device)).toEqual(expected);
    for (const { device } of all) device.destroy();
    expect({ ...process.env }).toEqual(before);
  });

  it('numbers what the driver of an environment variable has, and takes the one asked for, or the next for each process', async () => {
    const files = [...machine.lavapipeIcds.slice(0, 1), ...icdOfSwiftshader()];
    const copy = join(scratch, 'copy.json');
    const first = files[0]!;
    // A driver that is found beside its description stays where it is.
    writeFileSync(copy, readFileSync(first, 'utf8').replace('"./', `"${dirname(first)}/`));
    const before = process.env.VK_DRIVER_FILES;
    try {
      process.env.VK_DRIVER_FILES = files.join(':');
      const taken: string[] = [];
      const names: (readonly string[] | undefined)[] = [];
      for (const which of [...files.map((_, i) => ({ adapterIndex: i })), ...files.map((_, i) => ({ localRank: i }))]) {
        const { device, adapter, adapterReport } = await requestNodeDevice({ adapter: 'auto', ...which });
        expect(await roundTrip(device)).toEqual(expected);
        device.destroy();
        taken.push(adapter.kind);
        names.push(adapterReport.listed?.names);
      }
      const kinds = taken.slice(0, files.length);
      expect(new Set(kinds).size).toBe(files.length);
      expect(taken.slice(files.length)).toEqual(kinds);
      expect(names.every((listed) => listed?.length === files.length)).toBe(true);
      const none = await requestNodeDevice({ adapter: 'auto', adapterIndex: 99 }).catch((error: unknown) => error);
      expect(none).toBeInstanceOf(ConfigError);
      expect((none as ConfigError).message).toMatch(/^there is no adapter 99: there (is one|are \d), 0 '.+'/);
      for (const name of names[0]!) expect((none as ConfigError).message).toContain(`'${name}'`);

      process.env.VK_DRIVER_FILES = `${first}:${copy}`;
      const same = await requestNodeDevice({ adapter: 'auto', adapterIndex: 1 }).catch((error: unknown) => error);
      expect(same).toBeInstanceOf(ConfigError);
      expect((same as ConfigError).message).toMatch(/^adapter 1 is '(.+)', and Dawn, .+ would take number 0, '\1'$/);
      const { device, adapterReport } = await requestNodeDevice({ adapter: 'auto', localRank: 1 });
      device.destroy();
      expect(adapterReport.listed!.names).toEqual([adapterReport.listed!.taken, adapterReport.listed!.taken]);
    } finally {
      if (before === undefined) delete process.env.VK_DRIVER_FILES;
      else process.env.VK_DRIVER_FILES = before;
    }
  });

  it('reports for people and for machines', async () => {
    const report = await gatherInfo({ adapter: 'auto' });
    expect(JSON.parse(JSON.stringify(report)).adapter).toEqual(report.adapter);
    expect(report.candidates.filter(({ outcome }) => outcome === 'taken')).toHaveLength(1);
    const text = formatInfo(report);
    for (const { name, reason } of report.candidates) expect(text).toContain(`${name}: ${reason}`);
    expect(text).toContain(report.adapter.driver);
    expect(text).toMatch(/maxComputeWorkgroupStorageSize +\d+ KiB/);
  });

  it('keeps Dawn alive while only the device is held, and lets the process end with a live device', async () => {
    // As a process of its own: what goes wrong here is a crash or a hang.
    const program = `import { requestNodeDevice } from './engine/adapters.node.ts';
      const { device } = await requestNodeDevice();
      for (let i = 0; i < 30; i++) {
        gc();
        const buffer = device.createBuffer({ size: 64, usage: GPUBufferUsage.MAP_READ });
        await buffer.mapAsync(GPUMapMode.READ);
        buffer.destroy();
        await new Promise((resolve) => setImmediate(resolve));
      }
      globalThis.stillLive = device;
      console.log('done');`;
    expect(await runProgram(program, ['--expose-gc'])).toBe('done\n');
  });

  it.skipIf(process.platform !== 'linux')('keeps neither threads nor memory of engines that are gone', async () => {
    const program = `import { readFileSync } from 'node:fs';
      import { createNodeEngine } from './engine/engine.node.ts';
      const source = '@group(0) @binding(0) var<storage, read_write> x: array<f32>; @compute @workgroup_size(1) fn main() { x[0] = 1; }';
      const found = [];
      for (let i = 1; i <= 40; i++) {
        const { engine } = await createNodeEngine({ onError: () => {} });
        await engine.read(engine.tensor('x', [1000]));
        const module = engine.device.createShaderModule({ code: source });
        await engine.device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
        engine.dispose();
        // What is gone may be collected: a process that goes on would do so by itself.
        for (let turn = 0; turn < 3; turn++) {
          await new Promise((resolve) => setTimeout(resolve, 5));
          gc();
        }
        const status = readFileSync('/proc/self/status', 'utf8');
        const number = (name) => Number.parseInt(status.split(name + ':')[1]);
        if (i % 20 === 0) found.push({ threads: number('Threads'), rss: number('VmRSS') * 1024 });
      }
      console.log(JSON.stringify(found));`;
    const [half, all] = JSON.parse(await runProgram(program, ['--expose-gc'])) as { threads: number; rss: number }[];
    // Without sharing Dawn's instance: a hundred threads and 38 MB more, on lavapipe.
    expect(all!.threads).toBe(half!.threads);
    expect(all!.rss - half!.rss).toBeLessThan(15e6);
  });
});
