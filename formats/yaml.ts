/** YAML as plain data: maps, lists, text and numbers, with the line of each key. What could be a trap in it is refused. */
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument, stringify } from 'yaml';
import { ConfigError } from '../engine/errors.ts';

/** What a document says. */
export interface Yaml {
  readonly value: unknown;
  /** Line of each key, from 1, by its path: `train.lr`. */
  readonly lines: ReadonlyMap<string, number>;
}

/** Characters of the longest document: a configuration has a few thousand. */
const MOST = 1 << 16;

/**
 * Parses one document; `name` begins messages. No aliases, anchors or tags: none is needed, and a few lines of them can mean gigabytes.
 * @throws ConfigError with the line.
 */
export function parseYaml(text: string, name: string): Yaml {
  if (text.length > MOST) throw new ConfigError(`${name} has ${text.length} characters; at most ${MOST} are read`);
  const counter = new LineCounter();
  const lines = new Map<string, number>();
  const refuse = (at: number, problem: string): never => {
    throw new ConfigError(`${name} line ${counter.linePos(at).line}: ${problem}`);
  };
  const plain = (node: unknown, path: string): unknown => {
    if (node === null || node === undefined) return null;
    const at = (node as Node).range?.[0] ?? 0;
    if (isAlias(node)) return refuse(at, 'aliases (*) are not read');
    const { tag, anchor } = node as { tag?: string; anchor?: string };
    if (anchor !== undefined) return refuse(at, 'anchors (&) are not read');
    if (tag !== undefined) return refuse(at, `tags (${tag}) are not read`);
    if (isScalar(node)) return node.value;
    if (isSeq(node)) return node.items.map((item, i) => plain(item, `${path}[${i}]`));
    if (!isMap(node)) return refuse(at, 'is neither a map, a list nor a value');
    return Object.fromEntries(
      node.items.map(({ key, value }) => {
        const keyAt = (key as Node | null)?.range?.[0] ?? at;
        if (!isScalar(key) || typeof key.value !== 'string') return refuse(keyAt, 'a key must be text');
        const inside = path === '' ? key.value : `${path}.${key.value}`;
        lines.set(inside, counter.linePos(keyAt).line);
        return [key.value, plain(value, inside)];
      }),
    );
  };
  try {
    const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, stringKeys: false });
    const [problem] = [...document.errors, ...document.warnings];
    if (problem) return refuse(problem.pos[0], problem.message);
    return { value: plain(document.contents, ''), lines };
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new ConfigError(`${name} is nested too deeply`, { cause });
  }
}

/** Plain data as YAML that `parseYaml` reads back. */
export const yamlText = (value: unknown): string => stringify(value, { aliasDuplicateObjects: false });
