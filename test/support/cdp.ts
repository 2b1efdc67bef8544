/** A page in headless Chromium that tests look at and press keys in, over the browser's own protocol on two pipes. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { browser } from './browser.ts';

export interface Page {
  goto(url: string): Promise<void>;
  /** The value, as JSON, of an expression or of the promise that it gives. */
  evaluate<T>(expression: string): Promise<T>;
  /** Waits until an expression is true; the page's text is told where it never is. */
  until(expression: string, seconds?: number): Promise<void>;
  press(key: string, shift?: boolean): Promise<void>;
  /** A command of the browser's protocol, about this page. */
  command<T>(method: string, params?: object): Promise<T>;
  /** As wide and as light or dark as this. */
  look(width: number, scheme: 'light' | 'dark'): Promise<void>;
  /** The whole page as a PNG. */
  screenshot(): Promise<Buffer>;
  /** Errors and violations of the content security policy that the page has told of. */
  readonly errors: readonly string[];
  close(): Promise<void>;
}

const KEYS: Readonly<Record<string, number>> = { Tab: 9, ArrowLeft: 37, ArrowRight: 39, Home: 36, End: 35, Enter: 13 };

/** Opens an empty page, with WebGPU on SwiftShader or without. `downloads`: a folder for what the page gives to keep. */
export async function openPage({
  webgpu = true,
  downloads,
}: {
  webgpu?: boolean;
  downloads?: string;
} = {}): Promise<Page> {
  const profile = await mkdtemp(join(tmpdir(), 'odelt-browser-'));
  const gpu = webgpu
    ? ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-gpu-sandbox']
    : ['--disable-gpu', '--disable-features=WebGPU', '--disable-blink-features=WebGPU'];
  const flags = ['--headless=new', '--no-sandbox', '--remote-debugging-pipe', '--hide-scrollbars'];
  const child = spawn(browser!, [...flags, ...gpu, `--user-data-dir=${profile}`, 'about:blank'], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
  });
  const [to, from] = [child.stdio[3] as Writable, child.stdio[4] as Readable];
  const waiting = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();
  const errors: string[] = [];
  let [ids, rest] = [0, ''];
  from.setEncoding('utf8').on('data', (text: string) => {
    const messages = (rest + text).split('\0');
    rest = messages.pop()!;
    for (const message of messages) {
      const { id, result, error, method, params } = JSON.parse(message);
      if (method === 'Runtime.exceptionThrown') errors.push(JSON.stringify(params.exceptionDetails));
      if (method === 'Log.entryAdded' && params.entry.level === 'error') errors.push(params.entry.text);
      if (error) waiting.get(id)?.reject(new Error(error.message));
      else waiting.get(id)?.resolve(result as never);
      waiting.delete(id);
    }
  });
  child.on('exit', (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`${browser} ended with ${code}`));
  });
  const ask = <T>(method: string, params: object = {}, sessionId?: string): Promise<T> =>
    new Promise((resolve, reject) => {
      waiting.set(++ids, { resolve, reject });
      to.write(`${JSON.stringify({ id: ids, method, params, sessionId })}\0`);
    });
  const { targetId } = await ask<{ targetId: string }>('Target.createTarget', { url: 'about:blank' });
  const { sessionId } = await ask<{ sessionId: string }>('Target.attachToTarget', { targetId, flatten: true });
  const of = <T>(method: string, params: object = {}) => ask<T>(method, params, sessionId);
  for (const domain of ['Page', 'Runtime', 'Log']) await of(`${domain}.enable`);
  if (downloads) await ask('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: downloads });

  const evaluate = async <T>(expression: string): Promise<T> => {
    const { result, exceptionDetails } = await of<{ result: { value: T }; exceptionDetails?: unknown }>(
      'Runtime.evaluate',
      { expression, awaitPromise: true, returnByValue: true },
    );
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  };
  return {
    errors,
    evaluate,
    command: of,
    async goto(url) {
      // A new document even where only the hash differs.
      await of('Page.navigate', { url: 'about:blank' });
      await of('Page.navigate', { url });
    },
    async until(expression, seconds = 60) {
      for (const end = Date.now() + 1000 * seconds; Date.now() < end; ) {
        if (await evaluate<boolean>(`Boolean(${expression})`).catch(() => false)) return;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      throw new Error(`never: ${expression}\n${errors.join('\n')}\n${await evaluate('document.body.innerText')}`);
    },
    async press(key, shift = false) {
      const code = { key, code: key, windowsVirtualKeyCode: KEYS[key], modifiers: shift ? 8 : 0 };
      const text = key === 'Enter' ? { text: '\r' } : {};
      await of('Input.dispatchKeyEvent', { type: text.text ? 'keyDown' : 'rawKeyDown', ...code, ...text });
      await of('Input.dispatchKeyEvent', { type: 'keyUp', ...code });
    },
    async look(width, scheme) {
      const mobile = width < 600;
      await of('Emulation.setDeviceMetricsOverride', { width, height: 900, deviceScaleFactor: 1, mobile });
      await of('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
    },
    async screenshot() {
      const { data } = await of<{ data: string }>('Page.captureScreenshot', { captureBeyondViewport: true });
      return Buffer.from(data, 'base64');
    },
    async close() {
      const gone = new Promise((done) => child.on('exit', done));
      if (child.exitCode === null && child.kill()) await gone;
      await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
    },
  };
}
