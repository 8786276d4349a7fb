"""Samplers that nobody else's float64 code is at hand for, written again from their papers, as plainly as can be.

In NumPy, in the variance-preserving form where the paper is in it, with quadrature by SciPy; nothing is shared with the
samplers. Each takes the toy model's `ask(x, sigma)` -> (denoised, unconditional) and `draw()` -> standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

Array = NDArray[np.float64]
Ask = Callable[[Array, float], tuple[Array, Array]]
Draw = Callable[[], Array]


def alpha_bar(sigma: float) -> float:
    return 1 / (1 + sigma**2)


def unipc_v(
    x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw, *, order: float = 3, lower_order_final: float = 1
) -> Array:
    """Zhao et al. 2023 with varying coefficients: the exact integral of the polynomial through the answers."""

    def integrated(at: Array, sigma: float, following: float, answers: Sequence[tuple[float, Array]]) -> Array:
        at = following / sigma * at
        for j, (place, answer) in enumerate(answers):
            others = [other for k, (other, _) in enumerate(answers) if k != j]

            def integrand(lam: float, place: float = place, others: Sequence[float] = tuple(others)) -> float:
                share = math.prod((lam - other) / (place - other) for other in others)
                return following * math.exp(lam) * share

            at = at + answer * quad(integrand, -math.log(sigma), -math.log(following), epsabs=1e-14, epsrel=1e-13)[0]
        return at

    steps = len(sigmas) - 1
    answers: list[tuple[float, Array]] = []
    begun: tuple[Array, float, int] | None = None
    for i in range(steps):
        answers.insert(0, (-math.log(sigmas[i]), ask(x, sigmas[i])[0]))
        if begun is not None:
            x = integrated(begun[0], begun[1], sigmas[i], answers[: begun[2] + 1])
        if sigmas[i + 1] == 0:
            return answers[0][1]
        p = min(int(order), i + 1, steps - i) if lower_order_final else min(int(order), i + 1)
        begun = (x, sigmas[i], p)
        x = integrated(x, sigmas[i], sigmas[i + 1], answers[:p])
    return x


def ddpm(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Ho et al. 2020, algorithm 2 with the variance of equation 7."""
    x = x * math.sqrt(alpha_bar(sigmas[0]))
    for sigma, following in pairwise(sigmas):
        now, then = alpha_bar(sigma), alpha_bar(following)
        denoised = ask(x / math.sqrt(now), sigma)[0]
        beta = 1 - now / then
        mean = math.sqrt(then) * beta / (1 - now) * denoised + math.sqrt(now / then) * (1 - then) / (1 - now) * x
        x = mean + math.sqrt(beta * (1 - then) / (1 - now)) * draw() if following > 0 else mean
    return x


