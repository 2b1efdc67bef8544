/** Pictures made into data sets: which files are of which class, and what is told of those that are none. The browser's test decodes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ConfigError, DataError, InterruptedError, UnsupportedError } from '../../engine/errors.ts';
import { type DroppedEntry, droppedFiles } from '../../web/files.ts';
import { datasetOfFiles, datasetOfPictures } from '../../web/pictures.ts';

/** An encoded picture is one digit, its grey value. */
const picture = (value: number) => new Blob([String(value)]);
const at = (path: string, value: number | string = 0) => ({ file: new Blob([String(value)]), path });

/** As a browser draws them: every pixel as the picture's one. */
function fakeCanvas() {
  vi.stubGlobal('createImageBitmap', async (blob: Blob) => {
    const value = Number(await blob.text());
    if (Number.isNaN(value)) throw new DOMException('The source image could not be decoded.', 'InvalidStateError');
    return { width: 6, height: 4, value, close: () => {} };
  });
  vi.stubGlobal(
    'OffscreenCanvas',
    class {
      value = 0;
      readonly width: number;
      readonly height: number;
      constructor(width: number, height: number) {
        this.width = width;
        this.height = height;
      }
      getContext() {
        return this;
      }
      fillRect() {
        this.value = 255;
      }
      drawImage(bitmap: { value: number }, ...[x, y, width, height]: number[]) {
        expect([x, y, width, height]).toEqual([1, 0, 4, 4]);
        this.value = bitmap.value;
      }
      getImageData() {
        const { value } = this;
        return { data: Uint8ClampedArray.from({ length: this.width * this.height * 4 }, (_, i) => value + (i % 4)) };
      }
    },
  );
}

describe('files', () => {
  beforeEach(() => {
    fakeCanvas();
    return () => vi.unstubAllGlobals();
  });

  it('of one folder are classes by its sub-folders, in the order of their names', async () => {
    const data = await datasetOfFiles(
      [
        at('/clothes/shirt/b.png', 4),
        at('clothes/shirt/a.png', 3),
        at('clothes/bag+/z.png', 2),
        at('clothes/bag/z.png', 1),
        at('clothes/cover.png', 9),
        at('clothes/.thumbnails/a.png', 9),
        at('clothes/bag/.DS_Store', 9),
        at('clothes/bag/old/a.png', 9),
        at('clothes/bag/readme.txt', 'text'),
      ],
      { size: 2, channels: 1 },
    );
    expect(data).toMatchObject({ name: 'clothes', count: 4, classNames: ['bag', 'bag+', 'shirt'], channels: 1 });
    expect([0, 1, 2, 3].map((i) => [data.label(i), data.image(i)[0]])).toEqual([
      [0, 2],
      [1, 3],
      [2, 4],
      [2, 5],
    ]);
    expect(data.skipped).toEqual([
      { file: 'clothes/bag/old/a.png', reason: "lies deeper than its class's folder" },
      { file: 'clothes/bag/readme.txt', reason: 'The source image could not be decoded.' },
    ]);
  });

  it('of several folders are classes by those, and colours by default', async () => {
    const files = [at('shirt/a.png', 3), at('bag/b.png', 1)];
    const data = await datasetOfFiles(files, { size: 1, name: 'mine' });
    expect(data).toMatchObject({ name: 'mine', classNames: ['bag', 'shirt'], channels: 3 });
    expect([...data.image(0)]).toEqual([1, 2, 3]);
  });

  it('with a name say where they lie by themselves', async () => {
    const file = new File(['7'], 'a/b/c.png');
    expect((await datasetOfFiles([file, file], { size: 1, channels: 1 })).classNames).toEqual(['b']);
  });

  it.each([
    [[at('a.png', 1)], 'no file lies in a folder of its class'],
    [[], 'no file lies in a folder of its class'],
    [
      [at('x/a/1.png', 'no')],
      'x: none of 1 files is a readable picture (x/a/1.png: The source image could not be decoded.)',
    ],
  ])('%j are refused', async (files, message) => {
    const error = await datasetOfFiles(files).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(DataError);
    expect((error as Error).message).toBe(message);
  });

  it('are read until the signal, and told of', async () => {
    const controller = new AbortController();
    const told: unknown[] = [];
    const onProgress = (progress: unknown) => {
      told.push(progress);
      controller.abort();
    };
    const read = datasetOfFiles([at('a/1', 1), at('a/2', 2)], { onProgress, signal: controller.signal });
    await expect(read).rejects.toThrow(InterruptedError);
    expect(told).toEqual([{ done: 1, total: 2 }]);
  });
});

