/** How features are named in text: `pca64`, `classifier`, `classifier:FILE`, `onnx:FILE`, `fid:FILE`. */
import { ConfigError } from '../engine/errors.ts';
import { FEATURE_NAMES, type FeatureName, type Features } from './features.ts';

/** Which features are asked for. */
export type FeatureChoice =
  /** What suits the data. */
  | { readonly kind: 'auto' }
  | { readonly kind: 'plain'; readonly name: FeatureName }
  /** Without a file, the one that comes with the package. */
  | { readonly kind: 'classifier'; readonly file?: string }
  /** Any network, or the InceptionV3 that FID is defined by. */
  | { readonly kind: 'onnx' | 'fid'; readonly file: string };

/** @throws ConfigError for a text that names no features; `option` is what the user called it */
export function parseFeatures(text: string, option = '--features'): FeatureChoice {
  const [, kind = text, file] = /^(classifier|onnx|fid):(.*)$/s.exec(text) ?? [];
  const plain = FEATURE_NAMES.find((name) => name === kind);
  if (plain) return { kind: 'plain', name: plain };
  if (file === '' || ((kind === 'onnx' || kind === 'fid') && file === undefined)) {
    throw new ConfigError(`${option} ${kind} names no file`, { hint: `give it as ${kind}:FILE` });
  }
  if (kind === 'classifier') return file === undefined ? { kind } : { kind, file };
  if (file !== undefined && (kind === 'onnx' || kind === 'fid')) return { kind, file };
  if (kind === 'auto') return { kind };
  throw new ConfigError(
    `${option} is '${text}'; it must be one of ${FEATURE_NAMES.join(', ')}, classifier, classifier:FILE, onnx:FILE, fid:FILE or auto`,
  );
}

/** The text that asks for features of this name. Where a network's file lies nobody knows: it is FILE. */
export function askedAs({ name, distance }: Pick<Features, 'name' | 'distance'>): string {
  if (distance === 'FID') return 'fid:FILE';
  if (name === 'classifier' || FEATURE_NAMES.some((known) => known === name)) return name;
  return name.startsWith('classifier ') ? 'classifier:FILE' : 'onnx:FILE';
}
