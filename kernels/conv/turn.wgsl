// The weights of the convolution that gives a convolution's input its gradient: taps turned by half a circle, channels in and out
// exchanged. Where the picture was enlarged (UP 1) each of its pixels was seen twice along each axis, so that neighbouring taps add up and
// there is one more:
//   t[ky, kx, n, c] = sum over i, j in 0..UP of w[side - 1 - (ky - i), side - 1 - (kx - j), c, n].

override WG: u32 = 64;
override UP: u32 = 0;

struct Params {
  side: u32,     // taps of w, across and down
  channels: u32, // of w: in
  columns: u32,  // of w: out
}
@group(1) @binding(0) var<uniform> params: Params;

@group(0) @binding(0) var<storage, read> w: array<f32>;            // [side, side, channels, columns]
@group(0) @binding(1) var<storage, read_write> turned: array<f32>; // [side + UP, side + UP, columns, channels]

@compute @workgroup_size(WG)
fn turn(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lid: u32) {
  let at = linear_id(wid, groups, lid, WG);
  let side = params.side + UP;
  let c = at % params.channels;
  let n = at / params.channels % params.columns;
  let tap = at / params.channels / params.columns;
  if (tap >= side * side) { return; }
  var sum = 0.0;
  for (var i = 0u; i <= UP; i++) {
    for (var j = 0u; j <= UP; j++) {
      // Taps before the first wrap around, to numbers that are no taps.
      let ky = tap / side - i;
      let kx = tap % side - j;
      if (ky < params.side && kx < params.side) {
        sum += w[(((params.side - 1u - ky) * params.side + params.side - 1u - kx) * params.channels + c) * params.columns + n];
      }
    }
  }
  turned[at] = sum;
}
