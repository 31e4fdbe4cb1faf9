"""A tiny base, adapters on it as peft writes them, and what torch makes of a text with both: the numbers to reach."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModel, BertConfig, BertModel

from guardproxy.backends.onnx import card as cards
from guardproxy.backends.onnx.card import SEQUENCE, TOKENS, Card
from guardproxy.backends.onnx.encode import ROLES, SHAPES
from guardproxy.training import lora
from guardproxy.training.graph import Branch

torch.set_num_threads(1)  # what is tiny is slower on more

LAYERS, HIDDEN, HEADS, POSITIONS = 6, 32, 4, 320
NAME = "tiny-base"
CHECKS = {
    "toxicity": (SEQUENCE, 5, ("unsafe", "toxic")),
    "injection": (SEQUENCE, 5, ("injection",)),
    "compliance": (SEQUENCE, 5, ("noncompliant", "guarantee", "advice")),
    "pii": (TOKENS, 4, ("PERSON", "ADDRESS")),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-_/()<>[]{}@#+=*&%$"
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *ROLES.values(),
    *_LETTERS,
    *(f"##{letter}" for letter in _LETTERS[:36]),
    *(f"word{number}" for number in range(40)),
]


def make_base(folder: Path, seed: int = 0) -> Path:
    """Weights, configuration and tokenizer of a random BERT."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=POSITIONS,
        initializer_range=0.1,
    )
    model = BertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.normal_(1.0 if name.endswith("LayerNorm.weight") else 0.0, 0.2)
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece({word: n for n, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_truncation(128)
    tokenizer.enable_padding(length=128)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def make_adapter(base: Path, folder: Path, depth: int, seed: int, **options: Any) -> Path:
    """A LoRA with random weights on all linear maps from layer `depth` on."""
    torch.manual_seed(seed)
    layers = "|".join(str(number) for number in range(depth, LAYERS))
    target = rf".*encoder\.layer\.({layers})\..*(query|key|value|dense)"
    settings = {"r": 4, "lora_alpha": 8, "target_modules": target, **options}
    model = get_peft_model(AutoModel.from_pretrained(base), LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / lora.CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": NAME}))
    return folder


def make_head(folder: Path, kind: str, labels: int, seed: int) -> Path:
    """A head with random weights."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) * 0.3

    out = {"out.weight": normal(labels, HIDDEN), "out.bias": normal(labels)}
    own = {"dense.weight": normal(HIDDEN, HIDDEN), "dense.bias": normal(HIDDEN)}
    own = own if kind == SEQUENCE else {"shape.weight": normal(SHAPES, HIDDEN)}
    save_file(out | own, folder / "head.safetensors")
    return folder / "head.safetensors"


def make_work(work: Path, base: Path, checks: Sequence[str] = tuple(CHECKS), *, shared: bool = True) -> Path:
    """The run directories of a training: one for each of `checks`, and the shared one."""
    below = ""
    if shared:
        make_adapter(base, work / "shared", 0, seed=100)
        (work / "shared" / "train.yaml").write_text("check: shared\nversion: '3'\n")
        below = sha256((work / "shared" / lora.WEIGHTS).read_bytes()).hexdigest()
    for seed, check in enumerate(checks):
        kind, depth, labels = CHECKS[check]
        folder = make_adapter(base, work / check, depth, seed)
        pins = sha256((base / "model.safetensors").read_bytes()).hexdigest()
        card = Card(check, "1", kind, labels, pins, below, depth, max_tokens=64, overlap=16, roles=ROLES)
        make_head(folder, kind, card.outputs, seed)
        cards.dump(card, folder / "card.yaml")
        (folder / "train.yaml").write_text(f"check: {check}\n")
    return work


def weights(base: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The base's weights and configuration, as the graph takes them."""
    return load_file(base / "model.safetensors"), json.loads((base / "config.json").read_text())


def branches(work: Path, checks: Sequence[str] = tuple(CHECKS)) -> list[Branch]:
    """The run directories as branches."""
    heads = {check: load_file(work / check / "head.safetensors") for check in checks}
    return [Branch(c, *CHECKS[c][:2], lora.read(work / c).deltas(), heads[c]) for c in checks]


def text(tokens: int, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random ids and shapes of a text."""
    random = np.random.default_rng(seed)
    return {
        "ids": random.integers(0, len(VOCABULARY), tokens),
        "shapes": random.integers(0, SHAPES, tokens),
    }


class Expected:
    """What torch, transformers and peft make of a text: the base, the shared adapter, a check's own, its head."""

    def __init__(self, base: Path, work: Path, checks: Sequence[str] = tuple(CHECKS)) -> None:
        self._models, self._heads = {}, {}
        for check in checks:
            model = AutoModel.from_pretrained(base)
            if (work / "shared").is_dir():
                model = PeftModel.from_pretrained(model, str(work / "shared")).merge_and_unload()
            model = PeftModel.from_pretrained(model, str(work / check))  # not merged: the adapter runs beside the base
            self._models[check] = model.eval()
            head = load_file(work / check / "head.safetensors")
            self._heads[check] = {name: torch.from_numpy(value).float() for name, value in head.items()}

    @torch.inference_mode()
    def __call__(self, check: str, given: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """Logits of `check`."""
        kind, depth, _ = CHECKS[check]
        head, model = self._heads[check], self._models[check]
        ids, shapes = (torch.from_numpy(given[name])[None] for name in ("ids", "shapes"))
        if kind == SEQUENCE:
            first = model(input_ids=ids).last_hidden_state[:, 0]
            bent = torch.nn.functional.gelu(first @ head["dense.weight"].T + head["dense.bias"])
            return (bent @ head["out.weight"].T + head["out.bias"])[0].numpy()

        def enter(_: Any, args: Any, kwargs: Any) -> Any:
            return (args[0] + head["shape.weight"][shapes], *args[1:]), kwargs

        layer = model.base_model.model.encoder.layer[depth]
        hook = layer.register_forward_pre_hook(enter, with_kwargs=True)
        states = model(input_ids=ids).last_hidden_state[0]
        hook.remove()
        return (states @ head["out.weight"].T + head["out.bias"]).numpy()
