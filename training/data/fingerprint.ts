/** What a run remembers of its data set, so that going on with another one is noticed. */
import { ConfigError } from '../../engine/errors.ts';
import type { LatentsOrigin } from '../../model/autoencoder/origin.ts';
import { groupDigest } from '../../model/weights/digests.ts';
import { type DataShape, isStreamed, latentsOrigin, type TrainingData } from './dataset.ts';

/** Plain data, for a run's config.json and the metadata of a checkpoint. */
export interface Fingerprint extends DataShape {
  readonly count: number;
  readonly classNames?: readonly string[];
  /**
   * SHA-256 over all pixels in order, or the `identity` of pictures that are not in memory; then over all labels as 32-bit
   * little-endian numbers; hexadecimal.
   */
  readonly pixels: string;
  readonly labels: string;
  /** Of encoded latents: the autoencoder that decodes them. */
  readonly latents?: LatentsOrigin;
}

/** The fingerprint that sums of pixels and labels make. */
export function withSums(data: TrainingData, sums: Pick<Fingerprint, 'pixels' | 'labels'>): Fingerprint {
  const { name, count, height, width, channels, classes, classNames } = data;
  const latents = latentsOrigin(data);
  return {
    ...{ name, count, height, width, channels, classes },
    ...(classNames ? { classNames: [...classNames] } : {}),
    ...sums,
    ...(latents ? { latents } : {}),
  };
}

/** All labels as 32-bit little-endian numbers. */
export function labelBytes(data: TrainingData): Uint8Array<ArrayBuffer> {
  const labels = new DataView(new ArrayBuffer(4 * data.count));
  for (let i = 0; i < data.count; i++) labels.setUint32(4 * i, data.label(i), true);
  return new Uint8Array(labels.buffer);
}

/** The fingerprint of a data set, by the runtime's own SHA-256, as browsers have it. @throws UnsupportedError where there is none. */
export async function fingerprintOf(data: TrainingData): Promise<Fingerprint> {
  const images = isStreamed(data) ? [] : Array.from({ length: data.count }, (_, i) => data.image(i));
  const pixels = isStreamed(data) ? data.identity : await groupDigest(images);
  return withSums(data, { pixels, labels: await groupDigest([labelBytes(data)]) });
}

/**
 * The fingerprint in a parsed config.json.
 * @throws ConfigError where it is none; `path` is the file, for the message
 */
export function parseFingerprint(json: unknown, path: string): Fingerprint {
  const fields = (typeof json === 'object' ? json : null) as Partial<Record<keyof Fingerprint, unknown>> | null;
  const texts = (['name', 'pixels', 'labels'] as const).every((key) => typeof fields?.[key] === 'string');
  const sizes = (['count', 'height', 'width', 'channels', 'classes'] as const).every((key) =>
    Number.isInteger(fields?.[key]),
  );
  const names = fields?.classNames;
  const named =
    names === undefined || (Array.isArray(names) && names.every((name: unknown) => typeof name === 'string'));
  if (!texts || !sizes || !named) {
    throw new ConfigError(`${path}: its 'pictures' do not describe a data set`, {
      hint: 'restore the file, or remove that field: the data are then not compared',
    });
  }
  return fields as Fingerprint;
}

/**
 * @throws ConfigError, naming all that differs, unless `found` is the data set that `recorded` was made of. Names do not count. `otherwise`: how
 * to go on with other data, for the hint.
 */
export function checkSameData(
  recorded: Fingerprint,
  found: Fingerprint,
  otherwise = "remove 'pictures' from its config.json",
): void {
  const list = (names: readonly string[] | undefined) =>
    names ? names.slice(0, 10).join(', ') + (names.length > 10 ? ', ...' : '') : 'none';
  const size = (f: Fingerprint) => `${f.height} x ${f.width} x ${f.channels}`;
  const differs = (what: string, before: string | number, now: string | number) =>
    before === now ? [] : [`${what}: ${before}, now ${now}`];
  const same = (key: 'pixels' | 'labels') => recorded[key] === found[key];
  const differences = [
    ...differs('pictures', recorded.count, found.count),
    ...differs('size', size(recorded), size(found)),
    ...differs('classes', recorded.classes, found.classes),
    ...(JSON.stringify(recorded.classNames) === JSON.stringify(found.classNames)
      ? []
      : [`class names: ${list(recorded.classNames)}, now ${list(found.classNames)}`]),
  ];
  // Of another number or size, contents differ anyway.
  const contents = recorded.count === found.count && size(recorded) === size(found);
  if (contents && !same('pixels')) differences.push('contents of the pictures');
  if (recorded.count === found.count && !same('labels')) differences.push('labels of the pictures');
  if (differences.length === 0) return;
  throw new ConfigError(`the run was trained on other data (${recorded.name}): ${differences.join('; ')}`, {
    hint: `give the data that the run began with, or start a new run; to go on with these, ${otherwise}`,
  });
}
