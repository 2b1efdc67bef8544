/** Encodes pictures as PNG, in browsers and Node alike: own chunks around fflate's zlib stream. */
import { zlibSync } from 'fflate';
import { UsageError } from '../engine/errors.ts';
import { concatenated } from '../formats/bytes.ts';
import { crc32 } from '../formats/crc32.ts';
import type { Picture } from './picture.ts';

/** Length, type, data, checksum of type and data. */
function chunk(type: string, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

/** Rows with a filter byte each: the one of none, left and up whose residuals are smallest, as the specification advises. */
function filterRows({ width, height, pixels }: Picture): Uint8Array {
  const row = width * 3;
  const out = new Uint8Array(height * (row + 1));
  const tried = new Uint8Array(row);
  for (let y = 0; y < height; y++) {
    let least = Number.POSITIVE_INFINITY;
    for (const filter of [0, 1, 2]) {
      let sum = 0;
      for (let x = 0; x < row; x++) {
        const at = y * row + x;
        const left = filter === 1 && x >= 3 ? pixels[at - 3]! : 0;
        const up = filter === 2 && y > 0 ? pixels[at - row]! : 0;
        const residual = (pixels[at]! - left - up) & 0xff;
        tried[x] = residual;
        sum += residual < 128 ? residual : 256 - residual;
      }
      if (sum < least) {
        least = sum;
        out[y * (row + 1)] = filter;
        out.set(tried, y * (row + 1) + 1);
      }
    }
  }
  return out;
}

/** The bytes of an 8-bit RGB PNG file. @throws UsageError for sides that are no sizes, or other pixels than 3 bytes each. */
export function encodePng(picture: Picture): Uint8Array {
  const { width, height, pixels } = picture ?? {};
  const isSide = (n: number) => Number.isInteger(n) && n >= 1 && n < 2 ** 31;
  if (!(isSide(width) && isSide(height) && pixels instanceof Uint8Array && pixels.length === 3 * width * height)) {
    const found = pixels instanceof Uint8Array ? `${pixels.length} bytes` : typeof pixels;
    throw new UsageError(`a picture of ${width} x ${height} with ${found} of pixels cannot be written`, {
      hint: 'width and height are whole numbers, pixels a Uint8Array of width * height * 3 bytes',
    });
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, picture.width);
  view.setUint32(4, picture.height);
  header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB, deflate, adaptive filters, not interlaced
  return concatenated([
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a),
    chunk('IHDR', header),
    chunk('IDAT', zlibSync(filterRows(picture), { level: 9 })),
    chunk('IEND', new Uint8Array(0)),
  ]);
}
