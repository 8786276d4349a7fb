"""Align Your Steps: levels that were optimised for a model, stretched to the number of steps.

Tables of Sabour et al. 2024 ("Align Your Steps", arXiv:2404.14507, and its page of how to use them) for Stable
Diffusion 1.5 and SDXL, with 11 and with 32 levels; and of Chen et al. 2024 ("On the Trajectory Regularity of ODE-based
Diffusion Sampling", GITS, arXiv:2405.11326) as Forge lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from modules.core.sampling import NoiseLevels, schedule
from modules.core.spacing import stretched

Tables = Mapping[str, tuple[float, ...]]  # family -> levels; "" for every family without a table of its own

AYS_11: Tables = MappingProxyType(
    {
        "": (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
        "sdxl": (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029),
    }
)
AYS_32: Tables = MappingProxyType(
    {
        "": (
            14.615, 11.23951352, 8.64363081, 6.64729424, 5.57250862, 4.71648546, 3.99196065, 3.5195609, 3.13490466,
            2.79228788, 2.48773628, 2.21663865, 1.97508351, 1.7793172, 1.61475335, 1.46540953, 1.314849, 1.16642497,
            1.03475547, 0.91573744, 0.80748169, 0.71202361, 0.621739, 0.53065202, 0.4529096, 0.37491455, 0.27461819,
            0.2011529, 0.14105873, 0.06682881, 0.03166121, 0.015,
        ),
        "sdxl": (
            14.615, 11.1491618, 8.50522127, 6.48827151, 5.43707402, 4.60398619, 3.89854704, 3.27407457, 2.74396527,
            2.29968659, 1.95448514, 1.67108715, 1.42878152, 1.23181009, 1.06789649, 0.92579443, 0.80290886, 0.69660121,
            0.60436903, 0.52852552, 0.46773344, 0.41393379, 0.36258186, 0.31008517, 0.26518925, 0.22326461, 0.17653877,
            0.13959192, 0.10587381, 0.05519369, 0.02877334, 0.015,
        ),
    }
)  # fmt: skip
GITS: Tables = MappingProxyType(
    {
        "": (14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
        "sdxl": (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029),
    }
)


@schedule("align_your_steps", label="Align Your Steps", aliases=("ays",), flow=False, rank=46)
def align_your_steps(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """The table of 11 levels for this family, linear in log sigma between them, then 0."""
    return stretched(_of(AYS_11, levels), steps)


@schedule("align_your_steps_gits", label="Align Your Steps GITS", aliases=("gits", "ays gits"), flow=False, rank=92)
def align_your_steps_gits(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """The table of GITS for this family, stretched likewise."""
    return stretched(_of(GITS, levels), steps)


@schedule("align_your_steps_11", label="Align Your Steps 11", aliases=("ays 11",), flow=False, rank=94)
def align_your_steps_11(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """The same numbers as Align Your Steps; Forge lists both."""
    return stretched(_of(AYS_11, levels), steps)


@schedule("align_your_steps_32", label="Align Your Steps 32", aliases=("ays 32",), flow=False, rank=96)
def align_your_steps_32(steps: int, levels: NoiseLevels) -> Sequence[float]:
    """The table of 32 levels, which ends at 0.015, below what Stable Diffusion was trained on."""
    return stretched(_of(AYS_32, levels), steps)


def _of(tables: Tables, levels: NoiseLevels) -> tuple[float, ...]:
    return tables.get(levels.family, tables[""])
