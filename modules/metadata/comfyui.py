"""ComfyUI: `prompt` is the graph that was computed, {id: {"class_type", "inputs": {name: value or [id, output]}}}.

From the sampler that begins with an empty latent its links are followed back: to the texts, the checkpoint, the size.
Graphs come from anywhere: every walk remembers where it was, and none is recursive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modules.core.errors import MetadataError
from modules.core.metadata import Fields, Reading, Texts, model_name, parsed_object, plain, reader, reading

MAX_NODES = 20_000
_MODEL_NAMES = ("ckpt_name", "unet_name", "model_name", "base_ckpt_name")
_TEXT_NAMES = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "text_positive")
_VALUE_NAMES = ("value", "text", "string", "seed", "noise_seed", "int", "float", "number", "Number", "String")

Node = Mapping[str, Any]
Link = tuple[str, int]


@reader("comfyui", label="ComfyUI", rank=950)
def comfyui(texts: Texts) -> Reading | None:
    """After AUTOMATIC1111's text, which savers for ComfyUI write beside the graph, in the words that were meant."""
    text = texts.get("prompt", "")
    if not text.lstrip().startswith("{"):
        text = _after(texts.get("exif:Make", ""), "Prompt:") or _after(texts.get("exif:Model", ""), "prompt:")
    if not text:
        if texts.get("workflow", "").lstrip().startswith("{"):
            raise MetadataError("The picture holds ComfyUI's workflow as it is drawn, and not the graph it computed.")
        return None
    graph = _Graph(parsed_object(text, "ComfyUI's graph"))
    return graph.reading() if graph.nodes else None


def _after(text: str, name: str) -> str:
    """In WebP files the graph stands behind its name in an EXIF field."""
    return text[len(name) :] if text[: len(name)].lower() == name.lower() else ""


