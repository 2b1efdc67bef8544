/** Evaluations in a model's metadata: what is kept of results, read again to the digit, and what is refused. */
import { describe, expect, it } from 'vitest';
import { CheckpointError, ConfigError } from '../../engine/errors.ts';
import type { Cell, EvaluationResults } from '../../evaluation/results.ts';
import {
  describeEvaluation,
  EVALUATION_KEY,
  evaluationMetadata,
  evaluationOf,
  storedEvaluation,
} from '../../evaluation/stored.ts';
import { serializeSafetensors } from '../../formats/safetensors.ts';
import { initParams } from '../../model/params.ts';
import { modelContents, parseModelFile } from '../../model/weights/model-file.ts';
import { tinyModel } from '../support/tiny.ts';

const cell = (steps: number | null, blocks: number, fd: number, more: Partial<Cell> = {}) =>
  ({
    ...{ steps, blocks, guidance: 1, solver: 'euler', fd: { value: fd, low: fd / 3, high: fd * 1.7 }, kid: null },
    ...{ secondsPerSample: 0.000023759961, peakBytes: 83716608, bytesRead: 2653472, evaluations: 1, agreement: null },
    ...more,
  }) as unknown as Cell;

const results = (...cells: Cell[]): EvaluationResults =>
  ({
    ...{
      cells,
      nearest: null,
      floor: { how: 'parts', count: 9, of: 9, fd: { value: 0.1665549, low: 0.1, high: 0.2 } },
    },
    provenance: { features: { name: 'pca64', width: 64 }, samples: 5000, adapter: 'a gpu', seed: 0 },
  }) as unknown as EvaluationResults;

const stored = storedEvaluation(results(cell(1, 2, 5.199830963), cell(4, 4, 1 / 3)), tinyModel, '2026-01-31');

describe('what is kept of results', () => {
  it('is what a choice is made by, to four digits', () => {
    expect(stored).toEqual({
      ...{ features: 'pca64', count: 5000, solver: 'euler', guidance: 1, adapter: 'a gpu', date: '2026-01-31' },
      floor: { value: 0.1666, low: 0.1, high: 0.2 },
      cells: [
        {
          ...{ steps: 1, blocks: 2, fd: { value: 5.2, low: 1.733, high: 8.84 } },
          ...{ secondsPerSample: 0.00002376, peakBytes: 83720000, bytesRead: 2653000 },
        },
        {
          ...{ steps: 4, blocks: 4, fd: { value: 0.3333, low: 0.1111, high: 0.5667 } },
          ...{ secondsPerSample: 0.00002376, peakBytes: 83720000, bytesRead: 2653000 },
        },
      ],
    });
    expect(describeEvaluation(stored)).toBe('2 cells, FD of 5,000 samples by pca64 features, euler, w=1, 2026-01-31');
  });

  it('is of the solver of fixed steps and the weight that have the lowest distance', () => {
    const several = results(
      cell(1, 2, 3),
      cell(1, 2, 2, { guidance: 2 }),
      cell(1, 4, 9, { guidance: 2 }),
      cell(1, 2, 2.5, { solver: 'heun' }),
      cell(null, 2, 1, { solver: 'tsit5', tolerance: 0.1 }),
      cell(1, 2, 0.5, { level: 7 }),
    );
    const { guidance, solver, cells } = storedEvaluation(several, tinyModel, '2026-01-31');
    expect([guidance, solver, cells.map(({ fd }) => fd.value)]).toEqual([2, 'euler', [2, 9]]);
  });

  it.each([
    [results(cell(null, 2, 1, { solver: 'tsit5' })), 'has no cells of fixed steps'],
    [results(cell(1, 2, 1, { level: 0 })), 'has no cells of fixed steps'],
    [results(cell(1, 3, 1)), 'has cell 0 of another model: this model cannot run 3 of its 4 blocks'],
    [results(cell(1, 2, 1), cell(1, 2, 1)), 'has T=1 L=2 twice'],
    [results(cell(1, 2, Number.NaN)), 'has cell 0: a distance of NaN, which is no finite number'],
    [results({ ...cell(1, 2, 1), fd: null } as unknown as Cell), 'has a cell or a floor without a distance'],
  ])('is refused: %#', (wrong, problem) => {
    const keep = () => storedEvaluation(wrong, tinyModel, '2026-01-31', 'r.json');
    expect(keep).toThrow(ConfigError);
    expect(keep).toThrow(`r.json cannot be kept in a model's file: the evaluation ${problem}`);
  });
});

