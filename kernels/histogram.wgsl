// Counts of values by bins that follow from their bits: sign, exponent and the first BITS digits behind it. All integers, so the order
// of the atomic additions does not matter.

override WG: u32 = 256;
override EACH: u32 = 64;   // elements of one invocation, WG apart
override BITS: u32 = 2;    // 2^BITS bins per power of two
override LOWEST: u32 = 103; // exponent (biased) of the smallest value that is not counted as zero
override HALF: u32 = 128;  // bins of either sign; the middle one is that of zero
override TERMS: u32 = 32;  // rows of counts that one invocation adds

struct Params {
  count: u32,  // values, or rows of counts
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

const BINS = 2u * HALF + 1u;

var<workgroup> bins: array<atomic<u32>, 2 * HALF + 1>;

fn bin_of(bits: u32) -> u32 {
  let size = bits & 0x7fffffffu;
  if (size < (LOWEST << 23u)) { return HALF; }
  // What is too large for the last bin, or no number, is counted there.
  let k = min((size >> (23u - BITS)) - (LOWEST << BITS), HALF - 1u);
  return select(HALF + 1u + k, HALF - 1u - k, (bits >> 31u) == 1u);
}

// One row of counts for each workgroup.
@compute @workgroup_size(WG)
fn count(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  for (var b = lid; b < BINS; b += WG) { atomicStore(&bins[b], 0u); }
  workgroupBarrier();
  let group = linear_id(wid, groups, 0u, 1u);
  let first = group * WG * EACH;
  let end = min(first + WG * EACH, params.count);
  for (var i = first + lid; i < end; i += WG) { atomicAdd(&bins[bin_of(words[i])], 1u); }
  workgroupBarrier();
  // A folded grid may have workgroups that are not needed.
  if (first >= params.count) { return; }
  for (var b = lid; b < BINS; b += WG) { counts[group * BINS + b] = atomicLoad(&bins[b]); }
}

// TERMS rows of counts become one; rows and results lie in the same order.
@compute @workgroup_size(WG)
fn merge(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let at = linear_id(wid, groups, lid, WG);
  let result = at / BINS;
  let first = result * TERMS;
  if (first >= params.count) { return; }
  var total = 0u;
  for (var row = first; row < min(first + TERMS, params.count); row++) { total += words[row * BINS + at % BINS]; }
  counts[at] = total;
}
