/** Fingerprints of data sets: of their contents, and all that differs is named. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type DatasetFields, datasetOf } from '../../training/data/dataset.ts';
import { fingerprint } from '../../training/data/fingerprint.node.ts';
import { checkSameData, fingerprintOf, parseFingerprint } from '../../training/data/fingerprint.ts';

const fields: DatasetFields = {
  name: 'x',
  height: 1,
  width: 2,
  channels: 1,
  classes: 2,
  classNames: ['cat', 'dog\n'],
  pixels: Uint8Array.of(1, 2, 3, 4),
  labels: Uint8Array.of(0, 1),
};
const of = (change: Partial<DatasetFields> = {}) => fingerprint(datasetOf({ ...fields, ...change }));
const sha256 = (...bytes: number[]) => createHash('sha256').update(Uint8Array.from(bytes)).digest('hex');

describe('fingerprint', () => {
  it('is of sizes, names, pixels and labels, by either SHA-256, and survives JSON', async () => {
    const found = of();
    expect(found).toEqual({
      name: 'x',
      count: 2,
      height: 1,
      width: 2,
      channels: 1,
      classes: 2,
      classNames: ['cat', 'dog\n'],
      pixels: sha256(1, 2, 3, 4),
      labels: sha256(0, 0, 0, 0, 1, 0, 0, 0),
    });
    await expect(fingerprintOf(datasetOf(fields))).resolves.toEqual(found);
    const read = parseFingerprint(JSON.parse(JSON.stringify(found)), 'config.json');
    expect(read).toEqual(found);
    expect(() => checkSameData(read, of({ name: 'moved', labels: Uint16Array.of(0, 1) }))).not.toThrow();
  });

  it.each<[Partial<DatasetFields>, string]>([
    [{ pixels: Uint8Array.of(1, 2, 3, 5) }, 'contents of the pictures'],
    [{ labels: Uint8Array.of(1, 1) }, 'labels of the pictures'],
    [{ pixels: Uint8Array.of(1, 2), labels: Uint8Array.of(0) }, 'pictures: 2, now 1'],
    [{ height: 2, width: 1 }, 'size: 1 x 2 x 1, now 2 x 1 x 1'],
    [{ classNames: ['cat', 'cow'] }, 'class names: cat, dog\\n, now cat, cow'],
    [{ classNames: undefined }, 'class names: cat, dog\\n, now none'],
    [
      { classes: 3, classNames: ['a', 'b', 'c'], labels: Uint8Array.of(2, 1) },
      'classes: 2, now 3; class names: cat, dog\\n, now a, b, c; labels of the pictures',
    ],
  ])('of other data, %j, names what differs', (change, differences) => {
    expect(() => checkSameData(of(), of(change))).toThrow(
      expect.objectContaining({
        name: 'ConfigError',
        message: `the run was trained on other data (x): ${differences}`,
      }),
    );
  });

  it.each([null, 3, [], {}, { ...of(), count: '2' }, { ...of(), classNames: [1] }, { ...of(), pixels: undefined }])(
    'a record of %j is a ConfigError',
    (json) => {
      expect(() => parseFingerprint(json, 'run/config.json')).toThrow(
        expect.objectContaining({
          name: 'ConfigError',
          message: "run/config.json: its 'pictures' do not describe a data set",
        }),
      );
    },
  );
});
