// Where a mirrored tensor's element i of four numbers is (engine/mirrors.ts).

fn texel_of(i: u32) -> vec2u {
  return vec2u(i % 1024u, i / 1024u);
}
