/**
 * Pictures per second that training can read from each kind of data set, beside the same pictures in memory: makes the sets in a temporary
 * folder, reads batches in the order of training, and prints a table. Needs `npm run build`.
 *   node scripts/data-speed.mjs [SECONDS]      of each measurement; default 2
 */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import sharp from 'sharp';
import { openTrainingData, readBatches } from '../dist/node.js';

const seconds = Number(process.argv[2] ?? 2);
const scratch = mkdtempSync(join(tmpdir(), 'odelt-data-speed-'));

/** Smooth pictures with some noise, so that files are about as long as those of photographs: JPEG, quality 90. */
async function pictures(count, side) {
  const small = (i) => createHash('sha512').update(`${i}`).digest().subarray(0, 48);
  return Promise.all(
    Array.from({ length: count }, (_, i) =>
      sharp(small(i), { raw: { width: 4, height: 4, channels: 3 } })
        .resize(side, side, { kernel: 'cubic' })
        .composite([
          {
            input: {
              create: {
                width: side,
                height: side,
                channels: 3,
                background: '#000',
                noise: { type: 'gaussian', mean: 128, sigma: 20 },
              },
            },
            blend: 'overlay',
          },
        ])
        .jpeg({ quality: 90 })
        .toBuffer(),
    ),
  );
}

function tarEntry(name, content) {
  const block = Buffer.alloc(512);
  block.write(name);
  block.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
  block.write('        0ustar\x0000', 148);
  block.write('ustar\x0000', 257);
  block.write('        ', 148);
  block.write('0', 156);
  block.write(
    `${block
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\0 `,
    148,
  );
  return Buffer.concat([block, content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

async function makeSets(count, side) {
  const all = await pictures(count, side);
  const at = (kind) => join(scratch, `${kind}-${side}`);
  for (const kind of ['folder', 'tar', 'parquet']) mkdirSync(at(kind));
  mkdirSync(join(at('folder'), 'one'));
  for (const [i, bytes] of all.entries()) writeFileSync(join(at('folder'), 'one', `${i}.jpg`), bytes);
  const part = Math.ceil(count / 4);
  for (let k = 0; k < 4; k++) {
    const own = all.slice(k * part, (k + 1) * part);
    const entries = own.map((bytes, i) => tarEntry(`${k}-${i}.jpg`, bytes));
    writeFileSync(join(at('tar'), `${k}.tar`), Buffer.concat([...entries, Buffer.alloc(1024)]));
    const columnData = [{ name: 'image', data: own.map((bytes) => Uint8Array.from(bytes)), type: 'BYTE_ARRAY' }];
    const file = parquetWriteBuffer({ columnData, rowGroupSize: 100, codec: 'UNCOMPRESSED' });
    writeFileSync(join(at('parquet'), `${k}.parquet`), new Uint8Array(file));
  }
  const bytes = all.reduce((sum, each) => sum + each.length, 0) / count;
  return { at, bytes };
}

async function rate(data, side) {
  const batch = 32;
  const reader = readBatches(data, { seed: 1, flip: true, maxAhead: 64 * side * side * 3 });
  const [images, labels] = [new Float32Array(batch * side * side * 3), new Uint32Array(batch)];
  await reader.next(images, labels); // threads and files are open from here on
  const started = performance.now();
  let read = 0;
  for (; performance.now() - started < 1000 * seconds; read += batch) await reader.next(images, labels);
  const result = (read / (performance.now() - started)) * 1000;
  await reader.close();
  return result;
}

try {
  for (const [side, count] of [
    [32, 4000],
    [256, 400],
  ]) {
    const { at, bytes } = await makeSets(count, side);
    console.log(`${count} pictures of ${side} x ${side}, JPEG of ${Math.round(bytes)} bytes:`);
    const started = performance.now();
    const memory = await openTrainingData(at('tar'), { size: side, channels: 3 });
    console.log(
      `  decoded into memory   ${Math.round((count / (performance.now() - started)) * 1000)} pictures/s, once`,
    );
    console.log(`  memory   ${Math.round(await rate(memory, side))} pictures/s`);
    for (const kind of ['folder', 'tar', 'parquet']) {
      const data = await openTrainingData(at(kind), { size: side, channels: 3, maxBytes: 1 });
      console.log(`  ${kind.padEnd(8)} ${Math.round(await rate(data, side))} pictures/s`);
    }
  }
} finally {
  rmSync(scratch, { recursive: true });
}