describe('pictures', () => {
  it('have labels and as many classes as these name', async () => {
    fakeCanvas();
    const data = await datasetOfPictures([{ picture: picture(5), label: 3 }], { size: 1, channels: 1 });
    expect([data.classes, data.label(0), data.name, data.classNames]).toEqual([4, 3, 'pictures', undefined]);
    const bad = datasetOfPictures([
      { picture: picture(5), label: 0 },
      { picture: new Blob(['x']), label: 0 },
    ]);
    await expect(bad).rejects.toThrow(new DataError('picture 1 cannot be decoded'));
    vi.unstubAllGlobals();
  });

  it.each([
    [[{ picture: picture(1), label: -1 }], {}, 'picture 0 has label -1; labels are integers from 0 to 65535'],
    [[{ picture: picture(1), label: 0.5 }], {}, 'picture 0 has label 0.5; labels are integers from 0 to 65535'],
    [[{ picture: picture(1), label: 0 }], { size: 0 }, 'picture size must be an integer from 1 to 4096, not 0'],
    [[{ picture: picture(1), label: 0 }], { channels: 2 as never }, 'pictures have 1 or 3 channels, not 2'],
  ])('%j with %o are refused', async (pictures, options, message) => {
    await expect(datasetOfPictures(pictures, options)).rejects.toThrow(new ConfigError(message));
  });

  it('need a browser', async () => {
    await expect(datasetOfPictures([])).rejects.toThrow(new DataError('pictures: there are no pictures'));
    const error = await datasetOfPictures([{ picture: picture(1), label: 0 }]).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(UnsupportedError);
    expect((error as UnsupportedError).hint).toMatch(/openTrainingData/);
  });
});

describe('what was dropped', () => {
  const file = (path: string): DroppedEntry => ({
    ...{ isFile: true, isDirectory: false, fullPath: path },
    file: (found) => found(new File([path], path.split('/').at(-1)!)),
  });
  /** A folder that gives its entries one at a time. */
  const folder = (path: string, entries: DroppedEntry[]): DroppedEntry => ({
    ...{ isFile: false, isDirectory: true, fullPath: path },
    createReader() {
      const left = [...entries];
      return { readEntries: (found) => found(left.splice(0, 1)) };
    },
  });
  const item = (entry: DroppedEntry | null, alone: File | null = null) => ({
    ...{ kind: 'file', webkitGetAsEntry: () => entry, getAsFile: () => alone },
  });

  it('is every file of every folder, with its place', async () => {
    const entry = folder('/set', [folder('/set/a', [file('/set/a/1.png'), file('/set/a/2.png')]), file('/set/notes')]);
    const text = { kind: 'string', getAsFile: () => null };
    const found = await droppedFiles({ items: [text, item(entry), item(null, new File([], 'b/3.png'))] });
    expect(found.map(({ path }) => path)).toEqual(['/set/a/1.png', '/set/a/2.png', '/set/notes', 'b/3.png']);
    expect(await found[1]!.file.text()).toBe('/set/a/2.png');
  });

  it('fails where a folder cannot be read', async () => {
    const entry = {
      ...folder('/set', []),
      createReader: () => ({ readEntries: (_: unknown, failed: (e: unknown) => void) => failed(new Error('gone')) }),
    };
    await expect(droppedFiles({ items: [item(entry)] })).rejects.toThrow('gone');
  });
});
