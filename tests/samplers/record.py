"""Record what k-diffusion and diffusers compute, for the tests to compare with: writes reference.json beside itself.

diffusers comes from the environment. Of k-diffusion only two files are needed, and importing the package would need
much more, so give the folder that its wheel was unpacked to:

    pip download --no-deps --dest /tmp/k k-diffusion==0.1.1.post1
    python -m zipfile -e /tmp/k/k_diffusion-0.1.1.post1-py3-none-any.whl /tmp/k
    python -m tests.samplers.record /tmp/k

Everything is computed in float64 (Brownian noise in float32), on one CPU thread.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import torch
from torch import Tensor

from tests.samplers import toy

K_NAMES = {
    "euler": "sample_euler",
    "euler_a": "sample_euler_ancestral",
    "heun": "sample_heun",
    "lms": "sample_lms",
    "dpm2": "sample_dpm_2",
    "dpm2_a": "sample_dpm_2_ancestral",
    "dpmpp_2m": "sample_dpmpp_2m",
    "dpmpp_sde": "sample_dpmpp_sde",
    "dpmpp_2m_sde": "sample_dpmpp_2m_sde",
    "dpmpp_2m_sde_heun": "sample_dpmpp_2m_sde",
    "dpmpp_2s_a": "sample_dpmpp_2s_ancestral",
    "dpmpp_3m_sde": "sample_dpmpp_3m_sde",
    "dpm_fast": "sample_dpm_fast",
    "dpm_adaptive": "sample_dpm_adaptive",
}
OWN_LEVELS = {"dpm_fast", "dpm_adaptive"}
TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
SPACING_STEPS = (1, 2, 5, 20, 50, 150)


def main(folder: Path) -> None:
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    sampling, external = _k_diffusion(folder)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas = torch.cumprod(1 - betas, 0)
    levels = external.DiscreteSchedule(((1 - alphas) / alphas) ** 0.5, quantize=False)
    spacings = _spacings(sampling, levels)
    results: dict[str, dict[str, Any]] = {"k-diffusion": {}, "diffusers": {}}
    for spacing in toy.SPACINGS:
        for steps in toy.STEPS:
            sigmas = torch.tensor(spacings[spacing][str(steps)])
            case = f"{spacing}/{steps}"
            for name in (*K_NAMES, *toy.VARIANTS):
                # Its 2M and 3M SDE fail at a single step: a variable has no value yet. DPM fast and adaptive go
                # between two levels, of which a single step has one.
                alone = "m_sde" in name or _kind(name) in OWN_LEVELS
                if _kind(name) in K_NAMES and not (steps == 1 and alone):
                    result = _by_k_diffusion(sampling, name, sigmas, toy.VARIANTS.get(name, {}))
                    results["k-diffusion"].setdefault(name, {})[case] = result.flatten().tolist()
            for name, build in _SCHEDULERS.items():
                result = _by_diffusers(build(), sigmas, toy.VARIANTS.get(name, {}))
                results["diffusers"].setdefault(name, {})[case] = result.flatten().tolist()
    reference = {
        "versions": {"k-diffusion": "0.1.1.post1", "diffusers": diffusers.__version__, "torch": torch.__version__},
        "levels": {"first": levels.sigmas[0].item(), "last": levels.sigmas[-1].item()},
        "spacings": spacings,
        "results": results,
        "brownian": _brownian(sampling),
    }
    lines = json.dumps(reference, indent=None, separators=(",", ":")).replace('},"', '},\n"')
    Path(__file__).with_name("reference.json").write_text(lines + "\n", encoding="utf-8")


def _kind(name: str) -> str:
    """The sampler of a case: "heun+churn" is heun with options."""
    return name.partition("+")[0]


def _k_diffusion(folder: Path) -> tuple[Any, Any]:
    """k-diffusion's sampling.py and external.py, with stand-ins for what they import and do not use here."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(folder / "k_diffusion")]
    utils = types.ModuleType("k_diffusion.utils")
    utils.append_dims = lambda x, count: x.reshape(x.shape + (1,) * (count - x.ndim))  # type: ignore[attr-defined]
    ode = types.ModuleType("torchdiffeq")
    ode.odeint = None  # type: ignore[attr-defined]
    sys.modules |= {"k_diffusion": package, "k_diffusion.utils": utils, "torchdiffeq": ode}
    package.utils = utils  # type: ignore[attr-defined]
    sampling = importlib.import_module("k_diffusion.sampling")
    package.sampling = sampling  # type: ignore[attr-defined]
    return sampling, importlib.import_module("k_diffusion.external")


