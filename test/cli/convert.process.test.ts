/** `odelt convert` of other programs' checkpoints: what is written, what is asked for, what is refused, and what Python makes of it. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { weightsDigest } from '../../evaluation/evaluate.ts';
import { evaluationMetadata, evaluationOf, type StoredEvaluation } from '../../evaluation/stored.ts';
import { parseSafetensors, serializeSafetensors } from '../../formats/safetensors.ts';
import { fromGolden, parseModelConfig } from '../../model/config.ts';
import { initParams, paramEntries, paramLayout } from '../../model/params.ts';
import { ditTensors } from '../../model/weights/imports/dit-export.ts';
import { describesModel, modelContents, modelTensors, parseModelFile } from '../../model/weights/model-file.ts';
import { memorySource } from '../../model/weights/source.ts';
import { loadCheckpoint } from '../../training/checkpoint.node.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { FIXTURES } from '../support/golden.ts';
import { call, dict, pickle, raw, text, torchFile, trainingPickle } from '../support/pickle.ts';
import { ROOT } from '../support/repository.ts';
import { tinyModel } from '../support/tiny.ts';

const PICKLE = join(FIXTURES, 'checkpoints', 'checkpoint_jax_arrays.pkl');
const TINY = fromGolden(
  JSON.parse(readFileSync(join(FIXTURES, 'checkpoints', 'checkpoints.json'), 'utf8')).tiny_config,
);
const MODELS = join(ROOT, 'models');
const HINTS = ['--heads', '2', '--image-size', '8', '--lengths', '2,2'];
const CONVENTIONAL = parseModelConfig({
  ...{ imageSize: 4, channels: 4, patch: 2, width: 8, heads: 2, depth: 2, classes: 3 },
  ...{ lengths: null, ignoreDt: true },
});

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
});
afterAll(() => cli?.remove());
const at = (file: string) => join(cli.folder, file);
const written = (file: string) => readFileSync(at(file));
const put = (file: string, bytes: Uint8Array) => writeFileSync(at(file), bytes);

describe('a pickle of the reference', () => {
  it('becomes a model file, with where it came from', async () => {
    const { code, stdout } = await cli.run('convert', PICKLE, 'tiny.safetensors', '--dtype', 'f32', '--json', ...HINTS);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ from: PICKLE, out: 'tiny.safetensors', dtype: 'f32', model: TINY });
    const { config, params, metadata } = await parseModelFile(written('tiny.safetensors'), 'tiny');
    expect(config).toEqual(TINY);
    expect(metadata.get('odelt.source')).toBe('pickle of the Flax reference checkpoint_jax_arrays.pkl');
    expect(metadata.get('odelt.step')).toBe('12');
    // It holds no average: what was asked for by default is not what was written.
    expect([metadata.get('odelt.weights'), JSON.parse(stdout).weights]).toEqual(['only', 'only']);
    const expected = parseSafetensors(
      readFileSync(join(FIXTURES, 'checkpoints', 'checkpoint_tiny_expected.safetensors')),
    );
    const compared = [...paramEntries(params)].filter(({ spec }) => expected.has(`params/${spec.name}`));
    expect(compared.length).toBeGreaterThan(10);
    for (const { spec, values } of compared) expect(values).toEqual(expected.floats(`params/${spec.name}`));
  });

  it('takes half the bytes as f16, which is what is written otherwise', async () => {
    expect(await cli.run('convert', PICKLE, '--out', 'half.safetensors', ...HINTS)).toMatchObject({ code: 0 });
    const { header } = parseSafetensors(written('half.safetensors'));
    expect([...header.tensors.values()].every(({ dtype }) => dtype === 'F16')).toBe(true);
  });

  it('knows no classes where that is said; so does a file of our own, which keeps no evaluation with labels', async () => {
    const model = async (file: string) => (await parseModelFile(written(file), file)).config;
    const marked = ['convert', PICKLE, 'marked.safetensors', '--unconditional', ...HINTS];
    expect(await cli.run(...marked)).toMatchObject({ code: 0 });
    expect(await model('marked.safetensors')).toEqual({ ...TINY, unconditional: true });
    expect(await cli.run('convert', 'marked.safetensors', 'again.safetensors')).toMatchObject({ code: 0 });
    expect(await model('again.safetensors')).toEqual({ ...TINY, unconditional: true });
    const fd = { value: 1, low: 1, high: 1 };
    const evaluation: StoredEvaluation = {
      ...{ features: 'random', count: 10, solver: 'euler', guidance: 1, adapter: 'x', date: '2026-01-01', floor: null },
      cells: [{ steps: 1, blocks: 2, fd, secondsPerSample: 1, peakBytes: 1, bytesRead: 1 }],
    };
    const { tensors, metadata } = await modelContents(TINY, initParams(TINY, 1), {
      extra: evaluationMetadata(evaluation),
    });
    put('evaluated.safetensors', serializeSafetensors(tensors, metadata));
    const own = await cli.run('convert', 'evaluated.safetensors', 'own.safetensors', '--unconditional');
    expect(own).toMatchObject({ code: 0 });
    const found = await parseModelFile(written('own.safetensors'), 'own');
    expect(found.config).toEqual({ ...TINY, unconditional: true });
    expect(evaluationOf(found, 'own')).toBeUndefined();
  });

  it('asks for what it does not say', async () => {
    const { code, stderr } = await cli.run('convert', PICKLE, 'no.safetensors');
    expect(code).toBe(2);
    expect(stderr).toContain(
      `ConfigError: ${PICKLE} does not say how many heads its attention has\n  hint: give --heads N`,
    );
    expect(existsSync(at('no.safetensors'))).toBe(false);
  });

  it('gives the checkpoint of a run where its optimiser is wanted', async () => {
    const [params, ema, m, v] = [1, 2, 3, 4].map((seed) => initParams(CONVENTIONAL, seed));
    put('run.pkl', trainingPickle({ params: params!, ema: ema!, m: m!, v: v! }, 9));
    const flags = ['--heads', '2', '--image-size', '4', '--ignore-dt', '--optimizer', '--json'];
    const { code, stdout } = await cli.run('convert', 'run.pkl', 'from-pickle', ...flags);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ out: join('from-pickle', 'checkpoints', 'step-9'), step: 9 });
    const { state, sets, checked } = await loadCheckpoint(at('from-pickle/checkpoints'), paramLayout(CONVENTIONAL));
    expect([state.step, state.model, checked]).toEqual([9, CONVENTIONAL, true]);
    const groups = [sets.params, sets.ema, sets.m, sets.v].map((set) => set.groups);
    expect(groups).toEqual([1, 2, 3, 4].map((seed) => initParams(CONVENTIONAL, seed).groups));
  });
});

describe('names of PyTorch', () => {
  it('are written, and read back as the same model', async () => {
    const params = initParams(CONVENTIONAL, 3);
    for (const { spec, values } of paramEntries(params)) if (spec.name.startsWith('TimestepEmbedder_1')) values.fill(0);
    put('sit.safetensors', serializeSafetensors(ditTensors(CONVENTIONAL, params, 'F32')));
    const f32 = ['--dtype', 'f32'];
    const asked = await cli.run('convert', 'sit.safetensors', 'ours.safetensors', '--heads', '2');
    expect(asked).toMatchObject({ code: 2, stderr: expect.stringContaining('hint: give --from dit or --from sit') });
    const hints = ['--heads', '2', '--from', 'sit'];
    expect(await cli.run('convert', 'sit.safetensors', 'ours.safetensors', ...hints, ...f32)).toMatchObject({
      code: 0,
    });
    const ours = await parseModelFile(written('ours.safetensors'), 'ours');
    expect(ours.config).toEqual(CONVENTIONAL);
    expect(ours.params.groups).toEqual(params.groups);
    expect(await cli.run('convert', 'ours.safetensors', 'back.safetensors', '--names', 'torch', ...f32)).toMatchObject({
      code: 0,
    });
    const [before, after] = ['sit.safetensors', 'back.safetensors'].map((file) => parseSafetensors(written(file)));
    expect(after!.names().sort()).toEqual(before!.names().sort());
    for (const name of before!.names()) {
      const [was, is] = [before!, after!].map((tensors) => new Uint8Array(tensors.floats(name).buffer));
      expect(Buffer.compare(was!, is!), name).toBe(0);
    }
  });

  it('do not fit a model that chooses its blocks', async () => {
    put('wired.safetensors', serializeSafetensors(modelTensors(initParams(TINY, 1))));
    const { code, stderr } = await cli.run(
      'convert',
      'wired.safetensors',
      'x.safetensors',
      '--names',
      'torch',
      ...HINTS,
    );
    expect(code).toBe(2);
    expect(stderr).toContain('ConfigError: DiT always runs all its blocks; this model chooses how many');
  });
});

describe('a file that is damaged or hostile', () => {
  it.each([
    [
      'evil.pkl',
      () => pickle(dict({ params: call('os.system', text('touch ran')) })),
      "evil.pkl: the pickle names os.system, which is no part of a checkpoint's weights",
    ],
    [
      'cut.pkl',
      () => readFileSync(PICKLE).subarray(0, 1000),
      'cut.pkl: the pickle announces more bytes than there are: it is truncated or damaged',
    ],
    [
      'cut.pt',
      () => torchFile(dict({}), {}).subarray(0, 90),
      'cut.pt: the zip file has no directory at its end: it is truncated or damaged',
    ],
    ['other.bin', () => raw('GIF89a'), 'other.bin is no checkpoint that can be read: it begins with 47 49 46 38 39 61'],
  ])('%s ends in an error that says so', async (file, bytes, message) => {
    put(file, bytes());
    const { code, stderr } = await cli.run('convert', file, 'x.safetensors', ...HINTS);
    expect(code).toBe(1);
    expect(stderr).toContain(`CheckpointError: ${message}`);
    expect(stderr).toContain('hint: ');
    expect(existsSync(at('x.safetensors'))).toBe(false);
    expect(existsSync(at('ran'))).toBe(false);
  });

  it('is not looked at before the output', async () => {
    put('evil.pkl', pickle(call('os.system', text('ls'))));
    expect((await cli.run('convert', 'evil.pkl', 'evil.pkl/x')).stderr).toContain(
      "OutputError: OUT 'evil.pkl/x' cannot be written",
    );
  });
});

/** A Python that has safetensors, if there is one: of ODELT_PYTHON, or the system's. */
function python(): string | undefined {
  for (const program of [process.env.ODELT_PYTHON, 'python3'].filter((name) => name !== undefined)) {
    try {
      execFileSync(program, ['-c', 'import numpy, safetensors.numpy'], { stdio: 'ignore' });
      return program;
    } catch {
      // The next one may.
    }
  }
  return undefined;
}

