/** The model that tabs share, on one worker: opened once, opened again where the GPU was lost, replaced by the user's own. */
import { ConfigError } from '../engine/errors.ts';
import type { OdeltWorker } from '../web/client.ts';
import type { LoadedModel } from '../web/protocol.ts';
import { createSession, type Session } from './session.ts';

const SHIPPED = 'models/fashion-mnist.safetensors';

/** A model that is open. */
export interface Opened {
  readonly model: LoadedModel;
  readonly session: Session;
  /** Null for the shipped one. */
  readonly fileName: string | null;
}

export interface SharedModel {
  /** What is open, if anything is. */
  readonly opened: Opened | null;
  /** What is open or being opened; else the file that was to be, at first the shipped model. @throws as `open`. */
  get(): Promise<Opened>;
  /**
   * Opens a file in place of what is there; null is the shipped model. What is there stays where the file cannot be read.
   * @throws as OdeltWorker.load; ConfigError for a model that makes no pictures.
   */
  open(file: File | null): Promise<Opened>;
  /** Opens on a new worker what is open or was to be, whatever became of the worker before. @throws as `open`. */
  again(): Promise<Opened>;
  /** Is given every opening from now on, whoever has asked for it. */
  onOpening(listener: (opening: Promise<Opened>) => void): void;
}

export function createSharedModel(startWorker: () => OdeltWorker): SharedModel {
  let session: Session | null = null;
  let opened: Opened | null = null;
  let opening: Promise<Opened> | null = null;
  /** What is open, or was to be. */
  let wanted: File | null = null;
  const listeners: ((opening: Promise<Opened>) => void)[] = [];

  async function load(file: File | null): Promise<Opened> {
    session ??= createSession(startWorker());
    const mine = session;
    const model = await mine.load(file ?? new URL(SHIPPED, document.baseURI).href);
    const { channels } = model.config;
    if (channels !== 1 && channels !== 3) {
      // It has taken the place of the one before in the worker, though not here.
      opened = null;
      throw new ConfigError(`this model makes latents of ${channels} channels; pictures have 1 or 3`);
    }
    wanted = file;
    opened = { model, session: mine, fileName: file?.name ?? null };
    return opened;
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
    [session, opened] = [null, null];
    await old?.dispose();
    return load(wanted);
  }

  return {
    get opened() {
      return opened;
    },
    get: () => opening ?? (opened ? Promise.resolve(opened) : open(load(wanted))),
    open: (file) => open(load(file)),
    again: () => open(restart()),
    onOpening: (listener) => void listeners.push(listener),
  };
}
