// Sums and copies of tensors, f32 or f16 (two to a word). Where one of them is f16, all are handled by pairs.

override WG: u32 = 64;
/// Values per invocation, WG apart: on CPU drivers starting a workgroup costs more than its work.
override EACH: u32 = 8;
override F16_A: u32 = 0;
override F16_B: u32 = 0;
override F16_OUT: u32 = 0;

// Sizes in Values; missing ones count as zero.
struct Params {
  size: u32,
  a_size: u32,
  b_size: u32,
}
@group(1) @binding(0) var<uniform> params: Params;

//#if F16_A == 1 || F16_B == 1 || F16_OUT == 1
alias Value = vec2f;
//#else
alias Value = f32;
//#endif
//#if F16_A == 1
alias StoredA = u32;
//#else
alias StoredA = Value;
//#endif
//#if F16_B == 1
alias StoredB = u32;
//#else
alias StoredB = Value;
//#endif
//#if F16_OUT == 1
alias StoredOut = u32;
//#else
alias StoredOut = Value;
//#endif

@group(0) @binding(0) var<storage, read> a: array<StoredA>;
@group(0) @binding(1) var<storage, read> b: array<StoredB>;
@group(0) @binding(2) var<storage, read_write> out: array<StoredOut>;

fn load_a(i: u32) -> Value {
//#if F16_A == 1
  return unpack2x16float(a[i]);
//#else
  return a[i];
//#endif
}

fn load_b(i: u32) -> Value {
//#if F16_B == 1
  return unpack2x16float(b[i]);
//#else
  return b[i];
//#endif
}

fn store(i: u32, value: Value) {
//#if F16_OUT == 1
  out[i] = pack2x16float(value);
//#else
  out[i] = value;
//#endif
}

// Sum of two tensors of which either may have fewer rows than the output.
@compute @workgroup_size(WG)
fn add(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var sum = Value();
    if (i < params.a_size) { sum = load_a(i); }
    if (i < params.b_size) { sum += load_b(i); }
    store(i, sum);
  }
}

// Copies, and fills the missing rows with zeros.
@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    var value = Value();
    if (i < params.a_size) { value = load_a(i); }
    store(i, value);
  }
}

// Adds b to every run of b_size values of a.
@compute @workgroup_size(WG)
fn add_each(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let start = linear_id(wid, groups, lid, WG * EACH);
  for (var i = start; i < min(start + WG * EACH, params.size); i += WG) {
    store(i, load_a(i) + load_b(i % params.b_size));
  }
}