describe("Python's safetensors", () => {
  const program = python();
  if (!program) console.warn('skipped: no Python with numpy and safetensors (ODELT_PYTHON names one)');
  it.skipIf(!program)('reads what odelt writes', async () => {
    expect(await cli.run('convert', PICKLE, 'for-python.safetensors', ...HINTS)).toMatchObject({ code: 0 });
    const code = `
import json, safetensors, safetensors.numpy
path = 'for-python.safetensors'
tensors = safetensors.numpy.load_file(path)
metadata = safetensors.safe_open(path, 'np').metadata()
print(json.dumps([{name: [str(t.dtype), list(t.shape), float(t.astype('f8').sum())] for name, t in tensors.items()}, metadata]))`;
    const [tensors, metadata] = JSON.parse(execFileSync(program!, ['-c', code], { cwd: cli.folder, encoding: 'utf8' }));
    const ours = parseSafetensors(written('for-python.safetensors'));
    expect(Object.keys(tensors).sort()).toEqual(ours.names().sort());
    for (const name of ours.names()) {
      const sum = ours.floats(name).reduce((a, b) => a + b, 0);
      expect(tensors[name]).toEqual(['float16', ours.shape(name), expect.closeTo(sum, 6)]);
    }
    expect(metadata).toEqual(Object.fromEntries(ours.header.metadata));
  });
});

