"""Every setting there is, in the order the page shows them: a new setting is one entry here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modules.imaging.formats import kinds

Value = bool | int | float | str
Section = Literal["generation", "saving", "performance", "interface", "system"]
SECTIONS: tuple[Section, ...] = ("generation", "saving", "performance", "interface", "system")


@dataclass(frozen=True, kw_only=True)
class SettingSpec:
    """What a setting is. label, help: English; the page looks up `label_key` and `help_key` first.

    low, high: the closed range of a number; high of a text is its greatest length. hidden: set by the page itself,
    not listed among the settings. needs_restart: read when the program starts.
    """

    name: str
    section: Section
    kind: Literal["bool", "int", "float", "choice", "text"]
    default: Value
    label: str
    help: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    hidden: bool = False
    needs_restart: bool = False

    @property
    def label_key(self) -> str:
        return f"setting.{self.name}"

    @property
    def help_key(self) -> str:
        return f"setting.{self.name}.help"

    @property
    def section_key(self) -> str:
        return f"section.{self.section}"

    @property
    def accepted(self) -> str:
        """What `set` takes, as a phrase."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return ", ".join(self.choices)
        if self.kind == "text":
            return f"text of at most {int(self.high or 400)} characters"
        kind = "a whole number" if self.kind == "int" else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"


