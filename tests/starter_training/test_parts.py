"""The starter's training, apart from training: data, words, optimiser, and the file that comes out of it."""

from __future__ import annotations

import colorsys
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

from models.starter_training import export, networks, scenes
from models.starter_training.art import SPRITE, STYLES, Concept, Sprite, concepts
from models.starter_training.finished import drawer_of
from models.starter_training.optimiser import Optimiser, orthogonal
from models.starter_training.scenes import BACKGROUNDS, TINTS, Scene
from models.starter_training.words import Words
from modules.backbones.sd1 import sd1
from modules.core.checkpoint import Separate, read_header
from modules.core.family import Family, recognise
from modules.core.plugin import collect
from tests.engine.small import placement
from tests.passes import denoise


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


def disc(colour: tuple[int, int, int]) -> Sprite:
    """A disc of one colour, with a white shine."""
    down, right = np.mgrid[:SPRITE, :SPRITE]
    inside = (down - SPRITE / 2) ** 2 + (right - SPRITE / 2) ** 2 < (SPRITE / 2.2) ** 2
    pixels = np.zeros((SPRITE, SPRITE, 4), np.uint8)
    pixels[inside] = (*colour, 255)
    pixels[80:110, 80:110] = 255
    return Sprite(0, "3d", pixels)


def test_there_are_enough_concepts_and_each_has_a_name_of_its_own() -> None:
    found = concepts()
    names = [name for concept in found for name in (concept.name, *concept.others)]
    assert len(found) >= 200
    assert len(set(names)) == len(names)
    assert len(STYLES) >= 3


@pytest.mark.parametrize("tint", TINTS)
def test_a_tinted_thing_has_the_colours_hue(tint: str) -> None:
    picture = scenes.drawn(disc((120, 90, 60)), Scene(0, "3d", "white", tint), 64)
    red, green, blue = (int(part) for part in picture[40, 40])
    hue = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)[0] * 360
    assert abs((hue - TINTS[tint][0] + 180) % 360 - 180) < 15
    assert tuple(picture[0, 0]) == BACKGROUNDS["white"]


def test_a_sticker_has_white_paper_and_a_line_around_what_is_tinted() -> None:
    sprite = disc((120, 90, 60))
    picture = scenes.drawn(Sprite(0, "sticker", sprite.pixels), Scene(0, "sticker", "blue", "red"), 256)
    row = [tuple(int(part) for part in pixel) for pixel in picture[128, :128]]
    assert row[0] == BACKGROUNDS["blue"]
    edge = next(place for place, pixel in enumerate(row) if pixel != row[0])
    assert any(np.abs(np.array(pixel) - scenes.SHADE).max() < 12 for pixel in row[edge : edge + 6])
    paper = [pixel for pixel in row[edge:] if min(pixel) > 250]
    assert 8 <= len(paper) <= 16
    red, green, blue = row[127]
    assert red > 2 * max(green, blue)


