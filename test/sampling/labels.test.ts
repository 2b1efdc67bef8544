/** Labels by number and by name. */
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../../engine/errors.ts';
import { describeLabel, parseLabels } from '../../sampling/labels.ts';

const names = ['T-shirt/top', 'Ankle boot', 'Caf\u00e9', 'cat', 'Cat', '0\u001b[2J'];
const errorOf = (text: string, of: readonly string[] | null = names, classes = 6): ConfigError => {
  try {
    parseLabels(text, classes, of ?? undefined, '--labels');
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return error as ConfigError;
  }
  throw new Error('nothing was thrown');
};

describe('parseLabels', () => {
  it('takes numbers, names in any case and form of accents, and none', () => {
    expect(parseLabels('3, ankle BOOT,none,t-shirt/TOP , cafe\u0301,Cat', 6, names)).toEqual([3, 1, null, 0, 2, 4]);
    expect(parseLabels('0,2', 3)).toEqual([0, 2]);
  });

  it('takes a number for a class, even where another class is called so', () => {
    expect(parseLabels('2,10', 11, ['1', '10', '2', ...Array.from({ length: 8 }, (_, i) => `c${i}`)])).toEqual([2, 10]);
  });

  it('refuses what is no class, naming the classes, and what may be two', () => {
    const unknown = errorOf('1,shoe');
    expect(unknown.message).toBe("--labels has 'shoe', which is no class of this model");
    expect(unknown.hint).toBe(
      'classes are 0 (T-shirt/top), 1 (Ankle boot), 2 (Caf\u00e9), 3 (cat), 4 (Cat), 5 (0\\x1b[2J); none is for no class',
    );
    expect(errorOf('6').message).toBe("--labels has '6', which is no class of this model");
    expect(errorOf('CAT').message).toBe("--labels has 'CAT', which may be 3 (cat) or 4 (Cat)");
    expect(errorOf('a\u001b').message).toContain("'a\\x1b'");
    for (const text of ['', '1,', '-1', '1.5', '0x1', 'cat', '1e0']) {
      const error = errorOf(text, null, 1000);
      expect(error.hint).toBe('classes are 0 to 999; none is for no class');
    }
    const many = errorOf(
      'x',
      Array.from({ length: 50 }, (_, i) => `c${i}`),
      50,
    );
    expect(many.hint).toMatch(/19 \(c19\), \.\.\. 49 \(c49\); none/);
  });

  it('shows labels by number and name', () => {
    expect([describeLabel(1, names), describeLabel(5, names), describeLabel(7)]).toEqual([
      '1 (Ankle boot)',
      '5 (0\\x1b[2J)',
      '7',
    ]);
  });
});
