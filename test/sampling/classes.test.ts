/** Models without classes: what is asked of them where nobody says, and what is refused. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { checkGrid } from '../../evaluation/grid.ts';
import { checkLossMap } from '../../evaluation/loss-map.ts';
import { parseModelConfig, preset } from '../../model/config.ts';
import { usualGuidance, usualLabels } from '../../sampling/classes.ts';
import { checkRequest, type SampleRequest } from '../../sampling/request.ts';
import { scheduleOf } from '../../sampling/schedule.ts';
import { checkComparable } from '../../training/model-for-data.ts';

const conditional = preset('tiny', { classes: 3 });
const config = parseModelConfig({ ...conditional, unconditional: true });

function refusal(ask: () => void): ConfigError {
  try {
    ask();
  } catch (error) {
    return error as ConfigError;
  }
  throw new Error('nothing was wrong');
}

it('no class is what a model without classes draws, all in turn what others do', () => {
  expect(usualLabels(conditional, 4, 2)).toEqual([2, 0, 1, 2]);
  expect(usualLabels(config, 2, 2)).toEqual([null, null]);
  expect([usualGuidance(conditional), usualGuidance(conditional, 2), usualGuidance(config, 2)]).toEqual([1, 2, 0]);
});

describe('of a model without classes', () => {
  const none: SampleRequest = { labels: [null, null], steps: 4 };

  it.each([{}, { guidance: 0 }, { solver: 'tsit5' as const, steps: undefined }])('no class is drawn: %o', (fields) => {
    const request = { ...none, ...fields };
    expect(() => checkRequest(request, config)).not.toThrow();
    expect(scheduleOf(request, config).variants.map(({ guided }) => guided)).toEqual([false]);
  });

  it.each([
    [
      { labels: [null, 2] },
      'class 2 was asked for (label 1); this model was trained without labels',
      'give every sample no class: null, or --labels none',
    ],
    [
      { guidance: 1 },
      'guidance 1 was asked for; this model was trained without labels to guide by',
      'leave guidance out, or give 0',
    ],
    [
      { guidance: -0.5 },
      'guidance -0.5 was asked for; this model was trained without labels to guide by',
      'leave guidance out, or give 0',
    ],
  ])('%o is refused, but not of others', (fields, message, hint) => {
    const request: SampleRequest = { ...none, ...fields };
    const error = refusal(() => checkRequest(request, config));
    expect(error).toBeInstanceOf(ConfigError);
    expect([error.message, error.hint]).toEqual([message, hint]);
    expect(() => checkRequest(request, conditional)).not.toThrow();
  });

  it('a class that there is not is told as of any model', () => {
    expect(refusal(() => checkRequest({ ...none, labels: [3] }, config)).message).toContain('there is no class 3');
  });

  it('an evaluation and a map of losses take no guidance', () => {
    const grid = (guidance: number) => ({ steps: [4], blocks: [4], guidance: [guidance], solver: 'euler' as const });
    expect(() => checkGrid(grid(0), 1000, config)).not.toThrow();
    expect(refusal(() => checkGrid(grid(1), 1000, config)).message).toContain('guidance 1 was asked for');
    const map = { times: 4, blocks: [4] };
    expect(() => checkLossMap({ ...map, config, labelled: false })).not.toThrow();
    expect(refusal(() => checkLossMap({ ...map, config, labelled: true })).message).toContain('guidance 1');
    expect(() => checkLossMap({ ...map, config: conditional, labelled: true })).not.toThrow();
  });

  it('samples are compared with pictures of any number of classes', () => {
    const pictures = { name: 'x', height: 28, width: 28, channels: 1, classes: 1 };
    expect(() => checkComparable(config, pictures)).not.toThrow();
    expect(() => checkComparable(conditional, pictures)).toThrow("'x' has 1 classes; the model draws 3");
  });
});
