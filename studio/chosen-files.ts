/** What files that were chosen or dropped together are: a model, and the autoencoder of its latents. */
import { ConfigError, OdeltError } from '../engine/errors.ts';
import { headerLength, LENGTH_BYTES, parseHeader, type SafetensorsHeader } from '../formats/safetensors-header.ts';
import { describesModel } from '../model/weights/model-file.ts';

/** Files of an autoencoder: its weights, and the config.json beside them where there is one. */
export interface AutoencoderFiles {
  readonly weights: File;
  readonly config: File | null;
}

/** What is to be opened. */
export interface Chosen {
  readonly model: File | null;
  readonly autoencoder: AutoencoderFiles | null;
}

/** Of whose decoder and encoder tensors are named. */
const PARTS = /^(first_stage_model\.)?(encoder|decoder|quant_conv|post_quant_conv)\./;

/**
 * Sorts files by what they say of themselves. A single one that does not say is a model; `isWanted`: where an autoencoder is wanted, that.
 * @throws ConfigError for several of a kind.
 */
export async function sortFiles(files: readonly File[], isWanted: boolean): Promise<Chosen> {
  const configs = files.filter(({ name }) => /\.json$/i.test(name));
  const weights = files.filter((file) => !configs.includes(file));
  const headers = await Promise.all(weights.map(headerOf));
  const models = weights.filter((_, i) => describesModel(headers[i]?.metadata ?? new Map()));
  const others = weights.filter((file) => !models.includes(file));
  const [model = null] = models;
  const [other = null] = others;
  const most = (kind: string, found: readonly File[]) => {
    if (found.length < 2) return;
    throw new ConfigError(`${found.map(({ name }) => name).join(' and ')} are ${found.length} ${kind}`, {
      hint: 'open a model, and with a model of latents its autoencoder: one file of each',
    });
  };
  most('models', models);
  most('files that are no models of odelt', others);
  most('configurations', configs);
  if (!model && other && !isWanted && !isAutoencoder(other, headers[weights.indexOf(other)])) {
    return { model: other, autoencoder: null };
  }
  if (!other) {
    if (model && configs.length === 0) return { model, autoencoder: null };
    throw new ConfigError('there are no weights among these files', {
      hint: 'open config.json together with its weights',
    });
  }
  return { model, autoencoder: { weights: other, config: configs[0] ?? null } };
}

/** Whether a file without a model's description is an autoencoder's, as far as its names tell: those of torch.save are none of odelt's. */
const isAutoencoder = ({ name }: File, header: SafetensorsHeader | undefined): boolean =>
  header ? [...header.tensors.keys()].some((tensor) => PARTS.test(tensor)) : /\.(pth|pt|ckpt|bin)$/i.test(name);

/** The header of a safetensors file; undefined for others, and for damaged ones. */
async function headerOf(file: File): Promise<SafetensorsHeader | undefined> {
  const read = async (from: number, to: number) => new Uint8Array(await file.slice(from, to).arrayBuffer());
  try {
    const length = headerLength(await read(0, LENGTH_BYTES), file.size, file.name);
    return parseHeader(await read(LENGTH_BYTES, LENGTH_BYTES + length), file.size, file.name);
  } catch (error) {
    if (error instanceof OdeltError) return undefined;
    throw error;
  }
}
