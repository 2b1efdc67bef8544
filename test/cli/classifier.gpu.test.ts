/** `odelt classifier` on few pictures: Ctrl-C leaves a whole file, the end has scale and accuracy, `odelt eval` compares by it; the bundled one. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseFeatures } from '../../evaluation/feature-choice.ts';
import { featuresOfData } from '../../evaluation/features.ts';
import { featureSource, readClassifier } from '../../evaluation/open-features.node.ts';
import type { EvaluationResults } from '../../evaluation/results.ts';
import { shippedClassifier, shippedData } from '../../formats/shipped.node.ts';
import { datasetOf } from '../../training/data/dataset.ts';
import { openDataset } from '../../training/data/open.ts';
import { buildCli, type Cli } from '../support/cli.ts';
import { testEngine } from '../support/engine.ts';
import { normals } from '../support/normals.ts';

const fashion = await openDataset(shippedData(), { split: 'test' });

let cli: Cli;
beforeAll(async () => {
  cli = await buildCli();
  const folder = join(cli.folder, 'few-fashion');
  mkdirSync(folder);
  const idx = (type: number, sides: readonly number[], bytes: Uint8Array) => {
    const head = Buffer.alloc(4 + 4 * sides.length);
    head.writeUInt32BE(0x800 + type);
    sides.forEach((side, i) => void head.writeUInt32BE(side, 4 + 4 * i));
    return Buffer.concat([head, bytes]);
  };
  for (const [part, first, count] of [
    ['train', 0, 400],
    ['t10k', 400, 100],
  ] as const) {
    const chosen = Array.from({ length: count }, (_, i) => first + i);
    const pixels = Uint8Array.from(chosen.flatMap((i) => [...fashion.image(i)]));
    const labels = Uint8Array.from(chosen, (i) => fashion.label(i));
    writeFileSync(join(folder, `${part}-images-idx3-ubyte`), idx(3, [count, 28, 28], pixels));
    writeFileSync(join(folder, `${part}-labels-idx1-ubyte`), idx(1, [count], labels));
  }
});
afterAll(() => cli?.remove());

const small = ['--width', '16', '--heads', '2', '--features', '16', '--batch', '32'];

describe('odelt classifier', { timeout: 300_000 }, () => {
  it('stopped by Ctrl-C leaves a whole file, and no other', async () => {
    let sent = false;
    const args = ['classifier', 'few-fashion', '--out', 'stopped.safetensors', '--steps', '100000', ...small, '--json'];
    const stopped = await cli.watch(args, {
      cwd: cli.folder,
      onStderr: (text, kill) => {
        if (sent || !text.includes('update 1/100000  loss 2.30')) return;
        sent = true;
        kill('SIGINT');
      },
    });
    expect(stopped.code).toBe(130);
    const done = /training was interrupted after (\d+) of 100000 updates/.exec(
      JSON.parse(stopped.stdout).error.message,
    )!;
    const { metadata, config } = await readClassifier(join(cli.folder, 'stopped.safetensors'));
    expect(metadata.get('odelt.step')).toBe(done[1]);
    expect(metadata.has('odelt.accuracy')).toBe(false);
    expect(config).toMatchObject({ imageSize: 28, patch: 4, width: 16, classes: 10, scale: 1 });
    expect(readdirSync(cli.folder).filter((name) => name.includes('stopped'))).toEqual(['stopped.safetensors']);
  });

  it('measures accuracy on the test part, and odelt eval compares by what it wrote', async () => {
    const args = ['classifier', 'few-fashion', '--out', 'own.safetensors', '--steps', '60', '--warmup', '5', ...small];
    const trained = await cli.run(...args, '--ema-decay', '0.9', '--json');
    expect(trained.code).toBe(0);
    const { accuracy, config } = JSON.parse(trained.stdout);
    expect(accuracy.of).toBe(100);
    expect(accuracy.hits).toBeGreaterThan(40); // by chance 10
    const file = await readClassifier(join(cli.folder, 'own.safetensors'));
    expect(file.config).toEqual(config);
    expect(config.scale).not.toBe(1);
    expect(file.classNames).toEqual(fashion.classNames);
    expect(JSON.parse(file.metadata.get('odelt.accuracy')!)).toEqual({ ...accuracy, data: 'Fashion-MNIST test' });
    expect(file.metadata.get('odelt.command')).toBe(['odelt', ...args, '--ema-decay', '0.9', '--json'].join(' '));

    const drawn = ['--steps', '1', '--blocks', '4', '--count', '20', '--batch', '10', '--json'];
    const grid = [...drawn, '--data', 'few-fashion', '--out', 'results'];
    const found = await cli.run('eval', '--features', 'classifier:own.safetensors', ...grid);
    expect(found.code).toBe(0);
    const { provenance, cells, floor } = JSON.parse(found.stdout) as EvaluationResults;
    expect(provenance.features).toEqual({
      ...{ name: 'classifier own.safetensors', width: 16, digest: file.digest, judges: true },
    });
    expect(floor!.agreement).toMatchObject({ of: 20 });
    expect(cells[0]!.agreement).toMatchObject({ of: 20 });
    expect(readFileSync(join(cli.folder, 'results/results.csv'), 'utf8')).toContain(`,${floor!.agreement!.value},`);
    const other = await cli.run('eval', '--features', 'classifier', ...grid);
    expect(other.code).toBe(2);
    expect(JSON.parse(other.stdout).error.message).toBe(
      'results/results.json has results of other settings: --features: classifier own.safetensors, now classifier',
    );

    // Against statistics of the training part, and in parts.
    const own = ['--features', 'classifier:own.safetensors'];
    const made = await cli.run('stats', 'few-fashion', ...own, '--out', 'own.npz', '--json');
    expect(made.code, made.stderr).toBe(0);
    expect(JSON.parse(made.stdout)).toMatchObject({ count: 400, width: 16, digest: file.digest });
    const reference = ['--reference', 'own.npz', ...own];
    for (const shard of ['0/2', '1/2']) {
      const part = await cli.run('eval', ...reference, ...drawn, '--out', 'parts', '--shard', shard);
      expect(part.code, part.stderr).toBe(0);
    }
    const folders = ['parts/shard-0-of-2', 'parts/shard-1-of-2'];
    const without = await cli.run('eval', 'merge', ...folders, '--reference', 'own.npz');
    expect(without.stderr).toContain('was drawn with the features classifier own.safetensors, of a network in a file');
    const merged = await cli.run('eval', 'merge', ...folders, ...reference, '--out', 'merged', '--json');
    expect(merged.code, merged.stderr).toBe(0);
    const alone = JSON.parse(merged.stdout) as EvaluationResults;
    expect(alone.provenance.features).toEqual(provenance.features);
    expect(alone.floor).toBeNull();
    expect(alone.notComputed).not.toContain('agreement');
    expect(alone.cells[0]!.agreement).toEqual(cells[0]!.agreement);
    // The order of the pictures is another, and so are the last bits of their sums. Products of these covariances have eigenvalues from
    // 16 down to 3e-12, whose roots move by 1e-8 with the former's last bit.
    for (const bound of ['value', 'low', 'high'] as const)
      expect(alone.cells[0]!.fd[bound]).toBeCloseTo(cells[0]!.fd[bound]!, 7);
  });

  it('is the bundled one where statistics say so', async () => {
    const made = await cli.run('stats', 'few-fashion', '--features', 'classifier', '--out', 'bundled.npz');
    expect(made.code, made.stderr).toBe(0);
    const args = ['--reference', 'bundled.npz', '--steps', '1', '--blocks', '4', '--count', '10', '--json'];
    const found = await cli.run('eval', ...args, '--out', 'bundled');
    expect(found.code, found.stderr).toBe(0);
    const { provenance, cells, notComputed } = JSON.parse(found.stdout) as EvaluationResults;
    const { digest } = await readClassifier(shippedClassifier());
    expect(provenance.features).toEqual({ name: 'classifier', width: 64, digest, judges: true });
    expect(cells[0]).toMatchObject({ kid: null, agreement: { of: 10 } });
    expect(notComputed).toEqual(['kid', 'precision', 'recall', 'density', 'coverage', 'nearer', 'floor']);
  });
});

describe('the bundled classifier', () => {
  it('is right about as many test pictures as its file says, its features have size one, and it is the default', async () => {
    const source = await featureSource({ kind: 'auto' }, fashion);
    const { features, close } = await source.open(testEngine);
    expect(features).toMatchObject({ name: 'classifier', width: 64 });
    const indices = Uint32Array.from({ length: 2000 }, (_, i) => i);
    const found = await featuresOfData(features, fashion, indices);
    const right = features.classesOf!(found).filter((c, i) => c === fashion.label(i)).length / 2000;
    const { metadata, digest } = await readClassifier(shippedClassifier());
    const { hits, of } = JSON.parse(metadata.get('odelt.accuracy')!);
    expect([features.digest, of]).toEqual([digest, 10_000]);
    expect(hits / of).toBeGreaterThan(0.9);
    expect(Math.abs(right - hits / of)).toBeLessThan(0.02); // three deviations
    expect(Math.sqrt(found.reduce((sum, x) => sum + x * x, 0) / found.length)).toBeCloseTo(1, 1);
    await close();
  });

  it('is not what other pictures are compared by unless asked, nor their judge', async () => {
    const never = () => expect.fail('no engine is needed');
    const data = (name: string, side: number, classNames?: string[]) => {
      const normal = normals(1);
      const pixels = Uint8Array.from({ length: 100 * side ** 2 }, () =>
        Math.max(0, Math.min(255, 128 + 40 * normal())),
      );
      const shape = { name, height: side, width: side, channels: 1, classes: 10, classNames };
      return datasetOf({ ...shape, pixels, labels: Uint8Array.from({ length: 100 }, (_, i) => i % 10) });
    };
    for (const each of [data('digits', 28), data('small', 8, [...fashion.classNames!])]) {
      const { features } = await (await featureSource({ kind: 'auto' }, each)).open(never);
      expect(features.name).toBe('pca64');
    }
    const asked = featureSource(parseFeatures('classifier'), data('large', 32));
    await expect(asked).rejects.toThrow("the classifier takes pictures of 28x28x1; 'large' has 32x32x1");
    const { features, close } = await (await featureSource({ kind: 'classifier' }, data('digits', 28))).open(
      testEngine,
    );
    expect(features.classesOf).toBeUndefined();
    await close();
    await expect(featureSource({ kind: 'classifier', file: 'package.json' }, fashion)).rejects.toThrow('package.json');
  });
});
