"""What PyTorch takes for the blocks and products that `odelt bench model` times, in float32, on an NVIDIA GPU: python3 bench/peers/pytorch.py

Blocks are DiT's (adaLN-Zero) with random weights; PyTorch picks its attention. TF32 is off, as odelt has nothing like it. Medians of five rounds.
"""

import time

import torch

torch.backends.cuda.matmul.allow_tf32 = False
DEVICE = "cuda"


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = torch.nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.norm2 = torch.nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.qkv = torch.nn.Linear(width, 3 * width)
        self.projection = torch.nn.Linear(width, width)
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(width, 4 * width), torch.nn.GELU(approximate="tanh"), torch.nn.Linear(4 * width, width)
        )
        self.modulation = torch.nn.Linear(width, 6 * width)

    def forward(self, x, conditioning):
        parts = self.modulation(torch.nn.functional.silu(conditioning))[:, None].chunk(6, -1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        batch, tokens, width = x.shape
        y = self.norm1(x) * (1 + scale1) + shift1
        q, k, v = self.qkv(y).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        x = x + gate1 * self.projection(y)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


def milliseconds(run, times=20):
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(times):
            run()
        torch.cuda.synchronize()
        rounds.append((time.perf_counter() - began) / times * 1e3)
    return sorted(rounds)[2]


def blocks(name, width, heads, tokens, batch):
    network = torch.nn.ModuleList([Block(width, heads) for _ in range(12)]).to(DEVICE)
    x = torch.randn(batch, tokens, width, device=DEVICE)
    conditioning = torch.randn(batch, width, device=DEVICE)

    def forward():
        y = x
        for block in network:
            y = block(y, conditioning)
        return y

    network.requires_grad_(False)
    with torch.no_grad():
        alone = milliseconds(forward)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            forward()
        replayed = milliseconds(graph.replay)
    network.requires_grad_(True)
    both = milliseconds(lambda: forward().square().mean().backward(), 5)
    print(f"| {name}, batch {batch} | {alone:.2f} | {replayed:.2f} | {both:.1f} |", flush=True)


def product(m, k, n):
    a, b = torch.randn(m, k, device=DEVICE), torch.randn(k, n, device=DEVICE)
    t = milliseconds(lambda: a @ b, 10)
    print(f"| {m} x {k} x {n} | {t * 1e3:.1f} | {2 * m * n * k / t / 1e9:.1f} |", flush=True)


print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}, float32\n")
print("| 12 blocks | forward, ms | as a CUDA graph, ms | forward and backward, ms |\n|---|--:|--:|--:|")
for batch in (1, 8):
    blocks("DiT-B/2", 768, 12, 256, batch)
for batch in (16, 128):
    blocks("width 128, 49 tokens", 128, 4, 49, batch)
print("\n| product | us | TFLOP/s |\n|---|--:|--:|")
for shape in ((256, 768, 768), (256, 768, 3072), (2048, 768, 768), (2048, 768, 3072), (2048, 3072, 768), (6272, 128, 512)):
    product(*shape)
