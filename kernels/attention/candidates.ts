/** All ways to compute attention on a device, for tuning to choose among. */
import type { Runner } from '../../engine/tuning.ts';
import { type Candidates, hasSubgroups } from '../family.ts';
import {
  type AttentionShape,
  type AttentionVariant,
  alone,
  attentions,
  reviewedTile,
  sharing,
  tiled,
  vectors,
} from './variants.ts';

/** Of attention. */
export const attentionCandidates: Candidates<AttentionShape, AttentionVariant> = {
  family: attentions,
  candidates(engine, shape) {
    const tiles = [reviewedTile(engine, shape), reviewedTile(engine, shape, false), ...allTiled(engine, shape)];
    const distinct = [...new Map(tiles.map((tile) => [tile.id, tile])).values()];
    if (engine.adapterClass === 'gpu') return distinct;
    const { device } = engine;
    return [
      ...[1, 2, 4, 8].map(alone),
      ...(hasSubgroups(device, 4) ? [1, 2, 4, 8].map((each) => sharing(4, each)) : []),
      ...(hasSubgroups(device, 8) ? [1, 2, 4].map((each) => sharing(8, each)) : []),
      ...distinct,
    ];
  },
};

const found = (v: AttentionVariant | null): v is AttentionVariant => v !== null;

/** Tiles that may be good somewhere: up to 72 features of rows in each invocation, and 64 to 256 invocations. */
function allTiled(engine: Runner, shape: AttentionShape): AttentionVariant[] {
  const all: AttentionVariant[] = [];
  for (const split of [1, 2, 4, 8]) {
    for (const each of [1, 2, 4]) {
      const held = Math.ceil(vectors(shape.head) / split) * each;
      if (split > vectors(shape.head) || held > 18 || (held < 4 && each < 4)) continue;
      for (const rows of [32, 64]) {
        const wg = (rows / each) * split;
        if (wg < 64 || wg > 256) continue;
        const tiles = [32, 16, 8].map((walked) => tiled(engine, shape, { rows, walked, split, each, shuffled: true }));
        all.push(...tiles.filter(found).slice(0, 2));
      }
    }
  }
  return all;
}
