"""Which device a model runs on and in which precision. accelerate says what there is; the rules are here.

Precision, where nothing else is asked:

- CUDA and ROCm: float16, also for the VAE (a VAE that overflows is repeated in float32 by the engine); bfloat16 for
  families that were trained in it (BFLOAT16_FAMILIES), where the card has it. Cards with the chips of the GTX 16 series
  (as well T400 to T2000, MX450, MX550) return NaN for half-precision convolutions, and those before Pascal compute
  them slowly: float32.
- XPU: bfloat16 where the device has it, else float16; the VAE in float32. MPS: float16, or bfloat16 for the same
  families as on CUDA (from macOS 14 on); the VAE in float32, because its half-precision normalisation overflows on
  large pictures.
- CPU: float32. float16 has no arithmetic there (0.2-0.9 GFLOP/s against 210). bfloat16 can be faster where the CPU
  has it, but its error of 1e-2 per prediction is over the 1e-3 that a default may cost: it has to be asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import psutil
import torch
from accelerate.utils import is_bf16_available, is_cuda_available, is_mps_available, is_xpu_available

from modules.core.errors import SetupError
from modules.core.job import EngineOptions, MemoryMode
from modules.diffusion.backbone import Placement
from modules.engine.estimate import Needs

Kind = Literal["cpu", "cuda", "mps", "xpu"]
PARTS = ("unet", "text_encoder", "vae")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_PASCAL = (6, 0)
# TU116 and TU117, as cards with one of them are called
_BROKEN_HALF = r"\bGTX 16\d\d|\bT(?:[456]\d\d|1000|1200|2000)\b|\bMX[45]50\b|\bCMP 30HX\b"


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device as torch names it ("cuda:1"). label: as people know it. memory: bytes of its own, or the machine's.

    capability: CUDA compute capability; bf16: it computes in bfloat16.
    """

    name: str
    label: str
    memory: int
    capability: tuple[int, int] = (0, 0)
    bf16: bool = False

    @property
    def kind(self) -> str:
        return self.name.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What there is to run on. devices: best first; the last one is the CPU."""

    devices: tuple[Device, ...]

    @property
    def names(self) -> str:
        """For messages: `cuda:0 (NVIDIA H100), cpu (16 threads)`."""
        return ", ".join(f"{device.name} ({device.label})" for device in self.devices)


def this_machine() -> Machine:
    """Ask accelerate and torch what this machine has."""
    found: list[Device] = []
    if is_cuda_available():
        found += [_cuda(index) for index in range(torch.cuda.device_count())]
    if is_xpu_available():
        for index in range(torch.xpu.device_count()):
            facts = torch.xpu.get_device_properties(index)
            bf16 = bool(is_bf16_available())
            found.append(Device(name=f"xpu:{index}", label=facts.name, memory=facts.total_memory, bf16=bf16))
    memory = psutil.virtual_memory().total
    if is_mps_available():
        found.append(Device(name="mps", label="Apple GPU", memory=memory, bf16=bool(is_bf16_available())))
    found.append(Device(name="cpu", label=f"{torch.get_num_threads()} threads", memory=memory, bf16=True))
    return Machine(devices=tuple(found))


def _cuda(index: int) -> Device:
    facts = torch.cuda.get_device_properties(index)
    capability = (facts.major, facts.minor)
    # ROCm answers as CUDA; its capability numbers follow AMD's architectures and all of them are past Pascal's
    bf16 = capability >= (8, 0)
    return Device(name=f"cuda:{index}", label=facts.name, memory=facts.total_memory, capability=capability, bf16=bf16)


# Trained in bfloat16, with activations that float16 has no room for
BFLOAT16_FAMILIES = frozenset({"sd3", "flux", "chroma", "z_image", "qwen_image", "diffusers"})


def place(options: EngineOptions, machine: Machine, family: str = "") -> Placement:
    """Decide device and precision of every part, for models of `family`.

    Raises SetupError naming what exists and what is accepted.
    """
    main = find_device(options.device, machine)
    unknown = sorted(set(options.use_cpu) - {*PARTS, "all"})
    if unknown:
        raise SetupError(
            f"--use-cpu knows no part named {', '.join(unknown)}.", hint=f"Accepted: {', '.join(PARTS)}, all."
        )
    on_cpu = set(PARTS) if "all" in options.use_cpu else set(options.use_cpu)
    cpu = machine.devices[-1]
    at = {part: cpu if part in on_cpu else main for part in PARTS}
    unet = at["unet"]
    # the CPU and Apple's GPUs have one memory: there is nowhere else to keep weights
    vram = "normal" if options.vram == "auto" or main.kind in ("cpu", "mps") else options.vram
    dtype = _dtype("--dtype", options.dtype, unet)
    if options.dtype == "auto" and dtype == torch.float16 and unet.bf16 and family in BFLOAT16_FAMILIES:
        dtype = torch.bfloat16
    return Placement(
        device=torch.device(main.name),
        dtype=dtype,
        vae_dtype=_vae_dtype(options, at["vae"], dtype),
        text_device=torch.device(at["text_encoder"].name),
        unet_device=torch.device(unet.name),
        vae_device=torch.device(at["vae"].name),
        vram=vram,
        storage=options.storage,
    )


MODES: tuple[MemoryMode, ...] = ("normal", "medium", "low")
# Fastest first. A picture decoded in tiles may differ slightly from one decoded whole, so the parts take turns for that
# if need be; to bring layer after layer at every step would cost far more than the difference is worth.
_CHOICES: tuple[tuple[MemoryMode, bool], ...] = (
    ("normal", False), ("medium", False), ("normal", True), ("medium", True), ("low", False), ("low", True),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How memory is used for some work. needed: bytes in this mode; whole: with everything on the device and the
    picture decoded whole; room: bytes there are. tiled: decoding whole would not fit.
    """

    mode: MemoryMode
    tiled: bool
    needed: int
    whole: int
    room: int

    @property
    def fits(self) -> bool:
        """Whether there is room, by the estimate."""
        return self.needed <= self.room


