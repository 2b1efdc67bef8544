// Sums over the tokens of each (sample, channel), as a modulation's gradients are: TEAM invocations of a workgroup share the tokens of
// one channel, neighbours in x take neighbouring channels.

override COLUMNS: u32 = 64;
override TEAM: u32 = 1;
/// Channels by fours: the width, and what else counts columns, is a multiple of four.
override VEC: u32 = 0;

//#if VEC == 1
alias Value = vec4f;
const EACH = 4u;
//#else
alias Value = f32;
const EACH = 1u;
//#endif

/// Two sums that are made together.
struct Sums { first: Value, second: Value }

//#if TEAM > 1
var<workgroup> parts: array<Sums, COLUMNS * TEAM>;
//#endif

/// The team's sums, its invocations' parts added in order. All of a workgroup call it; the result counts where y is 0.
fn team_total(part: Sums, local: vec3u) -> Sums {
//#if TEAM > 1
  parts[local.y * COLUMNS + local.x] = part;
  workgroupBarrier();
  var total = parts[local.x];
  for (var i = 1u; i < TEAM; i++) {
    total.first += parts[i * COLUMNS + local.x].first;
    total.second += parts[i * COLUMNS + local.x].second;
  }
  return total;
//#else
  return part;
//#endif
}
