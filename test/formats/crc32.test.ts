/** CRC-32, against the check value of its catalogue and Node's own. */
import { crc32 as reference } from 'node:zlib';
import { expect, it } from 'vitest';
import { crc32 } from '../../formats/crc32.ts';

it("is Node's, for all lengths and places in memory, whole and in two parts", () => {
  expect(crc32(new TextEncoder().encode('123456789'))).toBe(0xcbf43926);
  const bytes = Uint8Array.from({ length: 64 }, (_, i) => (i * i * 37 + i * 91 + 200) % 256);
  for (let begin = 0; begin < 5; begin++) {
    for (let end = begin; end <= bytes.length; end++) {
      const part = bytes.subarray(begin, end);
      expect(crc32(part)).toBe(reference(part));
      const cut = (end - begin) >> 1;
      expect(crc32(part.subarray(cut), crc32(part.subarray(0, cut)))).toBe(reference(part));
    }
  }
});
