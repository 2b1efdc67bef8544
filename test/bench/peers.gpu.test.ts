/** odelt as one of the peers of bench/peers: each of its workloads, small, in a process of its own, against float64. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { peersModule, type Workload } from '../support/peers.ts';
import { buildInto, ROOT } from '../support/repository.ts';

const { startPeer } = await peersModule('process');
const { inputsOf, WORKLOADS } = await peersModule('workloads');
const { reference, compare } = await peersModule('reference');

/** Of kinds that are not made of tokens. */
const SIZES: Readonly<Record<string, Workload['size']>> = {
  product: { rows: 40, inner: 64, columns: 56 },
  decoder: { side: 3, latent: 4, width: 8, blocks: 1, doublings: 2 },
  stage: { side: 4, input: 64, output: 32 },
};
const small = { batch: 2, tokens: 16, width: 64, heads: 4, depth: 2 };
const workloads: Workload[] = [...new Set(Object.values(WORKLOADS).map(({ kind }) => kind))].map((kind) => ({
  kind,
  size: SIZES[kind] ?? small,
}));

describe('odelt among its peers', () => {
  beforeAll(async () => {
    await buildInto(join(ROOT, 'dist'));
    expect(existsSync(join(ROOT, 'dist/node.js'))).toBe(true);
  });

  it.each(workloads)('is right and is timed: $kind', async (workload) => {
    const peer = startPeer();
    try {
      const adapter = process.env.ODELT_ADAPTER || 'auto';
      const answer = await peer.ask({ ask: 'prepare', peer: 'odelt', adapter, workload }, 100);
      if (answer.answer !== 'prepared') throw new Error(JSON.stringify(answer));
      const inputs = inputsOf(workload);
      const { error, output } = compare(workload, inputs, reference(workload, inputs), answer.outputs);
      expect(error, output).toBeLessThan(workload.kind === 'train' ? 1e-3 : 2e-5);
      expect(await peer.ask({ ask: 'warm' }, 100)).toMatchObject({ answer: 'warm' });
      expect(await peer.ask({ ask: 'run' }, 100)).toMatchObject({ answer: 'ran' });
    } finally {
      await peer.end();
    }
  });
});