def _spacings(sampling: Any, levels: Any) -> dict[str, dict[str, list[float]]]:
    low, high = levels.sigma_min.item(), levels.sigma_max.item()
    by_name: dict[str, Callable[[int], Any]] = {
        "normal": levels.get_sigmas,
        "karras": lambda steps: sampling.get_sigmas_karras(steps, low, high),
        "exponential": lambda steps: sampling.get_sigmas_exponential(steps, low, high),
        "polyexponential": lambda steps: sampling.get_sigmas_polyexponential(steps, low, high, rho=1.0),
        # The even timesteps of one step more, of which SGM Uniform leaves out the last.
        "sgm_uniform": lambda steps: torch.cat([levels.get_sigmas(steps + 1)[:-2], torch.zeros(1)]),
        "beta": lambda steps: _beta(steps, levels.sigmas),
        "ddim": lambda steps: _leading(steps, levels.sigmas),
    }
    # The original DDIM spacing has as many steps as asked only where they divide 1000.
    left_out = {("ddim", steps) for steps in toy.STEPS + SPACING_STEPS if 1000 % steps}
    return {
        name: {
            str(steps): make(steps).tolist()
            for steps in sorted({*toy.STEPS, *SPACING_STEPS})
            if (name, steps) not in left_out
        }
        for name, make in by_name.items()
    }


def _beta(steps: int, trained: Tensor) -> Tensor:
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED, use_beta_sigmas=True)
    return torch.tensor([*scheduler._convert_to_beta(trained.flip(0), steps), 0.0])


def _leading(steps: int, trained: Tensor) -> Any:
    scheduler = diffusers.EulerDiscreteScheduler(**TRAINED, timestep_spacing="leading", steps_offset=1)
    scheduler.alphas_cumprod = 1 / (1 + trained**2)  # in place of its own float32 ones
    scheduler.set_timesteps(steps)
    return scheduler.sigmas


class _Torch:
    """torch, but for `randn_like`: k-diffusion draws its churn with it."""

    def __init__(self, noise: toy.ToyNoise) -> None:
        self.noise = noise

    def randn_like(self, x: Tensor) -> Tensor:
        return self.noise.fresh()

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _by_k_diffusion(sampling: Any, name: str, sigmas: Tensor, options: Mapping[str, float]) -> Tensor:
    noise = toy.ToyNoise()
    keywords: dict[str, Any] = dict(options)
    if keywords.pop("heun", 0) or _kind(name) == "dpmpp_2m_sde_heun":
        keywords["solver_type"] = "heun"
    places: tuple[Any, ...] = (sigmas,)
    if _kind(name) in OWN_LEVELS:
        places = (float(sigmas[-2]), float(sigmas[0]), *([len(sigmas) - 1] if _kind(name) == "dpm_fast" else []))
        keywords["noise_sampler"] = lambda sigma, following: noise.fresh() if options.get("eta") else 0.0
    elif "sde" in name:
        keywords["noise_sampler"] = lambda sigma, following: noise.between(float(sigma), float(following))
    elif "_a" in name:
        keywords["noise_sampler"] = lambda sigma, following: noise.fresh()
    function = getattr(sampling, K_NAMES[_kind(name)])
    with patch.object(sampling, "torch", _Torch(noise)):
        result: Tensor = function(
            lambda x, sigma: toy.denoise(x, float(sigma)),
            toy.start(float(sigmas[0])),
            *places,
            disable=True,
            **keywords,
        )
    return result


def _ddim() -> Any:
    return diffusers.DDIMScheduler(**TRAINED, prediction_type="sample", clip_sample=False, set_alpha_to_one=True)


_UNIPC = {"prediction_type": "sample", "final_sigmas_type": "zero", "lower_order_final": True}


def _sa_solver(
    *, predictor: int = 3, corrector: int = 4, eta: float = 1.0, low: float = 0.63, high: float = 5.93
) -> Any:
    """Told by its sigmas, which stand for timesteps here, where to put noise in."""
    return diffusers.SASolverScheduler(
        **TRAINED, prediction_type="sample", predictor_order=predictor, corrector_order=corrector,
        tau_func=lambda sigma: eta if low <= sigma <= high else 0.0,
    )  # fmt: skip


_SCHEDULERS: dict[str, Callable[[], Any]] = {
    "euler": lambda: diffusers.EulerDiscreteScheduler(**TRAINED, prediction_type="sample"),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**TRAINED, prediction_type="sample"),
    "dpmpp_2m": lambda: diffusers.DPMSolverMultistepScheduler(
        **TRAINED, prediction_type="sample", final_sigmas_type="zero", lower_order_final=True
    ),
    "ddim": _ddim,
    "ddim+eta": _ddim,
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**TRAINED, **_UNIPC, solver_order=3, solver_type="bh1"),
    "unipc+bh2": lambda: diffusers.UniPCMultistepScheduler(**TRAINED, **_UNIPC, solver_order=2, solver_type="bh2"),
    "sa_solver": _sa_solver,
    "sa_solver+ode": lambda: _sa_solver(eta=0.0),
    "sa_solver+orders": lambda: _sa_solver(predictor=2, corrector=2, eta=0.5, low=0.1, high=1e6),
    # The boundary scalings off: c_skip = 0, c_out = 1.
    "lcm": lambda: diffusers.LCMScheduler(
        **TRAINED, prediction_type="sample", clip_sample=False, timestep_scaling=1e12
    ),
}