def test_chance_varies_a_scene_and_its_seed_repeats_it() -> None:
    scene = Scene(0, "3d", "blue")
    one, again, other = (scenes.drawn(disc((200, 30, 30)), scene, 64, random.Random(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_thing_is_lit_and_paled_and_never_mirrored() -> None:
    pixels = np.full((8, 8, 4), (200, 100, 50, 255), np.uint8)
    for light, strength, told in ((1.05, 1.0, [210, 105, 52, 255]), (1.0, 0.0, [117, 117, 117, 255])):
        assert np.abs(scenes.lit(pixels, light, strength)[0, 0].astype(int) - told).max() <= 1
    left = np.zeros((256, 256, 4), np.uint8)
    left[64:192, 32:224] = 255
    left[32:224, 32:96] = (200, 30, 30, 255)  # a red pole, at the left
    sprite = Sprite(0, "3d", left)
    for seed in range(12):
        picture = scenes.drawn(sprite, Scene(0, "3d", "black"), 64, random.Random(seed)).astype(int)
        columns = np.nonzero(picture[..., 0] - picture[..., 1] > 80)[1]
        assert columns.mean() < 32


def test_a_caption_without_a_style_is_of_three_dimensions() -> None:
    concept, chance = Concept("fox", "fox"), random.Random(3)
    for style in ("sticker", "ink"):
        texts = [scenes.caption(Scene(0, style, "teal"), concept, chance) for _ in range(200)]
        assert all(any(word in text for word in scenes.STYLE_WORDS[style]) for text in texts if text)
    texts = [scenes.caption(Scene(0, "3d", "teal"), concept, chance) for _ in range(200)]
    assert 0.4 < np.mean(["style" in text for text in texts if text]) < 0.6


def test_captions_say_what_is_to_be_seen() -> None:
    concept = concepts()[0]
    texts = {scenes.caption(Scene(0, "ink", "teal", "red"), concept, random.Random(n)) for n in range(200)}
    assert "" in texts
    assert all(f"red {concept.name}" in text or "red" in text for text in texts if text)
    assert any("teal" in text for text in texts)
    assert any("ink style" in text for text in texts)
    assert scenes.with_articles("a apple and a pear") == "an apple and a pear"


def test_known_words_have_rows_and_all_others_share_one(words: Words) -> None:
    known, unknown = words.rows(["a red apple", "a qqqqzzz"])
    assert known.shape == (77,)
    assert int(known[0]) == 0
    assert words.unknown not in known.tolist()
    assert words.unknown in unknown.tolist()
    assert known[4:].tolist() == [1] * 73


def test_a_step_of_muon_is_orthogonal_and_lowers_a_loss() -> None:
    matrix = torch.randn(48, 96, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.3
    torch.manual_seed(0)
    layer = torch.nn.Linear(32, 32)
    x, y = torch.randn(64, 32), torch.randn(64, 32)
    optimiser = Optimiser(layer.named_parameters(), ratio=3.0, betas=(0.9, 0.98))
    losses = []
    for _ in range(30):
        loss = (layer(x) - y).square().mean()
        loss.backward()
        optimiser.step(3e-3)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def trained() -> tuple[networks.Drawer, AutoencoderKL]:
    """Networks that answer, other than fresh ones."""
    torch.manual_seed(0)
    model, vae = networks.Drawer(len(Words())).eval(), networks.autoencoder().eval()
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.1)
    return model, vae


def test_the_file_is_a_checkpoint_that_computes_what_was_trained(words: Words, tmp_path: Path) -> None:
    model, vae = trained()
    path = tmp_path / "starter.safetensors"
    save_file(export.tensors_of(model, vae, words), path, metadata=export.metadata())
    info = recognise(read_header(path), collect("modules.families", Family, group="inferenz.families"))
    assert (info.family, info.defaults.width, info.defaults.cfg_scale) == ("sd1", 128, 4.0)
    assert path.stat().st_size < 40_000_000
    begun = drawer_of(path, words)
    assert all(torch.equal(begun[name], value.half().float()) for name, value in model.state_dict().items())
    loaded = sd1.load(info, Separate(), placement())
    with torch.no_grad():
        x = torch.randn(1, 4, 16, 16)
        ids = words.rows(["a red apple"])
        theirs = model.half().float()(x, torch.tensor([500.0]), ids)
        sigma = loaded.noise_levels(128, 128).sigma(500)
        ours = denoise(loaded, x * (sigma**2 + 1) ** 0.5, torch.tensor([sigma]), loaded.encode(["a red apple"], 1)[0])
        noise = (x * (sigma**2 + 1) ** 0.5 - ours) / sigma
        assert float((noise - theirs).abs().max()) < 1e-3
        decoder: AutoencoderKL = vae.half().float()
        picture = decoder.decode(x / 0.18215).sample / 2 + 0.5
        assert float((loaded.decode(x) - picture.clamp(0, 1)).abs().max()) < 1e-3


def test_loaders_of_stable_diffusion_1_open_it_without_its_metadata(words: Words, tmp_path: Path) -> None:
    """Widths are in the shapes; all else is what Stable Diffusion 1 has: heads, groups, names."""
    model, vae = trained()
    path = tmp_path / "starter.safetensors"
    save_file(export.tensors_of(model, vae, words), path)
    info = recognise(read_header(path), collect("modules.families", Family, group="inferenz.families"))
    assert info.config["unet"]["attention_head_dim"] == 8
    assert info.config["text_encoder"]["num_attention_heads"] == 12
    stock = {"norm_num_groups": 32, "layers_per_block": 1}
    unet = {name: networks.UNET[name] for name in ("block_out_channels", "down_block_types", "up_block_types")}
    unet |= {"cross_attention_dim": networks.TEXT_WIDTH, "attention_head_dim": 8, "sample_size": 16} | stock
    coder = {name: networks.VAE[name] for name in ("block_out_channels", "down_block_types", "up_block_types")}
    coder |= {"latent_channels": 4, "sample_size": 128} | stock
    for part, config in (("unet", unet), ("vae", coder)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    opened = UNet2DConditionModel.from_single_file(
        str(path), config=str(tmp_path), subfolder="unet", local_files_only=True
    )
    other = AutoencoderKL.from_single_file(str(path), config=str(tmp_path), subfolder="vae", local_files_only=True)
    x, text = torch.randn(1, 4, 16, 16), torch.randn(1, 77, networks.TEXT_WIDTH)
    with torch.no_grad():
        wanted = model.unet.half().float()(x, torch.tensor([500]), text).sample
        assert float((opened(x, torch.tensor([500]), text).sample - wanted).abs().max()) < 1e-5
        assert float((other.decode(x).sample - vae.half().float().decode(x).sample).abs().max()) < 1e-5
