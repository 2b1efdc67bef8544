/** A model's weights in a file on disk, read by offset. */

import { openSafetensors } from '../../formats/safetensors.node.ts';
import type { ModelConfig } from '../config.ts';
import { describedModel } from './model-file.ts';
import { type ModelSource, rangeSource } from './source.ts';

/**
 * Opens a weight file and reads its header; `config` is needed where the file does not describe its model. The file stays
 * open until `close`.
 * @throws CheckpointError for a file that cannot be read, is damaged, describes no model or does not fit it.
 */
export async function openModelSource(path: string, config?: ModelConfig): Promise<ModelSource> {
  const file = await openSafetensors(path);
  try {
    const described = describedModel(file.header, path, config);
    const source = rangeSource(file.header, described, (begin, end) => file.bytes(begin, end), path);
    return { config: described, metadata: file.header.metadata, source, close: file.close };
  } catch (error) {
    await file.close();
    throw error;
  }
}