def ddim_cfgpp(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Chung et al. 2024: DDIM whose noise is the unconditional one."""
    x = x * math.sqrt(alpha_bar(sigmas[0]))
    for sigma, following in pairwise(sigmas):
        now, then = alpha_bar(sigma), alpha_bar(following)
        denoised, free = ask(x / math.sqrt(now), sigma)
        noise = (x - math.sqrt(now) * free) / math.sqrt(1 - now)
        x = math.sqrt(then) * denoised + math.sqrt(1 - then) * noise
    return x


def plms(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Liu et al. 2022: the transfer of equation 11 with the noise of equation 12, begun as by Heun."""

    def noise(at: Array, sigma: float) -> Array:
        now = alpha_bar(sigma)
        return (at - math.sqrt(now) * ask(at / math.sqrt(now), sigma)[0]) / math.sqrt(1 - now)

    def transfer(at: Array, epsilon: Array, sigma: float, following: float) -> Array:
        now, then = alpha_bar(sigma), alpha_bar(following)
        inside = math.sqrt(now * (1 - then)) + math.sqrt(then * (1 - now))
        return math.sqrt(then / now) * at - (then - now) / (math.sqrt(now) * inside) * epsilon

    x = x * math.sqrt(alpha_bar(sigmas[0]))
    e: list[Array] = []
    for sigma, following in pairwise(sigmas):
        e.append(noise(x, sigma))
        if len(e) == 1:
            mixed = e[0]
            if following > 0:
                mixed = (e[0] + noise(transfer(x, e[0], sigma, following), following)) / 2
        else:
            mixed = np.tensordot(adams(min(len(e), 4)), np.stack(e[: -len(e) - 1 : -1][:4]), 1)
        x = transfer(x, mixed, sigma, following)
    return x


def adams(count: int) -> list[float]:
    """Weights that integrate polynomials through the points 0, -1, -2 ... from 0 to 1."""
    powers = np.array([[(-k) ** j for k in range(count)] for j in range(count)], dtype=float)
    powers[0] = 1.0
    return [float(w) for w in np.linalg.solve(powers, [1 / (j + 1) for j in range(count)])]


def ipndm(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Zhang and Chen 2022: Adams-Bashforth as on an even grid."""
    slopes: list[Array] = []
    for sigma, following in pairwise(sigmas):
        denoised = ask(x, sigma)[0]
        if following == 0:
            return denoised
        slopes.append((x - denoised) / sigma)
        weights = adams(min(len(slopes), 4))
        x = x + (following - sigma) * sum(w * d for w, d in zip(weights, reversed(slopes), strict=False))
    return x


def ipndm_v(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """The coefficients as they stand in the published toolbox."""
    s, d = list(sigmas), []
    for n in range(len(s) - 1):
        denoised = ask(x, s[n])[0]
        if s[n + 1] == 0:
            return denoised
        d.append((x - denoised) / s[n])
        h0 = s[n + 1] - s[n]
        h1, h2, h3 = (s[n - k] - s[n - k - 1] if n > k else math.nan for k in range(3))
        c = [1.0]
        if n >= 1:
            c = [(2 + h0 / h1) / 2, -(h0 / h1) / 2]
        if n >= 2:
            t1 = (1 - h0 / (3 * (h0 + h1)) * (h0 * (h0 + h1)) / (h1 * (h1 + h2))) / 2
            c = [c[0] + t1, c[1] - (1 + h1 / h2) * t1, t1 * h1 / h2]
        if n >= 3:
            t2 = (1 - h0 / (3 * (h0 + h1))) / 2 + (1 - h0 / (2 * (h0 + h1))) * h0 / (6 * (h0 + h1 + h2))
            t2 = t2 * h0 * (h0 + h1) * (h0 + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
            f = h1 * (h1 + h2) / (h2 * (h2 + h3))
            c = [
                c[0] + t2, c[1] - (1 + h1 / h2 + f) * t2,
                c[2] + (h1 / h2 + f * (1 + h2 / h3)) * t2, -t2 * f * h1 / h2,
            ]  # fmt: skip
        x = x + h0 * sum(weight * d[n - k] for k, weight in enumerate(c))
    return x


def deis(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Zhang and Chen 2022: the integral of equation 15 over the time of a VP diffusion from sigma 0.002 to 80."""
    t_low = 0.001
    beta_d = 2 * (math.log(0.002**2 + 1) / t_low - math.log(80.0**2 + 1)) / (t_low - 1)
    beta_min = math.log(80.0**2 + 1) - beta_d / 2

    def level(t: float) -> float:
        return math.sqrt(math.expm1(beta_d * t**2 / 2 + beta_min * t))

    def speed(t: float) -> float:
        return (level(t) ** 2 + 1) * (beta_d * t + beta_min) / (2 * level(t))

    def time(sigma: float) -> float:
        return (math.sqrt(beta_min**2 + 2 * beta_d * math.log(sigma**2 + 1)) - beta_min) / beta_d

    past: list[tuple[float, Array]] = []
    for sigma, following in pairwise(sigmas):
        denoised = ask(x, sigma)[0]
        if following == 0:
            return denoised
        past = [(time(sigma), (x - denoised) / sigma), *past][:3]
        for j, (tj, slope) in enumerate(past):
            others = [t for k, (t, _) in enumerate(past) if k != j]

            def integrand(t: float, tj: float = tj, others: Sequence[float] = tuple(others)) -> float:
                return speed(t) * math.prod((t - other) / (tj - other) for other in others)

            weight = quad(integrand, time(sigma), time(following), epsabs=1e-13, epsrel=1e-13, limit=200)[0]
            x = x + weight * slope
    return x


def heunpp2(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Each of the three kinds of step spelled out."""

    def slope(at: Array, sigma: float) -> Array:
        return (at - ask(at, sigma)[0]) / sigma

    s = sigmas
    for i in range(len(s) - 1):
        d1, dt = slope(x, s[i]), s[i + 1] - s[i]
        if s[i + 1] == 0:
            x = x + dt * d1
            continue
        x2 = x + dt * d1
        d2 = slope(x2, s[i + 1])
        if s[i + 2] == 0:
            w2 = s[i + 1] / (2 * s[0])
            x = x + dt * ((1 - w2) * d1 + w2 * d2)
            continue
        d3 = slope(x2 + (s[i + 2] - s[i + 1]) * d2, s[i + 2])
        w2, w3 = s[i + 1] / (3 * s[0]), s[i + 2] / (3 * s[0])
        x = x + dt * ((1 - w2 - w3) * d1 + w2 * d2 + w3 * d3)
    return x


def restart(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Xu et al. 2023, algorithm 1 with Heun's steps, on the levels that AUTOMATIC1111 chooses."""

    def heun(at: Array, sigma: float, following: float) -> Array:
        d = (at - ask(at, sigma)[0]) / sigma
        if following == 0:
            return at + (following - sigma) * d
        euler = at + (following - sigma) * d
        return at + (following - sigma) * (d + (euler - ask(euler, following)[0]) / following) / 2

    def karras(count: int, low: float, high: float) -> list[float]:
        ramp = np.linspace(high ** (1 / 7), low ** (1 / 7), count)
        return [float(level) ** 7 for level in ramp]

    steps = len(sigmas) - 1
    times, size = (0, 0) if steps < 20 else (1, 9) if steps < 36 else (2, steps // 4)
    levels = list(sigmas)
    if times:
        levels = [*karras(steps - times * size, sigmas[-2], sigmas[0]), 0.0]
    low = int(np.argmin([abs(level - 0.1) for level in levels]))
    high = int(np.argmin([abs(level - 2) for level in levels]))
    for index in range(len(levels) - 1):
        x = heun(x, levels[index], levels[index + 1])
        if index + 1 != low or high >= low:
            continue
        for _ in range(times):
            x = x + math.sqrt(levels[high] ** 2 - levels[low] ** 2) * draw()
            again = karras(size + 1, levels[low], levels[high])
            for sigma, following in pairwise(again):
                x = heun(x, sigma, following)
    return x


def tcd(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw, *, gamma: float = 0.3) -> Array:
    """Zheng et al. 2024, equations 12 and 13, in the variance-preserving form."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    trained = np.cumprod(1 - betas)
    logs = 0.5 * np.log((1 - trained) / trained)
    x = x * math.sqrt(alpha_bar(sigmas[0]))
    for sigma, following in pairwise(sigmas):
        now = alpha_bar(sigma)
        denoised = ask(x / math.sqrt(now), sigma)[0]
        if following == 0:
            return denoised
        noise = (x - math.sqrt(now) * denoised) / math.sqrt(1 - now)
        t = float(np.interp(math.log(following), logs, np.arange(1000)))
        between = alpha_bar(math.exp(float(np.interp((1 - gamma) * t, np.arange(1000), logs))))
        then = alpha_bar(following)
        x = math.sqrt(between) * denoised + math.sqrt(1 - between) * noise
        if then < between:
            x = math.sqrt(then / between) * x + math.sqrt(1 - then / between) * draw()
    return x


def er_sde(x: Array, sigmas: Sequence[float], ask: Ask, draw: Draw) -> Array:
    """Cui et al. 2023, algorithm 3 in the variance-exploding form."""

    def phi(s: float) -> float:
        return s * (math.exp(s**0.3) + 10)

    s = sigmas
    answers: list[Array] = []
    slopes: list[Array | None] = []
    for i in range(len(s) - 1):
        answers.append(ask(x, s[i])[0])
        slopes.append(None)
        if s[i + 1] == 0:
            return answers[i]
        r = phi(s[i + 1]) / phi(s[i])
        dt = s[i + 1] - s[i]
        new = r * x + (1 - r) * answers[i]
        if i >= 1:
            whole = quad(lambda v: 1 / phi(v), s[i + 1], s[i], epsabs=1e-14, epsrel=1e-13, limit=400)[0]
            slope = (answers[i] - answers[i - 1]) / (s[i] - s[i - 1])
            slopes[i] = slope
            new = new + (dt + phi(s[i + 1]) * whole) * slope
            last: Any = slopes[i - 1]
            if last is not None:
                first = quad(lambda v, at=s[i]: (v - at) / phi(v), s[i + 1], s[i], epsabs=1e-14, epsrel=1e-13)[0]
                new = new + (dt**2 / 2 + phi(s[i + 1]) * first) * 2 * (slope - last) / (s[i] - s[i - 2])
        x = new + math.sqrt(s[i + 1] ** 2 - (s[i] * r) ** 2) * draw()
    return x
