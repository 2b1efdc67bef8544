/** Files that a page gives: a model is read by its groups, a checkpoint whole, and what the browser cannot read is told. */
import { describe, expect, it } from 'vitest';
import { CheckpointError, LimitError } from '../../engine/errors.ts';
import { MAX_READ } from '../../formats/safetensors-header.ts';
import { givenSource, wholeCheckpoint } from '../../web/given.ts';
import { openGiven } from '../../web/model-calls.ts';
import { block, expectEqualGroups, rangeOf, whole } from '../support/weights.ts';

/** A Blob that says what was read of it, and seems to be as large as `size`. */
class Watched extends Blob {
  readonly read: [number, number][] = [];
  readonly #size: number;
  constructor(bytes: Uint8Array<ArrayBuffer>, size = bytes.length) {
    super([bytes]);
    this.#size = size;
  }
  override get size(): number {
    return this.#size;
  }
  override slice(begin: number, end: number): Blob {
    this.read.push([begin, end]);
    return super.slice(begin, end);
  }
  override arrayBuffer(): Promise<ArrayBuffer> {
    throw new Error('read whole');
  }
}

describe('a file that is given', () => {
  it('as a model is read by its groups, whatever its size', async () => {
    const file = new Watched(whole.slice());
    const { model, run } = await openGiven(file);
    expect(run).toBeUndefined();
    const header = file.read.reduce((sum, [begin, end]) => sum + end - begin, 0);
    expect(header).toBeLessThan(whole.length / 10);
    await model.source.read(block(1));
    expect(file.read.at(-1)).toEqual(rangeOf(whole, block(1)));
    await expectEqualGroups(model.source, whole);
  });

  it('as a checkpoint beyond what arrays hold is refused, with its size', async () => {
    const size = MAX_READ + 1;
    const error = await wholeCheckpoint(givenSource(new Watched(new Uint8Array(8), size), 'it')).catch(
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(LimitError);
    expect(error).toMatchObject({ asked: size, available: MAX_READ });
  });

  it('and cannot be read any more is told so', async () => {
    const gone = new Blob([new Uint8Array(9)]);
    gone.slice = () =>
      ({ arrayBuffer: () => Promise.reject(new DOMException('it is gone', 'NotReadableError')) }) as never;
    const error = await openGiven(gone).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({
      message: 'bytes 0 to 7 of the model cannot be read: it is gone',
      hint: /choose it again/,
    });
  });
});
