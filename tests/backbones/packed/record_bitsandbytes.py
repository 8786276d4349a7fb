"""Write bitsandbytes.safetensors: small weights as bitsandbytes packs them, and what it unpacks them to.

Run once, on the CPU, with bitsandbytes 0.50.2: `python -m tests.backbones.packed.record_bitsandbytes`.
"""

from __future__ import annotations

from pathlib import Path

import bitsandbytes.functional as packing
import torch
from safetensors.torch import save_file

FILE = Path(__file__).parent / "bitsandbytes.safetensors"
ROWS, COLUMNS = 130, 128  # 260 blocks of 64 values: more than one block of 256 magnitudes


def main() -> None:
    """Each weight as a model file has it, and its first and last four rows unpacked under `NAME.expected`."""
    tensors = {}
    generator = torch.Generator().manual_seed(7)
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            weight = torch.randn(ROWS, COLUMNS, generator=generator) * 0.05
            values, state = packing.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=nested)
            name = f"{kind}{'_nested' if nested else ''}.weight"
            tensors[name] = values
            tensors |= {f"{name}.{side}": tensor for side, tensor in state.as_dict(packed=True).items()}
            unpacked = packing.dequantize_4bit(values, state).float()
            tensors[f"{name}.expected"] = torch.cat((unpacked[:4], unpacked[-4:]))
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, FILE)


if __name__ == "__main__":
    main()
