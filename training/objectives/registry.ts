/** The objectives by name. */
import { consistency } from './consistency.ts';
import { consistencyDistillation } from './consistency-distillation.ts';
import type { ObjectiveName } from './facts.ts';
import { fm } from './fm.ts';
import { icfm } from './icfm.ts';
import { livereflow } from './livereflow.ts';
import { naive } from './naive.ts';
import type { Objective } from './objective.ts';
import { progressive } from './progressive.ts';
import { rfm } from './rfm.ts';
import { shortcut } from './shortcut.ts';
import { splitmeanflow } from './splitmeanflow.ts';

const ALL: Readonly<Record<ObjectiveName, Objective>> = {
  shortcut,
  naive,
  fm,
  icfm,
  rfm,
  progressive,
  consistency,
  'consistency-distillation': consistencyDistillation,
  livereflow,
  splitmeanflow,
};

/** The objective of that name. */
export const objectiveOf = (name: ObjectiveName): Objective => ALL[name];
