"""Make the starter from nothing: art, VAE, latents, text encoder and UNet, the file, and how good it is.

    python -m models.starter_training --work FOLDER

Whatever is in FOLDER already is gone on with: an interrupted run, or a finished one with more minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

from models.starter_training.art import install

HERE = Path(__file__).parents[2]
PACKAGE = "models.starter_training"


def main() -> None:
    """Every step in its own process, on every core or on one GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=HERE / "models" / "starter_training" / "work")
    parser.add_argument("--vae-minutes", type=float, default=30, help="for the VAE, in all (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=360, help="for text encoder and UNet (default %(default)s)")
    parser.add_argument("--decoder-minutes", type=float, default=30, help="for the VAE's decoder, then (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="pictures of a step in each process")
    parser.add_argument("--compile", action="store_true", help="compile the drawer's networks before they are trained")
    parser.add_argument("--begin", type=Path, help="a finished starter to go on from: its VAE is kept as it is")
    parser.add_argument("--file", type=Path, help="where the result goes (default: into the work folder)")
    options = parser.parse_args()
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    install(work)
    if options.begin and not (work / "begin.pt").is_file():
        alone("finished", work, "--file", str(options.begin))
    if not (work / "vae").is_dir():
        run("train_autoencoder", work, "--minutes", str(options.vae_minutes))
    if not (work / "latents.safetensors").is_file():
        run("latents", work)
    compiled = ["--compile"] if options.compile else []
    run("train_drawer", work, "--minutes", str(options.minutes), "--batch", str(options.batch), *compiled)
    run("train_decoder", work, "--minutes", str(options.decoder_minutes))
    file = ["--file", str(options.file)] if options.file else []
    alone("export", work, *file)
    alone("measure", work, *file)
    alone("behave", work, *file)


def alone(step: str, work: Path, *arguments: str) -> None:
    """A step in a process of its own."""
    subprocess.run([sys.executable, "-m", f"{PACKAGE}.{step}", "--work", str(work), *arguments], cwd=HERE, check=True)


def run(step: str, work: Path, *arguments: str) -> None:
    """One process of one thread per core, or one in all on a GPU.

    Two threads in one process are no quicker than two processes of one, and several times slower as soon as others use
    the cores, for a thread that waits for another one spins.
    """
    gpu = torch.cuda.is_available()
    processes = 1 if gpu else max(1, (os.cpu_count() or 2) // (2 if (os.cpu_count() or 2) > 8 else 1))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if not gpu:
        environment["ACCELERATE_USE_CPU"] = "true"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launch, "--module", f"{PACKAGE}.{step}", "--work", str(work), *arguments]
    subprocess.run(command, cwd=HERE, env=environment, check=True)


if __name__ == "__main__":
    main()