class _Graph:
    """A graph, and walks through it. nodes: those that are nodes at all."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        if len(values) > MAX_NODES:
            raise MetadataError(f"ComfyUI's graph has more than {MAX_NODES:,} nodes and is not read.")
        self.nodes: dict[str, Node] = {
            name: node
            for name, node in values.items()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict) and plain(node.get("class_type"))
        }

    def reading(self) -> Reading:
        samplers = [name for name in self.nodes if self._samples(name)]
        if not samplers:
            return reading("ComfyUI", "", "", Fields(), "No node of its graph is a sampler that is known here.")
        first = next((name for name in samplers if self._first_pass(name)), samplers[0])
        fields = Fields()
        self._sampling(first, fields)
        model = self._loader(first, fields)
        self._latent(first, fields)
        positive, negative = self._conditioning(first)
        self._encoder(positive, fields)
        self._decoder(first, fields)
        notes = []
        if len(samplers) > 1:
            notes.append(f"Its graph has {len(samplers)} samplers; these are the settings of the first pass.")
        prompt = self._text(positive) + "".join(f" <lora:{name}:{weight}>" for name, weight in model)
        return reading("ComfyUI", prompt, self._text(negative), fields, *notes)

    # -- walking ---------------------------------------------------------------------------------------------------

    def _inputs(self, name: str) -> Mapping[str, Any]:
        inputs: Mapping[str, Any] = self.nodes[name]["inputs"]
        return inputs

    def _class(self, name: str) -> str:
        return plain(self.nodes[name]["class_type"])

    def _link(self, value: object) -> Link | None:
        """Where an input comes from, if it is a link to a node that there is."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and str(value[0]) in self.nodes:
            return str(value[0]), value[1]
        return None

    def _back(self, start: str, *names: str) -> Iterator[str]:
        """Nodes from `start` on along the first of these inputs that is linked, nearest first."""
        seen: set[str] = set()
        current: str | None = start
        while current is not None and current not in seen:
            seen.add(current)
            yield current
            inputs = self._inputs(current)
            links = (self._link(inputs.get(name)) for name in names)
            current = next((link[0] for link in links if link), None)

    def _above(self, start: str) -> Iterator[str]:
        """Every node that `start` depends on, itself first, nearest first."""
        seen, waiting = {start}, [start]
        for name in waiting:  # grows while it is walked
            yield name
            for value in self._inputs(name).values():
                if (link := self._link(value)) and link[0] not in seen:
                    seen.add(link[0])
                    waiting.append(link[0])

    def _value(self, value: object) -> str:
        """An input's value as text, through primitives and reroutes."""
        seen: set[str] = set()
        while link := self._link(value):
            if link[0] in seen:
                return ""
            seen.add(link[0])
            inputs = self._inputs(link[0])
            named = [inputs[name] for name in _VALUE_NAMES if name in inputs]
            value = named[0] if named else next(iter(inputs.values()), None)
        return plain(value)

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def _samples(self, name: str) -> bool:
        inputs = self._inputs(name)
        classic = "positive" in inputs and ("steps" in inputs or "sigmas" in inputs)
        return classic or ("guider" in inputs and "sigmas" in inputs)

    def _latents(self, name: str) -> Iterator[str]:
        return self._back(name, "latent_image", "samples", "latent", "pixels", "image", "images")

    def _first_pass(self, name: str) -> bool:
        """Whether no other sampler's latent goes into this one."""
        return not any(self._samples(each) for each in list(self._latents(name))[1:])

    def _sampling(self, name: str, fields: Fields) -> None:
        inputs = dict(self._inputs(name))
        for part in ("noise", "sampler", "sigmas", "guider"):  # the pieces that SamplerCustom is put together from
            if link := self._link(inputs.get(part)):
                inputs = {**self._inputs(link[0]), **inputs}
        fields.put("Steps", self._value(inputs.get("steps")))
        fields.put_sampling(self._value(inputs.get("sampler_name")), self._value(inputs.get("scheduler")))
        fields.put("CFG scale", self._value(inputs.get("cfg")))
        fields.put("Seed", self._value(inputs.get("seed", inputs.get("noise_seed"))))
        denoise = self._value(inputs.get("denoise"))
        fields.put("Denoising strength", "" if denoise in ("1", "1.0") else denoise)

    def _loader(self, name: str, fields: Fields) -> list[tuple[str, str]]:
        """Puts down the checkpoint; returns the LoRAs on the way to it, name and weight, in their order."""
        loras: list[tuple[str, str]] = []
        link = self._link(self._inputs(name).get("guider"))
        for each in self._back(link[0] if link else name, "model", "model1", "base_model", "guider"):
            inputs = self._inputs(each)
            if lora := model_name(self._value(inputs.get("lora_name"))):
                loras.append((lora, self._value(inputs.get("strength_model")) or "1"))
            found = next((model_name(self._value(inputs[key])) for key in _MODEL_NAMES if key in inputs), "")
            if found:
                fields.put("Model", found)
                break
        return loras[::-1]

    def _latent(self, name: str, fields: Fields) -> None:
        for each in self._latents(name):
            inputs = self._inputs(each)
            if "width" in inputs and "height" in inputs:
                fields.put_size(self._value(inputs["width"]), self._value(inputs["height"]))
                return

    def _conditioning(self, name: str) -> tuple[Link | None, Link | None]:
        inputs = self._inputs(name)
        if link := self._link(inputs.get("guider")):
            inputs = self._inputs(link[0])
        return self._link(inputs.get("positive", inputs.get("conditioning"))), self._link(inputs.get("negative"))

    def _encoder(self, start: Link | None, fields: Fields) -> None:
        """Clip skip: -2 is the layer before the last, which is AUTOMATIC1111's 2."""
        for name in self._above(start[0]) if start else ():
            layer = self._value(self._inputs(name).get("stop_at_clip_layer"))
            if layer.startswith("-") and layer[1:].isdigit() and int(layer) < -1:
                fields.put("Clip skip", layer[1:])
                return

    def _decoder(self, first: str, fields: Fields) -> None:
        """The VAE of the node that decodes what the sampler made, where it was loaded by itself."""
        for name in self.nodes:
            inputs = self._inputs(name)
            vae = self._link(inputs.get("vae"))
            if vae and "samples" in inputs and first in set(self._back(name, "samples")):
                for each in self._back(vae[0], "vae"):
                    fields.put("VAE", self._value(self._inputs(each).get("vae_name")))

    def _text(self, start: Link | None) -> str:
        """The text of a conditioning. Two that are combined are AND, two that are put one after another are BREAK."""
        parts: list[str] = []
        seen: set[Link] = set()
        waiting: list[Link | str] = [start] if start else []  # a stack: the next one stands last
        while waiting:
            place = waiting.pop()
            if isinstance(place, str):
                parts.append(place)
                continue
            if place in seen:
                continue
            seen.add(place)
            inputs, kind = self._inputs(place[0]), self._class(place[0])
            if "ZeroOut" in kind:
                continue
            said = [self._value(inputs[name]) for name in _TEXT_NAMES if name in inputs]
            if any(said):
                parts.append("\n".join(dict.fromkeys(filter(None, said))))
                continue
            word = " BREAK " if "Concat" in kind else " AND "
            for number, link in enumerate(reversed(self._sources(inputs, place[1]))):
                waiting += [word, link] if number else [link]
        return "".join(_without_loose_words(parts))

    def _sources(self, inputs: Mapping[str, Any], output: int) -> list[Link]:
        """The conditionings that go into a node, of its output's side where it passes on both prompts."""
        if "positive" in inputs and "negative" in inputs:
            links = [self._link(inputs["negative" if output == 1 else "positive"])]
        else:
            names = sorted(name for name in inputs if name.startswith("conditioning"))
            # "to" comes before "from": what is concatenated is put behind it
            names.sort(key=lambda name: name.endswith("_from"))
            links = [self._link(inputs[name]) for name in names]
            if not names:
                links = [self._link(value) for name, value in inputs.items() if name not in ("clip", "vae", "model")][
                    :1
                ]
        return [link for link in links if link]


def _without_loose_words(parts: list[str]) -> list[str]:
    """An AND or BREAK stands between two texts and nowhere else."""
    kept: list[str] = []
    for part in parts:
        if part in (" AND ", " BREAK ") and (not kept or kept[-1] in (" AND ", " BREAK ")):
            continue
        kept.append(part)
    return kept[:-1] if kept and kept[-1] in (" AND ", " BREAK ") else kept
