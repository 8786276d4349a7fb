"""What is said of arguments that no flag of ours is: those of AUTOMATIC1111 that are needless here, and slips."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

from modules.core.errors import RequestError

# Its optimisations and checks (modules/cmd_args.py of AUTOMATIC1111), of which nothing is left to ask for: attention
# that takes little memory, NaNs that are told, a set-up that is right by itself, no downloads.
NEEDLESS = frozenset({
    "--xformers", "--force-enable-xformers", "--reinstall-xformers",
    "--opt-sdp-attention", "--opt-sdp-no-mem-attention",
    "--opt-split-attention", "--opt-split-attention-invokeai", "--opt-split-attention-v1", "--opt-sub-quad-attention",
    "--disable-opt-split-attention", "--disable-opt-xformers-attention", "--opt-channelslast", "--upcast-sampling",
    "--always-batch-cond-uncond", "--medvram-sdxl", "--disable-nan-check", "--disable-model-loading-ram-optimization",
    "--skip-torch-cuda-test", "--skip-python-version-check", "--skip-version-check", "--skip-install",
    "--no-download-sd-model", "--do-not-download-clip", "--enable-insecure-extension-access",
    "--no-gradio-queue", "--gradio-queue", "--no-progressbar-hiding",
})  # fmt: skip


def needless(left_over: Sequence[str]) -> tuple[list[str], list[str]]:
    """(AUTOMATIC1111's needless flags, everything else) of what a parser did not know."""
    known = [text for text in left_over if text in NEEDLESS]
    return known, [text for text in left_over if text not in NEEDLESS]


def refusal(text: str, flags: Collection[str], commands: Collection[str]) -> RequestError:
    """What is wrong with an argument that nothing takes. flags: those there are."""
    if text in commands:
        return RequestError(text, "is a command and stands first", accepted=f"python webui.py {text} --flags")
    name = text.partition("=")[0]
    if not name.startswith("-"):
        return RequestError(text, "is not expected here", accepted="what --help lists; texts with spaces in quotes")
    near = get_close_matches(name, flags, n=1)
    return RequestError(name, "there is no such flag", accepted=f"{near[0]}, perhaps" if near else "what --help lists")