describe('a model that the package ships', () => {
  const models = readdirSync(MODELS).filter((file) => {
    if (!file.endsWith('.safetensors')) return false;
    return describesModel(parseSafetensors(readFileSync(join(MODELS, file))).header.metadata);
  });

  it.each(models)('%s is converted into itself', async (file) => {
    const bytes = readFileSync(join(MODELS, file));
    expect(await cli.run('convert', join(MODELS, file), file)).toMatchObject({ code: 0 });
    const [before, after] = [bytes, written(file)].map((data) => parseSafetensors(data));
    expect(after!.names()).toEqual(before!.names());
    for (const name of before!.names()) {
      const [was, is] = [before!, after!].map((tensors) => new Uint8Array(tensors.floats(name).buffer));
      expect(Buffer.compare(was!, is!), name).toBe(0);
    }
  });
});

describe('an evaluation', () => {
  const model = 'evaluated.safetensors';
  const cells = [1, 4].map((steps) => ({
    ...{ steps, blocks: 2, guidance: 1, solver: 'euler', fd: { value: 4 / steps, low: 0.5, high: 5 } },
    ...{ secondsPerSample: 0.1 * steps, peakBytes: 1000, bytesRead: 500 },
  }));
  const results = (digest: string) => ({
    ...{ cells, nearest: null, floor: { fd: { value: 0.25, low: 0.125, high: 0.5 } } },
    provenance: { model: digest, samples: 100, features: { name: 'pca64' }, adapter: 'some adapter' },
  });

  it('goes into the file, stays when that is converted again, and is of this model only', async () => {
    const params = initParams(tinyModel, 0);
    const contents = await modelContents(tinyModel, params);
    put(model, serializeSafetensors(contents.tensors, contents.metadata));
    put('r.json', Buffer.from(JSON.stringify(results(await weightsDigest(memorySource(params))))));
    utimesSync(at('r.json'), 0, Date.UTC(2026, 0, 31) / 1000);
    // Results say when they were made; of those that do not, the file does.
    put(
      'dated.json',
      Buffer.from(
        JSON.stringify({ ...JSON.parse(readFileSync(at('r.json'), 'utf8')), date: '2025-12-24T23:59:00.000Z' }),
      ),
    );
    const dated = await cli.run('convert', model, '--evaluation', 'dated.json', '--out', 'dated.safetensors');
    expect(dated.stderr, dated.stderr).toContain('euler, w=1, 2025-12-24');
    // As f16, whose values have another digest: it is the model that was read which was evaluated.
    const said = await cli.run('convert', model, '--evaluation', 'r.json', '--out', 'with.safetensors');
    expect(said.code, said.stderr).toBe(0);
    expect(said.stderr).toContain(
      'with its evaluation: 2 cells, FD of 100 samples by pca64 features, euler, w=1, 2026-01-31',
    );
    expect(await cli.run('convert', 'with.safetensors', 'again.safetensors', '--json')).toMatchObject({ code: 0 });
    for (const file of ['with.safetensors', 'again.safetensors']) {
      const stored = evaluationOf(await parseModelFile(written(file), file), file);
      expect(stored).toMatchObject({ features: 'pca64', count: 100, date: '2026-01-31' });
      expect(stored!.cells.map(({ steps, fd }) => [steps, fd.value])).toEqual([
        [1, 4],
        [4, 1],
      ]);
    }
    put('other.json', Buffer.from(JSON.stringify(results('0'.repeat(64)))));
    put('none.json', Buffer.from('{}'));
    for (const [args, problem] of [
      [
        [model, '--evaluation', 'other.json'],
        `other.json is the evaluation of a different model than ${model}: its weights' SHA-256 is 000000000000..., not `,
      ],
      [[model, '--evaluation', 'none.json'], 'none.json does not hold the results of an evaluation'],
      [[model, '--evaluation', 'missing.json'], 'missing.json cannot be read: there is no such file'],
      [
        [PICKLE, ...HINTS, '--evaluation', 'r.json'],
        `--evaluation is for models of odelt; ${PICKLE} is another program's`,
      ],
      [[model, '--evaluation', 'r.json', '--names', 'torch'], 'which --names torch does not write'],
      [[model, '--evaluation', 'r.json', '--optimizer'], 'which --optimizer does not write'],
    ] as const) {
      const { code, stderr } = await cli.run('convert', ...args, '--out', 'no.safetensors');
      expect(code, stderr).toBe(2);
      expect(stderr).toContain(problem);
    }
    expect(existsSync(at('no.safetensors'))).toBe(false);
    // What `sample --budget` says before it needs an adapter.
    for (const [args, problem] of [
      [[model], `--budget chooses by the model's evaluation, and ${model} carries none`],
      [
        ['with.safetensors', '--guidance', '2'],
        "--budget chooses by the model's evaluation, which is of --guidance 1, not 2",
      ],
      [['with.safetensors', '--solver', 'heun'], 'which is of --solver euler, not heun'],
      [['with.safetensors', '--tolerance', '0.1'], 'tolerance is for adaptive solvers; euler takes fixed steps'],
    ] as const) {
      const { code, stderr } = await cli.run('sample', '--budget', '2s', '--adapter', 'none', '--model', ...args);
      expect(code, stderr).toBe(2);
      expect(stderr).toContain(problem);
    }
  });
});