def choose(needs: Needs, room: int, *, least: MemoryMode = "normal", movable: bool = True) -> Choice:
    """The fastest way to use memory that fits into `room` bytes; the most frugal one where none does.

    least: a mode that saves less than this one is not taken. movable False: no other mode than `least` is.
    """
    modes = MODES[MODES.index(least) :] if movable else (least,)
    ways = [(mode, tiled) for mode, tiled in _CHOICES if mode in modes]
    mode, tiled = next((way for way in ways if needs.at(way[0], tiled=way[1]) <= room), ways[-1])
    needed = needs.at(mode, tiled=tiled)
    return Choice(mode=mode, tiled=tiled, needed=needed, whole=needs.at("normal"), room=room)


def next_mode(mode: MemoryMode) -> MemoryMode | None:
    """The mode that saves more than `mode`; None where none does."""
    return None if mode == MODES[-1] else MODES[MODES.index(mode) + 1]


def find_device(name: str, machine: Machine) -> Device:
    """The device that `name` means: "auto", a kind ("cuda" is its first device), a name ("cuda:1") or a number ("1").

    A bare number is --device-id: that device of the best kind.
    """
    best = machine.devices[0]
    wanted = name.strip().lower()
    if wanted in ("auto", ""):
        return best
    if re.fullmatch(r"\d+", wanted):
        wanted = f"{best.kind}:{int(wanted)}"
    for device in machine.devices:
        if wanted in (device.name, device.kind, f"{device.name}:0"):
            return device
    raise SetupError(f"There is no device {name!r} here.", hint=f"Accepted: auto, {machine.names}.")


def use(device: torch.device) -> None:
    """Make `device` the calling thread's own: CUDA events that name no device are recorded on it.

    On another device they say that work is done which has not begun: previews are then read before they are written,
    and nothing holds the engine back. They would also take some hundred megabytes of that device.

    float32 then means float32: TF32 keeps ten bits of its twenty-three, and torch allows it to convolutions unless told
    otherwise. Both switches are the whole process's, which is the worker's own or that of one command.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _dtype(flag: str, asked: str, device: Device) -> torch.dtype:
    if asked == "auto":
        return _best_dtype(device)
    if asked not in _DTYPES:
        raise SetupError(f"{flag} knows no precision {asked!r}.", hint=f"Accepted: auto, {', '.join(_DTYPES)}.")
    if asked == "float16" and device.kind == "cpu":
        raise SetupError(f"{flag} float16 does not work on the CPU.", hint="Accepted there: auto, float32, bfloat16.")
    if asked == "bfloat16" and not device.bf16:
        raise SetupError(f"{flag} bfloat16 does not work on {device.label}.", hint="Accepted there: float32, float16.")
    return _DTYPES[asked]


def _best_dtype(device: Device) -> torch.dtype:
    if device.kind == "cpu":
        return torch.float32
    if device.kind == "cuda":
        slow = device.capability < _PASCAL or re.search(_BROKEN_HALF, device.label)
        return torch.float32 if slow else torch.float16
    if device.kind == "xpu" and device.bf16:
        return torch.bfloat16
    return torch.float16


def _vae_dtype(options: EngineOptions, device: Device, dtype: torch.dtype) -> torch.dtype:
    if options.vae_dtype != "auto":
        return _dtype("--vae-dtype", options.vae_dtype, device)
    chosen_here = dtype == torch.float16 or (dtype == torch.bfloat16 and options.dtype == "auto")
    if device.kind == "cuda" and chosen_here:
        return dtype
    return torch.float32