def _by_diffusers(scheduler: Any, sigmas: Tensor, options: Mapping[str, float]) -> Tensor:
    """Drive a scheduler on exactly these sigmas; samples of variance-preserving ones are rescaled at both ends."""
    if isinstance(scheduler, diffusers.DDIMScheduler | diffusers.LCMScheduler):
        return _by_alphas(scheduler, sigmas, options)
    scheduler.set_timesteps(len(sigmas) - 1)
    exact = sigmas
    if isinstance(scheduler, diffusers.UniPCMultistepScheduler | diffusers.SASolverScheduler):
        # At sigma 0 "bh1" and the exponentials are 0 times infinity; so near to it the last step is the same to 1e-11.
        exact = torch.cat([sigmas[:-1], torch.tensor([1e-12])])
    if isinstance(scheduler, diffusers.HeunDiscreteScheduler):
        exact = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    scheduler.sigmas, scheduler.timesteps = exact, torch.arange(len(exact) - 1, 0, -1).double()
    if isinstance(scheduler, diffusers.SASolverScheduler):
        scheduler.timesteps = exact[:-1]
    noise = toy.ToyNoise()

    def drawn(*_: Any, **__: Any) -> Any:
        """It draws in every step, ours where noise is put in."""
        return noise.fresh() if scheduler.tau_func(scheduler.timestep_list[-1]) else torch.zeros(toy.SHAPE)

    scheduler.set_begin_index(0)  # so that no place is looked up by these timesteps, which are mere numbers
    preserving = not isinstance(scheduler, diffusers.EulerDiscreteScheduler | diffusers.HeunDiscreteScheduler)
    x: Tensor = toy.start(float(sigmas[0])) / float(1 + preserving * sigmas[0] ** 2) ** 0.5
    with patch("diffusers.schedulers.scheduling_sasolver.randn_tensor", drawn):
        for index, t in enumerate(scheduler.timesteps):
            sigma = float(exact[index])
            denoised = toy.denoise(x * (1 + preserving * sigma**2) ** 0.5, sigma)
            x = scheduler.step(denoised, t, x, return_dict=False)[0]
    return x


def _by_alphas(scheduler: Any, sigmas: Tensor, options: Mapping[str, float]) -> Tensor:
    """The same for schedulers that know alphas by integer timestep: they are made to count the sigmas from the end."""
    steps = len(sigmas) - 1
    alphas = (1 / (1 + sigmas**2)).flip(0)
    # DDIM keeps the alpha of sigma 0 apart and steps below timestep 0 to reach it; LCM's scalings want t above 0.
    first = 0 if isinstance(scheduler, diffusers.DDIMScheduler) else 1
    scheduler.alphas_cumprod = alphas[1 - first :]
    scheduler.num_inference_steps = steps
    scheduler.config.num_train_timesteps = steps
    scheduler.timesteps = torch.arange(steps - 1, -1, -1) + first
    noise = toy.ToyNoise()
    x: Tensor = toy.start(float(sigmas[0])) / float(1 + sigmas[0] ** 2) ** 0.5
    fake = patch("diffusers.schedulers.scheduling_lcm.randn_tensor", lambda *_, **__: noise.fresh())
    with fake:
        for index, t in enumerate(scheduler.timesteps):
            sigma = float(sigmas[index])
            denoised = toy.denoise(x * (1 + sigma**2) ** 0.5, sigma)
            keywords: dict[str, Any] = dict(options)
            if options.get("eta"):
                keywords["variance_noise"] = noise.fresh()
            x = scheduler.step(denoised, t, x, return_dict=False, **keywords)[0]
    return x


def _brownian(sampling: Any) -> dict[str, Any]:
    """k-diffusion's Brownian noise for one seed: each value is an increment for [sigma, sigma_next]."""
    low, high, seed = 0.0291675, 14.614642, 4242
    steps = [(high, 7.3), (7.3, 2.0), (2.0, 1.5), (1.5, 0.31), (0.31, low), (high, 2.0)]
    noise = sampling.BrownianTreeNoiseSampler(torch.zeros(1, 2, 2, 2, dtype=torch.float32), low, high, seed=[seed])
    # torchsde compares times of the tree's own dtype: hand it float64, as our sigmas are.
    return {
        "seed": seed,
        "range": [low, high],
        "steps": [
            [sigma, following, noise(torch.tensor(sigma), torch.tensor(following)).flatten().tolist()]
            for sigma, following in steps
        ],
    }


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main(Path(sys.argv[1]))
