// Helpers shared by all kernels. Unused functions cost nothing: the compiler drops them.

/// Undoes the folding of a one-dimensional grid into two dimensions (engine/kernel.ts, workgroups()).
fn linear_id(group: vec3u, groups: vec3u, local: u32, size: u32) -> u32 {
  return (group.x + group.y * groups.x) * size + local;
}

fn sigmoid(x: f32) -> f32 {
  return 1.0 / (1.0 + exp(-x));
}

fn silu(x: f32) -> f32 {
  return x * sigmoid(x);
}

const GELU_A = 0.7978845608028654; // sqrt(2 / pi)
const GELU_B = 0.044715;

/// tanh that cannot overflow: some drivers compute it from exp(2x).
fn safe_tanh(x: f32) -> f32 {
  return tanh(clamp(x, -15.0, 15.0));
}

/// The tanh form of GELU (Hendrycks & Gimpel 2016).
fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + safe_tanh(GELU_A * (x + GELU_B * x * x * x)));
}
