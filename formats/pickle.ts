/**
 * Python's pickles (protocols 2 to 5), read without running anything: what a pickle would have Python call is noted by name with
 * its arguments, and a name that is not on the caller's list ends the reading. Long byte strings stay in the file.
 */
import { CheckpointError } from '../engine/errors.ts';
import type { ByteSource } from './byte-source.ts';

/** A byte string: its place in the file. */
export interface PickleBytes {
  readonly kind: 'bytes';
  readonly begin: number;
  readonly end: number;
}

/** A class or function by its name, such as numpy.dtype. It is a word here, no more. */
export interface PickleName {
  readonly kind: 'name';
  readonly name: string;
}

/** What Python would make by calling `name` with `args`, then fill with `state` and `items`. */
export interface PickleCall {
  readonly kind: 'call';
  readonly name: string;
  readonly args: readonly PickleValue[];
  state: PickleValue | undefined;
  /** Entries that were set in it afterwards, where it is a dictionary. */
  readonly items: Map<PickleKey, PickleValue>;
}

/** Something that is kept beside the pickle; what it says of it is for the caller to read. */
export interface PickleElsewhere {
  readonly kind: 'elsewhere';
  readonly id: PickleValue;
}

export type PickleKey = string | number | bigint | boolean | null;

/** A value of a pickle. Lists, tuples and sets are arrays, dictionaries are maps. Values may be shared, and may hold themselves. */
export type PickleValue =
  | PickleKey
  | PickleValue[]
  | Map<PickleKey, PickleValue>
  | PickleBytes
  | PickleName
  | PickleCall
  | PickleElsewhere;

/** How a pickle is read. */
export interface PickleOptions {
  /** Classes and functions that it may name, as module.name. */
  readonly names: ReadonlySet<string>;
  /** True where it may refer to things beside it, as PyTorch's do to their tensors. */
  readonly elsewhere?: boolean;
  /** The file's name for messages. */
  readonly file?: string;
}

/** Most operations of a pickle. Each may make an object, so this bounds memory; a checkpoint of 2,000 tensors has some 100,000. */
const MOST_OPERATIONS = 2 ** 21;
/** Most bytes of a text. Names are short, but protocol 2 writes byte strings as texts. */
const MOST_TEXT = 2 ** 28;
/** Longest line of a name that is given as text. */
const MOST_LINE = 4096;
/** Most bytes of a whole number: what is longer takes a time that grows with its square. */
const MOST_INTEGER = 255;
const CHUNK = 2 ** 18;

const MARK = Symbol('mark');
type Slot = PickleValue | typeof MARK;

const HINT = 'nothing of it was run; give a checkpoint as the reference, NumPy, JAX or PyTorch write it';

/** Bytes in order, of which only a window is in memory. */
class Input {
  readonly #source: ByteSource;
  readonly #fail: (problem: string) => never;
  #window = new Uint8Array(0);
  #begin = 0;
  #at = 0;
  constructor(source: ByteSource, fail: (problem: string) => never) {
    this.#source = source;
    this.#fail = fail;
  }
  get offset(): number {
    return this.#begin + this.#at;
  }
  get left(): number {
    return this.#source.size - this.offset;
  }
  /** The next bytes; `fail` where the file ends before. */
  async take(count: number): Promise<Uint8Array> {
    this.#check(count);
    if (this.#window.length - this.#at < count) {
      const begin = this.offset;
      const window = await this.#source.read(begin, Math.min(this.#source.size, begin + Math.max(count, CHUNK)));
      this.#window = window as Uint8Array<ArrayBuffer>;
      this.#begin = begin;
      this.#at = 0;
    }
    this.#at += count;
    return this.#window.subarray(this.#at - count, this.#at);
  }
  /** The place of the next bytes, which are not read. */
  skip(count: number): PickleBytes {
    this.#check(count);
    const begin = this.offset;
    this.#at += count;
    if (this.#at > this.#window.length) {
      this.#window = new Uint8Array(0);
      this.#begin = begin + count;
      this.#at = 0;
    }
    return { kind: 'bytes', begin, end: begin + count };
  }
  /** A whole number of 1, 2, 4 or 8 bytes, unsigned. */
  async count(bytes: number): Promise<number> {
    const view = viewOf(await this.take(bytes));
    if (bytes === 1) return view.getUint8(0);
    if (bytes === 2) return view.getUint16(0, true);
    if (bytes === 4) return view.getUint32(0, true);
    return Number(view.getBigUint64(0, true));
  }
  /** Text up to the next line feed. */
  async line(): Promise<string> {
    const line: number[] = [];
    for (;;) {
      const byte = (await this.take(1))[0]!;
      if (byte === 10) return String.fromCharCode(...line);
      if (line.push(byte) > MOST_LINE) this.#fail(`holds a name of more than ${MOST_LINE} characters`);
    }
  }
  #check(count: number): void {
    if (count > this.left) this.#fail(`wants ${count} bytes where ${this.left} are left: it is truncated or damaged`);
  }
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** A whole number in two's complement, the lowest byte first. */
function integerOf(bytes: Uint8Array): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  if ((bytes.at(-1) ?? 0) >= 128) value -= 1n << BigInt(8 * bytes.length);
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

