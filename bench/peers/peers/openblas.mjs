/** OpenBLAS on the CPU, by its C interface: the product that the processor behind a software driver is capable of. */
/** Where it may be; ODELT_OPENBLAS names another file. Debian: libopenblas0. */
const LIBRARIES = ['libopenblas.so.0', 'libopenblas.dylib', 'libopenblas.dll'];
const [ROW_MAJOR, AS_IS] = [101, 111];

export async function open() {
  const { default: koffi } = await import('koffi');
  const candidates = [process.env.ODELT_OPENBLAS, ...LIBRARIES].filter(Boolean);
  const refusals = [];
  let library;
  for (const name of candidates) {
    try {
      library ??= koffi.load(name);
    } catch (error) {
      refusals.push(`${name}: ${error.message}`);
    }
  }
  if (!library) return { cannot: `OpenBLAS is not installed: ${refusals.join('; ')}` };
  const sgemm = library.func(
    'void cblas_sgemm(int order, int transA, int transB, int m, int n, int k, float alpha, const float *a, int lda, ' +
      'const float *b, int ldb, float beta, _Out_ float *c, int ldc)',
  );
  const config = library.func('const char *openblas_get_config()');
  return {
    version: config(),
    adapter: { name: 'CPU', driver: '' },
    async prepare({ kind, size: { rows, inner, columns } }, { a, b }) {
      if (kind !== 'product') return undefined;
      const y = new Float32Array(rows * columns);
      return {
        run: () =>
          sgemm(ROW_MAJOR, AS_IS, AS_IS, rows, columns, inner, 1, a.data, inner, b.data, columns, 0, y, columns),
        done: async () => {},
        read: async () => ({ y }),
      };
    },
  };
}
