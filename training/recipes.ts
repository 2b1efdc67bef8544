/** Recipes: the settings of published runs, from the model to the learning rate, and the data that they want. */
import { ConfigError } from '../engine/errors.ts';
import { knownNames } from '../formats/options.ts';
import type { Layer } from './settings.ts';

/** A recipe: what it sets, and in words what data it wants. */
export interface Recipe {
  readonly settings: Layer;
  readonly data: string;
}

/**
 * The runs of ODE_t(ODE_l) (arXiv 2506.21714; flags in the README of github.com/gudovskiy/odelt) on latents of 256 x 256 pictures. They start
 * from a checkpoint of shortcut-models (`--init`), and are gone on with at 1e-5.
 */
const paper = {
  batch: 256,
  steps: 100_000,
  lr: 1e-4,
  warmup: 5000,
  weightDecay: 0.1,
  emaDecay: 0.999,
  finest: 128,
  timeEvery: 8,
  lengthEvery: 8,
  targetsFromEma: true,
} as const;
const latents = { imageSize: 32, channels: 4 } as const;
const base = { preset: 'dit-b/2', ...latents, lengths: { min: 4, group: 4 } } as const;
const extraLarge = { preset: 'dit-xl/2', ...latents, lengths: { min: 12, group: 8 } } as const;
const imagenet = { ...paper, guidance: { weight: 1.5, distill: true }, classDropout: 0.1 } as const;
const LATENTS = 'latents of 32 x 32 x 4 of 256 x 256 pictures by the Stable Diffusion autoencoder, times 0.18215';

/** All recipes by name. */
export const RECIPES: Readonly<Record<string, Recipe>> = {
  celebahq256: {
    settings: { model: { ...base, dropout: 0.1 }, train: { ...paper, guidance: null, classDropout: 1 } },
    data: `CelebA-HQ: ${LATENTS}; no labels`,
  },
  imagenet256: {
    settings: { model: { ...base, classes: 1000 }, train: imagenet },
    data: `ImageNet: ${LATENTS}; 1,000 labels`,
  },
  'imagenet256-xl': {
    settings: { model: { ...extraLarge, classes: 1000 }, train: imagenet },
    data: 'as imagenet256',
  },
};

/** @throws ConfigError for a name that is none. */
export function recipe(name: string): Recipe {
  if (Object.hasOwn(RECIPES, name)) return RECIPES[name]!;
  throw new ConfigError(`there is no recipe '${name}'`, { hint: knownNames(name, Object.keys(RECIPES)) });
}