const isKey = (value: PickleValue): value is PickleKey => value === null || typeof value !== 'object';

/**
 * Reads one pickle from the beginning of `source`. Takes memory for its structure, never for its byte strings, and time in
 * proportion to its size.
 * @throws CheckpointError for a name that is not on the list, for what is damaged, truncated or of another protocol, and for
 * more than two million operations.
 */
export async function readPickle(source: ByteSource, options: PickleOptions): Promise<PickleValue> {
  const { names, elsewhere = false, file = 'pickle' } = options;
  const fail = (problem: string): never => {
    throw new CheckpointError(`${file}: the pickle ${problem} (at byte ${input.offset})`, { hint: HINT });
  };
  const input = new Input(source, fail);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const stack: Slot[] = [];
  /** Places of the marks in the stack: found without a search. */
  const marks: number[] = [];
  const memo = new Map<number, PickleValue>();

  const push = (value: PickleValue) => void stack.push(value);
  const pop = (): PickleValue => {
    const value = stack.pop();
    return value === undefined || value === MARK ? fail('takes a value where there is none') : value;
  };
  const top = (): PickleValue => {
    const value = stack.at(-1);
    return value === undefined || value === MARK ? fail('takes a value where there is none') : value;
  };
  const popToMark = (): PickleValue[] => {
    const mark = marks.pop() ?? fail('has no beginning for a group of values');
    const values = stack.splice(mark + 1) as PickleValue[];
    // Values below a mark may have been taken away.
    return stack.pop() === MARK ? values : fail('has no beginning for a group of values');
  };
  const text = async (length: number, latin = false): Promise<string> => {
    if (length > MOST_TEXT) fail(`holds a text of ${length} bytes; ${MOST_TEXT} are the most`);
    const bytes = await input.take(length);
    if (latin) return new TextDecoder('latin1').decode(bytes);
    try {
      return decoder.decode(bytes);
    } catch {
      return fail('holds a text that is no UTF-8');
    }
  };
  const integer = async (length: number): Promise<number | bigint> => {
    if (length > MOST_INTEGER) fail(`holds a whole number of ${length} bytes; ${MOST_INTEGER} are the most`);
    return integerOf(await input.take(length));
  };
  const named = (module: PickleValue, name: PickleValue): PickleName => {
    if (typeof module !== 'string' || typeof name !== 'string') return fail('names something by what is no text');
    const full = `${module}.${name}`;
    if (!names.has(full)) fail(`names ${full.slice(0, 200)}, which is no part of a checkpoint's weights`);
    return { kind: 'name', name: full };
  };
  const called = (what: PickleValue, args: PickleValue): PickleCall => {
    if (isKey(what) || !('kind' in what) || what.kind !== 'name') return fail('calls what is no name');
    if (!Array.isArray(args)) return fail(`calls ${what.name} with what is no list of arguments`);
    return { kind: 'call', name: what.name, args, state: undefined, items: new Map() };
  };
  const append = (list: PickleValue, values: readonly PickleValue[]) => {
    if (!Array.isArray(list)) return fail('adds values to what is no list');
    for (const value of values) list.push(value);
  };
  const setItems = (dict: PickleValue, entries: readonly PickleValue[]) => {
    const items =
      dict instanceof Map ? dict : !isKey(dict) && 'kind' in dict && dict.kind === 'call' ? dict.items : null;
    if (items === null) return fail('sets entries of what is no dictionary');
    if (entries.length % 2 !== 0) fail('holds a key without a value');
    for (let i = 0; i < entries.length; i += 2) {
      const key = entries[i]!;
      if (isKey(key)) items.set(key, entries[i + 1]!);
      else fail('holds a key that is neither text nor number');
    }
  };
  const recalled = (index: number): PickleValue => {
    const value = memo.get(index);
    return value === undefined ? fail(`refers to value ${index}, which it has not kept`) : value;
  };
  const last = (count: number): PickleValue[] => {
    const values = Array.from({ length: count }, pop);
    return values.reverse();
  };
  /** State of what was made: what a list or dictionary would keep as attributes does not matter. */
  const build = (object: PickleValue, state: PickleValue) => {
    if (isKey(object)) return fail('gives a state to what has none');
    if (!('kind' in object)) return;
    if (object.kind !== 'call') return fail('gives a state to what has none');
    object.state = state;
  };

  const [proto, version] = source.size < 2 ? [0, 0] : await input.take(2);
  if (proto !== 0x80 || version! < 2 || version! > 5) fail('is none of protocol 2 to 5');
  for (let done = 0; ; done++) {
    if (done === MOST_OPERATIONS) fail(`has more than ${MOST_OPERATIONS} operations`);
    const op = (await input.take(1))[0]!;
    switch (op) {
      case 0x2e: {
        const result = pop(); // STOP
        return stack.length === 0 ? result : fail(`ends with ${stack.length} values left over`);
      }
      case 0x95: // FRAME
        if ((await input.count(8)) > input.left)
          fail('announces more bytes than there are: it is truncated or damaged');
        break;
      case 0x28: // MARK
        marks.push(stack.length);
        stack.push(MARK);
        break;
      case 0x30: // POP
        if (stack.at(-1) === MARK) popToMark();
        else pop();
        break;
      case 0x31: // POP_MARK
        popToMark();
        break;
      case 0x32: // DUP
        push(top());
        break;
      case 0x4e: // NONE
        push(null);
        break;
      case 0x88: // NEWTRUE
      case 0x89: // NEWFALSE
        push(op === 0x88);
        break;
      case 0x4a: // BININT
        push(viewOf(await input.take(4)).getInt32(0, true));
        break;
      case 0x4b: // BININT1
        push(await input.count(1));
        break;
      case 0x4d: // BININT2
        push(await input.count(2));
        break;
      case 0x8a: // LONG1
        push(await integer(await input.count(1)));
        break;
      case 0x8b: // LONG4
        push(await integer(await input.count(4)));
        break;
      case 0x47: // BINFLOAT
        push(viewOf(await input.take(8)).getFloat64(0));
        break;
      case 0x8c: // SHORT_BINUNICODE
        push(await text(await input.count(1)));
        break;
      case 0x58: // BINUNICODE
        push(await text(await input.count(4)));
        break;
      case 0x8d: // BINUNICODE8
        push(await text(await input.count(8)));
        break;
      case 0x55: // SHORT_BINSTRING, of Python 2
        push(await text(await input.count(1), true));
        break;
      case 0x54: // BINSTRING, of Python 2
        push(await text(await input.count(4), true));
        break;
      case 0x43: // SHORT_BINBYTES
        push(input.skip(await input.count(1)));
        break;
      case 0x42: // BINBYTES
        push(input.skip(await input.count(4)));
        break;
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        push(input.skip(await input.count(8)));
        break;
      case 0x5d: // EMPTY_LIST
      case 0x29: // EMPTY_TUPLE
      case 0x8f: // EMPTY_SET
        push([]);
        break;
      case 0x7d: // EMPTY_DICT
        push(new Map());
        break;
      case 0x6c: // LIST
      case 0x74: // TUPLE
      case 0x91: // FROZENSET
        push(popToMark());
        break;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        push(last(op - 0x84));
        break;
      case 0x61: {
        const value = pop(); // APPEND
        append(top(), [value]);
        break;
      }
      case 0x65: // APPENDS
      case 0x90: {
        const values = popToMark(); // ADDITEMS
        append(top(), values);
        break;
      }
      case 0x64: {
        const values = popToMark(); // DICT
        push(new Map());
        setItems(top(), values);
        break;
      }
      case 0x73: {
        const entry = last(2); // SETITEM
        setItems(top(), entry);
        break;
      }
      case 0x75: {
        const entries = popToMark(); // SETITEMS
        setItems(top(), entries);
        break;
      }
      case 0x71: // BINPUT
        memo.set(await input.count(1), top());
        break;
      case 0x72: // LONG_BINPUT
        memo.set(await input.count(4), top());
        break;
      case 0x94: // MEMOIZE
        memo.set(memo.size, top());
        break;
      case 0x68: // BINGET
        push(recalled(await input.count(1)));
        break;
      case 0x6a: // LONG_BINGET
        push(recalled(await input.count(4)));
        break;
      case 0x63: // GLOBAL
        push(named(await input.line(), await input.line()));
        break;
      case 0x93: {
        const [module, name] = last(2); // STACK_GLOBAL
        push(named(module!, name!));
        break;
      }
      case 0x52: // REDUCE
      case 0x81: {
        const [what, args] = last(2); // NEWOBJ
        push(called(what!, args!));
        break;
      }
      case 0x92: {
        const [what, args] = last(3); // NEWOBJ_EX: arguments by name are left out
        push(called(what!, args!));
        break;
      }
      case 0x62: {
        const state = pop(); // BUILD
        build(top(), state);
        break;
      }
      case 0x51: // BINPERSID
        if (!elsewhere) fail('refers to something that is kept elsewhere');
        push({ kind: 'elsewhere', id: pop() });
        break;
      case 0x97: // NEXT_BUFFER
      case 0x98: // READONLY_BUFFER
        fail('keeps its arrays elsewhere (out-of-band buffers)');
        break;
      default:
        fail(`holds the operation 0x${op.toString(16).padStart(2, '0')}, which no checkpoint needs`);
    }
  }
}
