export default {
  base: './',
  // The worker's parts for training and checking are loaded when they are asked for.
  worker: { format: 'es' },
  // Made ahead, the package would be moved, and no longer find its worker beside it.
  optimizeDeps: { exclude: ['odelt'] },
  build: { target: 'es2022' },
};