describe("a model's file", () => {
  it('carries it, and none where there is none', async () => {
    const write = async (extra: Record<string, string>) => {
      const { tensors, metadata } = await modelContents(tinyModel, initParams(tinyModel, 0), { extra });
      return parseModelFile(serializeSafetensors(tensors, metadata), 'm');
    };
    expect(evaluationOf(await write(evaluationMetadata(stored)), 'm')).toEqual(stored);
    expect(evaluationOf(await write({}), 'm')).toBeUndefined();
    const later = { ...stored, floor: null, later: 1, cells: [{ ...stored.cells[0], kid: {} }] };
    const known = { ...stored, floor: null, cells: [stored.cells[0]] };
    expect(evaluationOf(await write({ [EVALUATION_KEY]: JSON.stringify(later) }), 'm')).toEqual(known);
  });

  const [first] = stored.cells;
  const withCell = (more: object) => ({ ...stored, cells: [{ ...first, ...more }] });
  it.each<[unknown, string]>([
    ['{', 'is no JSON'],
    [' '.repeat(2 ** 20 + 1), 'has 1048577 characters; 1048576 are allowed'],
    [null, 'has JSON that is no object'],
    [[], 'has JSON that is no object'],
    [{ ...stored, solver: 'tsit5' }, "has a solver 'tsit5', which is none of fixed steps"],
    [{ ...stored, solver: { a: 1 } }, 'has a solver no number, which is none of fixed steps'],
    [{ ...stored, cells: [] }, 'has no list of cells'],
    [{ ...stored, cells: { length: 1 } }, 'has no list of cells'],
    [{ ...stored, cells: Array(4097).fill(first) }, 'has 4097 cells; 4096 are allowed'],
    [{ ...stored, cells: [null] }, 'has cell 0 that is no object'],
    [{ ...stored, date: '2026-13-01' }, "has a date '2026-13-01', which is none like 2026-01-31"],
    [{ ...stored, date: 20260131 }, 'has a date 20260131, which is none like 2026-01-31'],
    [{ ...stored, features: '' }, 'has a name of features that is no text of 1 to 200 characters'],
    [{ ...stored, adapter: 'x'.repeat(201) }, "has an adapter's name that is no text of 1 to 200 characters"],
    [{ ...stored, count: 1.5 }, 'has a count of 1.5, which is no positive integer'],
    [{ ...stored, guidance: '1' }, "has a guidance of '1', which is no finite number"],
    [{ ...stored, floor: undefined }, 'has a floor that is no object'],
    [withCell({ steps: 0 }), 'has cell 0: a number of steps of 0, which is no positive integer'],
    [withCell({ steps: 3 }), 'has cell 0 of another model: this model was trained for step sizes 1, 1/2, ..., 1/128'],
    [withCell({ steps: 2 ** 40 }), 'has cell 0 of another model'],
    [withCell({ blocks: 3 }), 'has cell 0 of another model: this model cannot run 3 of its 4 blocks'],
    [withCell({ fd: { value: 1, low: 2, high: 1 } }), 'has cell 0: a distance from 2 to 1'],
    [withCell({ fd: 1 }), 'has cell 0: a distance that is no object'],
    [withCell({ secondsPerSample: 0 }), 'has cell 0: seconds of 0, which is not above 0'],
    [withCell({ peakBytes: -1 }), 'has cell 0: peak bytes of -1, which is no positive integer'],
    [withCell({ bytesRead: '1' }), "has cell 0: bytes to read of '1', which is no positive integer"],
    [{ ...stored, cells: [first, first] }, 'has T=1 L=2 twice'],
  ])('that is hostile is refused: %#', (value, problem) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    const read = () =>
      evaluationOf({ metadata: new Map([[EVALUATION_KEY, text]]), config: tinyModel }, 'm.safetensors');
    expect(read).toThrow(CheckpointError);
    expect(read).toThrow(`m.safetensors: its evaluation (metadata 'odelt.evaluation') ${problem}`);
  });

  it('says an exponent beyond numbers is none', () => {
    const text = JSON.stringify(stored).replace('"guidance":1', '"guidance":1e999');
    const read = () => evaluationOf({ metadata: new Map([[EVALUATION_KEY, text]]), config: tinyModel }, 'm');
    expect(read).toThrow('has a guidance of Infinity, which is no finite number');
  });
});
