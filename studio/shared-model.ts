/**
 * The model that tabs share, on one worker: opened once, opened again where the GPU was lost, replaced by the user's own. One that makes
 * latents waits for its autoencoder's file.
 */
import { ConfigError } from '../engine/errors.ts';
import type { ModelConfig } from '../model/config.ts';
import type { OdeltWorker } from '../web/client.ts';
import type { LoadedDecoder, LoadedModel } from '../web/protocol.ts';
import { type AutoencoderFiles, type Chosen, sortFiles } from './chosen-files.ts';
import { isPicture } from './paint.ts';
import { createSession, type Session } from './session.ts';

const SHIPPED = 'models/fashion-mnist.safetensors';
/** The shipped model. */
const NONE: Chosen = { model: null, autoencoder: null };

/** A model that is open. */
export interface Opened {
  readonly model: LoadedModel;
  readonly session: Session;
  /** Null for the shipped one. */
  readonly fileName: string | null;
  /** What makes pictures of its latents, where a file for that is open. */
  readonly decoder: (LoadedDecoder & { readonly fileName: string }) | null;
}

/** A model of latents is there, and its autoencoder's file is not. */
export class AutoencoderWanted extends ConfigError {
  constructor({ channels }: Pick<ModelConfig, 'channels'>) {
    super(`This model makes latents of ${channels} channels; open its autoencoder's file too.`, {
      hint: 'It turns them into pictures: the safetensors or .pth file of an AutoencoderKL or TAESD, with the config.json beside it if there is one.',
    });
  }
}

export interface SharedModel {
  /** What is open, if anything is. */
  readonly opened: Opened | null;
  /** Whether files are being opened. */
  readonly isOpening: boolean;
  /** The name of a file that has been read in place of what was open, and cannot be shown yet. */
  readonly waiting: string | null;
  /** What is open or being opened; else the file that was to be, at first the shipped model. @throws as `open`. */
  get(): Promise<Opened>;
  /**
   * Opens files in place of what is there: a model, the autoencoder of the one that is there, or both; none is the shipped model. What is there
   * stays where they cannot be read.
   * @throws as OdeltWorker.load and loadDecoder; AutoencoderWanted; ConfigError for files that do not go together.
   */
  open(files: readonly File[]): Promise<Opened>;
  /** Opens on a new worker what is open or was to be, whatever became of the worker before. @throws as `open`. */
  again(): Promise<Opened>;
  /** Is given every opening from now on, whoever has asked for it. */
  onOpening(listener: (opening: Promise<Opened>) => void): void;
}

/** A model in the worker. */
interface There {
  readonly model: LoadedModel;
  readonly file: File | null;
}

export function createSharedModel(startWorker: () => OdeltWorker): SharedModel {
  let session: Session | null = null;
  let opened: Opened | null = null;
  let opening: Promise<Opened> | null = null;
  /** What is open, or was to be. */
  let wanted: Chosen = NONE;
  let there: There | null = null;
  const listeners: ((opening: Promise<Opened>) => void)[] = [];

  async function load({ model: file, autoencoder }: Chosen): Promise<Opened> {
    session ??= createSession(startWorker());
    const mine = session;
    const model = await mine.load(file ?? new URL(SHIPPED, document.baseURI).href);
    // It has taken the place of the one before, which is gone even where this one cannot be shown.
    opened = null;
    there = { model, file };
    return show(mine, there, autoencoder);
  }

  /** Opens the model that is in the worker, with an autoencoder or without. */
  async function show(mine: Session, { model, file }: There, autoencoder: AutoencoderFiles | null): Promise<Opened> {
    const { config } = model;
    if (!autoencoder && config.imageSize === 1) {
      there = null;
      throw new ConfigError('This model makes points, no pictures.', { hint: 'Open it in the tab Train.' });
    }
    if (!autoencoder && !isPicture(config)) throw new AutoencoderWanted(config);
    const decoder = autoencoder && {
      ...(await mine.loadDecoder(autoencoder.weights, autoencoder.config)),
      fileName: autoencoder.weights.name,
    };
    wanted = { model: file, autoencoder };
    opened = { model, session: mine, fileName: file?.name ?? null, decoder };
    return opened;
  }

  async function openFiles(files: readonly File[]): Promise<Opened> {
    if (files.length === 0) return load(NONE);
    const isLatent = there !== null && (opened?.decoder != null || !isPicture(there.model.config));
    const chosen = await sortFiles(files, isLatent);
    return chosen.model || !session || !there ? load(chosen) : show(session, there, chosen.autoencoder);
  }

  function open(loading: Promise<Opened>): Promise<Opened> {
    opening = loading;
    const over = () => {
      if (opening === loading) opening = null;
    };
    loading.then(over, over);
    for (const listener of listeners) listener(loading);
    return loading;
  }

  async function restart(): Promise<Opened> {
    const old = session;
    [session, opened, there] = [null, null, null];
    await old?.dispose();
    return load(wanted);
  }

  return {
    get opened() {
      return opened;
    },
    get isOpening() {
      return opening !== null;
    },
    get waiting() {
      return opened ? null : (there?.file?.name ?? null);
    },
    get() {
      if (opening) return opening;
      if (opened) return Promise.resolve(opened);
      return open(session && there ? show(session, there, null) : load(wanted));
    },
    open: (files) => open(openFiles(files)),
    again: () => open(restart()),
    onOpening: (listener) => void listeners.push(listener),
  };
}
