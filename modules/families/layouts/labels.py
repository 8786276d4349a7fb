"""What the denoisers that `kinds` tells apart are called, and what those make that no pictures of words come from."""

from __future__ import annotations

from collections.abc import Mapping

OWN: Mapping[str, str] = {
    "flux": "Flux.1", "chroma": "Chroma", "chroma_radiance": "Chroma Radiance", "sd3": "Stable Diffusion 3",
    "z_image": "Z-Image", "qwen_image": "Qwen-Image", "unet": "a UNet of Stable Diffusion's kind",
}  # fmt: skip
PICTURES: Mapping[str, str] = {
    "flux2": "Flux.2", "flux3": "Flux.3", "hunyuan_image": "HunyuanImage", "ovis_image": "Ovis-Image",
    "longcat_image": "LongCat-Image",
    "bria": "Bria or LongCat-Image", "auraflow": "AuraFlow", "qwen_image_2": "Qwen-Image 2",
    "glm_image": "GLM-Image", "cogview4": "CogView3 or CogView4", "hidream": "HiDream", "omnigen2": "OmniGen2",
    "lumina2": "Lumina Image 2", "lumina": "Lumina-Next", "krea2": "Krea 2", "anima": "Anima", "cosmos": "Cosmos",
    "pixart": "PixArt", "sana": "Sana", "hunyuandit": "HunyuanDiT", "kandinsky5": "Kandinsky 5",
    "kandinsky2": "Kandinsky 2", "cascade_b": "Stable Cascade (stage B)", "cascade_c": "Stable Cascade (stage C)",
    "kolors": "Kolors", "deepfloyd": "DeepFloyd IF", "kandinsky3": "Kandinsky 3", "dreamlite": "DreamLite",
    "joyimage": "JoyImage", "nucleus": "Nucleus-Image", "ernie_image": "Ernie-Image", "ideogram4": "Ideogram 4",
    "prx": "PRX", "dit": "DiT", "newbie": "NewBie Image", "boogu": "Boogu-Image", "lens": "Lens",
    "hidream_o1": "HiDream-O1", "omnigen": "OmniGen", "hunyuan_image_3": "HunyuanImage 3",
    "amused": "aMUSEd", "pixeldit": "PixelDiT",
}  # fmt: skip
VIDEOS: Mapping[str, str] = {
    "wan": "Wan", "ltx": "LTX-Video", "hunyuan_video": "HunyuanVideo", "mochi": "Mochi", "cogvideo": "CogVideoX",
    "svd": "Stable Video Diffusion", "animatediff": "AnimateDiff", "motif_video": "Motif-Video",
    "sana_video": "Sana-Video", "seedvr2": "SeedVR2",
    "minimax_h3": "MiniMax H3", "kandinsky6": "Kandinsky 6", "video_unet": "ModelScope or I2VGen",
}  # fmt: skip
# Kind -> label, and what it does
OTHERS: Mapping[str, tuple[str, str]] = {
    "stable_audio": ("Stable Audio", "makes sounds"), "ace_step": ("ACE-Step", "makes music"),
    "hunyuan3d": ("Hunyuan3D", "makes shapes in space"), "trellis": ("Trellis", "makes shapes in space"),
    "pid": ("PiD", "decodes latents in the place of a VAE, not supported yet"),
    "prior": ("the prior of Kandinsky 2", "makes no pictures but what its other half draws after"),
}  # fmt: skip


def label_of(kind: str) -> str:
    """What a kind of denoiser is called; "" for none that is known."""
    return {**OWN, **PICTURES, **VIDEOS}.get(kind, "") or OTHERS.get(kind, ("", ""))[0]