SPECS: tuple[SettingSpec, ...] = (
    SettingSpec(
        name="checkpoint", section="generation", kind="text", default="", label="Checkpoint", hidden=True,
        help="The checkpoint chosen last; empty for the first one found.",
    ),
    SettingSpec(
        name="vae", section="generation", kind="text", default="Automatic", label="VAE", hidden=True,
        help="Automatic, None, or a file of models/VAE.",
    ),
    SettingSpec(
        name="clip_skip", section="generation", kind="int", default=1, low=1, high=12, label="Clip skip", hidden=True,
        help="1 is the text encoder's last layer, 2 the one before.",
    ),
    SettingSpec(
        name="default_batch_count", section="generation", kind="int", default=1, low=1, high=100, label="Batch count",
        help="Batches made one after another when nothing else was chosen.",
    ),
    SettingSpec(
        name="default_batch_size", section="generation", kind="int", default=1, low=1, high=16, label="Batch size",
        help="Pictures made side by side when nothing else was chosen.",
    ),
    SettingSpec(
        name="emphasis", section="generation", kind="choice", default="Original",
        choices=("Original", "No norm", "Ignore", "None"), label="Emphasis mode",
        help="What (word:1.2) does. None takes brackets for text, Ignore leaves every weight at 1.",
    ),
    SettingSpec(
        name="noise_source", section="generation", kind="choice", default="CPU", choices=("CPU", "GPU", "NV"),
        label="Noise source", help="NV makes the numbers of an NVIDIA card on every machine; AUTOMATIC1111 uses GPU.",
    ),
    SettingSpec(
        name="ensd", section="generation", kind="int", default=0, low=-(2**31), high=2**31,
        label="Eta noise seed delta",
        help="Added to the seed of what ancestral samplers draw; 31337 for pictures of one well-known model.",
    ),
    SettingSpec(
        name="dynamic_prompts", section="generation", kind="bool", default=True, label="Choices and wildcards",
        help="{red|blue} and __animals__ are drawn anew for each picture; off, they are text.",
    ),
    SettingSpec(
        name="strict", section="generation", kind="bool", default=False, label="Strict reproducibility",
        help="Run each picture alone, so that it is identical to the last bit whatever else is running. Slower.",
    ),
    SettingSpec(
        name="keep_partial", section="generation", kind="bool", default=False, label="Keep interrupted pictures",
        help="Save the unfinished picture when a job is interrupted.",
    ),
    SettingSpec(
        name="date_folders", section="saving", kind="bool", default=True, label="A folder per day",
        help="Save into txt2img-images/2026-01-31/ instead of txt2img-images/.",
    ),
    SettingSpec(
        name="image_format", section="saving", kind="choice", default="png", choices=kinds(), label="File format",
        help="Only PNG keeps every pixel as it was made.",
    ),
    SettingSpec(
        name="image_quality", section="saving", kind="int", default=90, low=1, high=100, label="Quality",
        help="Of JPEG, WebP and AVIF: 100 is the best and largest.",
    ),
    SettingSpec(
        name="save_metadata", section="saving", kind="bool", default=True, label="Write metadata into pictures",
        help="Without it nobody can read from a file how it was made. The gallery still knows, but an index that has "
        "to be made anew then has these pictures without their parameters.",
    ),
    SettingSpec(
        name="thumbnail_cache_mb", section="saving", kind="int", default=512, low=16, high=16384,
        label="Thumbnail cache (MB)", help="Small versions of pictures kept for the gallery.", needs_restart=True,
    ),
    SettingSpec(
        name="preview_ms", section="performance", kind="int", default=250, low=0, high=5000,
        label="Preview interval (ms)", help="Least time between two previews of a picture; 0 for none.",
    ),
    SettingSpec(
        name="preview_size", section="performance", kind="int", default=512, low=64, high=2048,
        label="Preview size (pixels)", help="The longer side of previews.",
    ),
    SettingSpec(
        name="preview_taesd", section="performance", kind="bool", default=True, label="Previews by TAESD",
        help="Use a TAESD file from models/VAE-approx where there is one; else previews are estimated from the latent.",
    ),
    SettingSpec(
        name="trace", section="performance", kind="bool", default=True, label="Keep the filmstrip",
        help="Remember each step's picture for the How it works view.",
    ),
    SettingSpec(
        name="cache_gb", section="performance", kind="float", default=0.0, low=0, high=1024,
        label="Memory for checkpoints (GB)", help="Loaded checkpoints stay in memory up to this; 0 for automatic.",
    ),
    SettingSpec(
        name="vram", section="performance", kind="choice", default="auto", choices=("auto", "normal", "medium", "low"),
        label="Device memory",
        help="How much of a model is on the device; automatic chooses for each request. --medvram and --lowvram go "
        "before this.",
    ),
    SettingSpec(
        name="weights", section="performance", kind="choice", default="file", choices=("file", "compute", "fp8"),
        label="Weights",
        help="As the file has them; unpacked, which is faster and takes more memory; or in 8 bits, which halves the "
        "memory of 16-bit models and changes pictures.",
    ),
    SettingSpec(
        name="tiled_vae", section="performance", kind="bool", default=False, label="Always decode in tiles",
        help="Else pictures are decoded in tiles only where there is too little memory to decode them whole.",
    ),
    SettingSpec(
        name="max_batch_rows", section="performance", kind="int", default=16, low=2, high=128,
        label="Rows per pass", help="Most rows of one forward pass; a picture with guidance takes two.",
    ),
    SettingSpec(
        name="hash_models", section="performance", kind="bool", default=True,
        label="Hash checkpoints in the background",
        help="Compute the short hash that AUTOMATIC1111 shows, while nothing else runs.",
    ),
    SettingSpec(
        name="language", section="interface", kind="choice", default="auto", choices=("auto", "en", "de", "it"),
        label="Language", help="auto follows the browser.",
    ),
    SettingSpec(
        name="theme", section="interface", kind="choice", default="system", choices=("system", "dark", "light"),
        label="Theme", help="system follows the browser.",
    ),
    SettingSpec(
        name="gallery_thumb_size", section="interface", kind="int", default=220, low=80, high=512,
        label="Gallery thumbnail size (pixels)", help="Width of a picture in the gallery's grid.",
    ),
    SettingSpec(
        name="confirm_delete", section="interface", kind="bool", default=False, label="Ask before deleting",
        help="Ask before pictures go to the trash, from where they can be brought back.",
    ),
    SettingSpec(
        name="remember_form", section="interface", kind="bool", default=True, label="Remember the form",
        help="Bring back what was typed after a reload.",
    ),
    SettingSpec(
        name="keep_jobs_days", section="system", kind="int", default=30, low=1, high=3650,
        label="Keep finished jobs (days)", help="How long ended jobs stay listed; pictures are never deleted by this.",
    ),
)  # fmt: skip
