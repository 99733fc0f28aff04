"""Peak rates of GPUs, with which the model FLOP utilisation of a training step is computed.

Dense operations per second, 10¹²: fp32 without tensor cores, TF32, and bfloat16 with fp32 accumulation. Sources:
NVIDIA's data sheets of the H100, H200, A100, L4 and T4, and the white papers of the GA102 (RTX 3090) and AD102
(RTX 4090). Where a data sheet gives rates with sparsity, the dense ones are half of them. Boards of other names have
other clocks.
"""

import torch

H100_SXM = {"fp32": 67.0, "tf32": 494.5, "bf16": 989.5}
H100_NVL = {"fp32": 60.0, "tf32": 417.5, "bf16": 835.5}
A100 = {"fp32": 19.5, "tf32": 156.0, "bf16": 312.0}
TERAFLOPS: dict[str, dict[str, float]] = {
    "NVIDIA H100 80GB HBM3": H100_SXM,
    "NVIDIA H100 PCIe": {"fp32": 51.0, "tf32": 378.0, "bf16": 756.5},
    "NVIDIA H100 NVL": H100_NVL,
    "NVIDIA H200": H100_SXM,
    "NVIDIA H200 NVL": H100_NVL,
    **dict.fromkeys(
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), A100
    ),
    "NVIDIA L4": {"fp32": 30.3, "tf32": 60.0, "bf16": 121.0},
    "Tesla T4": {"fp32": 8.1},
    "NVIDIA GeForce RTX 3090": {"fp32": 35.6, "tf32": 35.6, "bf16": 71.0},
    "NVIDIA GeForce RTX 4090": {"fp32": 82.6, "tf32": 82.6, "bf16": 165.2},
}
"""By the name that PyTorch gives a board, and by precision."""


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Floating-point operations per second that a GPU reaches at most; None where it is not known, and on a CPU."""
    if device.type != "cuda":
        return None
    teraflops = TERAFLOPS.get(torch.cuda.get_device_name(device), {}).get(precision)
    return None if teraflops is None else teraflops * 1e12


def utilisation(macs: int, examples: int, seconds: float, peak: float) -> float:
    """Model FLOP utilisation of a training step (Chowdhery et al. 2022, arXiv 2204.02311, appendix B): the products of
    the forward pass and twice as many for gradients, per second, divided by the peak rate.

    macs: multiply-accumulates of a forward pass for one example; two operations each.
    """
    return 3 * 2 * macs * examples / seconds / peak
