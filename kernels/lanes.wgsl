// How lanes of a subgroup hand round what each has loaded: `handed_j(x)` is the x of lane `giver(j, lane)`, which is each lane once for
// j = 0 to LANES - 1. With four lanes (SwiftShader) a broadcast takes 23 cycles and a swap in the quad one, so there every lane sees the
// others in an order of its own.

//#if LANES == 4
fn handed_0(x: vec4f) -> vec4f { return x; }
fn handed_1(x: vec4f) -> vec4f { return quadSwapX(x); }
fn handed_2(x: vec4f) -> vec4f { return quadSwapY(x); }
fn handed_3(x: vec4f) -> vec4f { return quadSwapDiagonal(x); }
fn giver(j: u32, lane: u32) -> u32 { return j ^ lane; }
//#else
//#unroll j LANES
fn handed_j(x: vec4f) -> vec4f { return subgroupBroadcast(x, j); }
//#end
fn giver(j: u32, lane: u32) -> u32 { return j; }
//#endif
