/**
 * Faces by number, without limit: drawn by DiceBear's Pixel Art (designs CC0 1.0) from a seed, ten classes of hair and what is worn.
 * A set of colour pictures that anybody can make again, whose test part is other seeds of the same drawing.
 */
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
import { ConfigError } from '../../engine/errors.ts';
import { loadSharp } from './sharp.ts';

/** Side of a picture where nobody says. The drawing has half of it, each of its points being four pixels. */
export const FACE_SIDE = 32;
const DRAWN_SIDE = 16;

const HAIR = ['short hair', 'long hair'] as const;
const WORN = [[], ['glasses'], ['hat'], ['glasses', 'hat'], ['beard']] as const;

/** Names of the classes: a face of class c has what its name says, and nothing else of that kind. */
export const FACE_CLASSES: readonly string[] = WORN.flatMap((worn) => HAIR.map((hair) => [hair, ...worn].join(', ')));

const BACKGROUNDS = ['b6e3f4', 'c0aede', 'd1d4f9', 'ffd5dc', 'ffdfbf'];

type PixelArtOptions = Parameters<typeof createAvatar<pixelArt.Options>>[1];

/** All styles of hair that the drawing knows, of one length. */
function styles(length: 'short' | 'long'): string[] {
  const { enum: all } = (pixelArt.schema.properties!.hair as { items: { enum: string[] } }).items;
  return all.filter((style) => style.startsWith(length));
}

/** Class of face `i` of a part: in turn, so that every part has as many of each. */
export const faceClass = (i: number): number => i % FACE_CLASSES.length;

/** The drawing of face `i` of a part ('train', 'test' or any other name), as SVG. */
function drawFace(part: string, i: number): string {
  const name = FACE_CLASSES[faceClass(i)]!;
  const chance = (what: string) => (name.includes(what) ? 100 : 0);
  const options = {
    seed: `${part}-${i}`,
    size: DRAWN_SIDE,
    backgroundColor: BACKGROUNDS,
    hair: styles(name.startsWith('short') ? 'short' : 'long'),
    ...{ glassesProbability: chance('glasses'), hatProbability: chance('hat'), beardProbability: chance('beard') },
  };
  return createAvatar(pixelArt, options as PixelArtOptions).toString();
}

/** @throws ConfigError for a side of which the drawing's points would not be whole squares */
export function checkFaceSide(side: number): void {
  if (Number.isInteger(side) && side >= DRAWN_SIDE && side <= 1024 && side % DRAWN_SIDE === 0) return;
  throw new ConfigError(`faces of side ${side}: the drawing has ${DRAWN_SIDE} x ${DRAWN_SIDE} points`, {
    hint: `give a multiple of ${DRAWN_SIDE} from ${DRAWN_SIDE} to 1024`,
  });
}

/** Makes pictures [side, side, 3] of faces as bytes. @throws ConfigError for a side that is none; UnsupportedError without sharp. */
export async function facePainter(
  side = FACE_SIDE,
): Promise<(part: string, i: number) => Promise<Uint8Array<ArrayBuffer>>> {
  checkFaceSide(side);
  const sharp = await loadSharp();
  const point = side / DRAWN_SIDE;
  return async (part, i) => {
    const drawn = await sharp(Buffer.from(drawFace(part, i)))
      .removeAlpha()
      .raw()
      .toBuffer();
    const pixels = new Uint8Array(side * side * 3);
    for (let p = 0; p < side * side; p++) {
      const [y, x] = [Math.floor(Math.floor(p / side) / point), Math.floor((p % side) / point)];
      const from = (y * DRAWN_SIDE + x) * 3;
      pixels.set(drawn.subarray(from, from + 3), p * 3);
    }
    return pixels;
  };
}
