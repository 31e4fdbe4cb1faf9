"""Trains one adapter, from rows to a run directory that the export reads.

- The shared adapter is trained jointly on all tasks. A check's adapter stands on it. What lies below an adapter's depth
  is frozen, so that is computed once for every example and kept; then all epochs see the same examples.
- It stops when the development rows get no better, and keeps the best epoch. A run that was cut off goes on from its
  last epoch; the same configuration and data give the same run.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import AutoModel

from guardproxy.backends.onnx import card as cards
from guardproxy.backends.onnx.encode import ROLES, Encoder
from guardproxy.errors import ConfigError
from guardproxy.evaluation.datasets import LABELS, Row
from guardproxy.training import config as configs
from guardproxy.training import development
from guardproxy.training.base import Base
from guardproxy.training.config import SHARED, TrainConfig
from guardproxy.training.examples import IGNORE, Example, example
from guardproxy.training.model import Judges, SequenceHead, load_head, save_head
from guardproxy.training.progress import Progress
from guardproxy.training.sampling import Sampler, teaches

CHECKPOINT = "checkpoint.pt"
SMOOTHING = 0.02  # of the labels: nobody is that sure
PART = 0.5  # weight of a label beside that of its check's union


@dataclass(slots=True)
class _State:
    """Where a run stands."""

    epoch: int = 0
    best: float = -math.inf
    stale: int = 0
    history: list[Mapping[str, float]] = field(default_factory=list)


def train(config: TrainConfig, rows: Sequence[Row], base: Base, work: Path, progress: Progress) -> Mapping[str, Any]:
    """Trains what `config` says and returns how it went. The result is in `work`/<check>/.

    Raises ConfigError where the rows teach nothing, or a check's adapter has no shared one to stand on.
    """
    return _Run(config, rows, base, work, progress).run()


class _Run:
    def __init__(self, config: TrainConfig, rows: Sequence[Row], base: Base, work: Path, progress: Progress) -> None:
        self.config, self.base, self.work, self.progress = config, base, work, progress
        self.folder = work / config.check
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.encoder = Encoder(base.tokenizer, config.max_tokens, config.overlap)
        mine = [row for row in rows if teaches(row, config.tasks)]
        self.sampler = Sampler([row for row in mine if row.split == "train"], config.sources, config.tasks, config.seed)
        self.dev = development.chosen(mine, config)
        for name in self.sampler.missing:
            progress.say(f"no rows of {name}")
        self.peft, self.net = self._model()
        self.net.to(self.device)

    # -- the model ----------------------------------------------------------------------------------------------------

    def _model(self) -> tuple[Any, Judges]:
        bert = AutoModel.from_pretrained(str(self.base.folder), attn_implementation="sdpa")
        shared = self.work / SHARED
        if self.config.check != SHARED and (shared / "adapter_config.json").exists():
            bert = PeftModel.from_pretrained(bert, str(shared)).merge_and_unload()
        wanted = "|".join(str(n) for n in range(self.config.depth, bert.config.num_hidden_layers))
        lora = LoraConfig(
            r=self.config.rank,
            lora_alpha=self.config.alpha,
            lora_dropout=self.config.dropout,
            target_modules=rf".*encoder\.layer\.({wanted})\..*(query|key|value|dense)",
        )
        peft = get_peft_model(bert, lora)
        depths = dict.fromkeys(LABELS, self.config.depth)
        if self.config.check == SHARED:
            depths["pii"] = max(bert.config.num_hidden_layers - 2, self.config.depth)
        net = Judges(peft.base_model.model, self.config.tasks, depths)
        for task in self.config.tasks:
            start = shared / f"head_{task}.safetensors"
            if self.config.check != SHARED and start.exists():
                load_head(net.heads[task], start)
        return peft, net

    # -- the run ------------------------------------------------------------------------------------------------------

    def run(self) -> Mapping[str, Any]:
        trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.config.rate, weight_decay=self.config.decay)
        state = self._resume(optimizer)
        kept = self._prepared(self._examples(0)) if self.config.depth else None
        while state.epoch < self.config.epochs and state.stale < self.config.patience:
            prepared = kept or self._prepared(self._examples(state.epoch))
            loss = self._epoch(prepared, optimizer, state.epoch)
            score = development.score(self.net, self.dev, self.config, self.encoder, self.device)
            total = float(np.mean(list(score.values()))) if score else -loss
            state.history.append({"loss": loss, "score": total, **score})
            self.progress.say(
                f"epoch {state.epoch + 1}: loss {loss:.4f}  " + "  ".join(f"{k} {v:.4f}" for k, v in score.items())
            )
            state.stale = 0 if total > state.best else state.stale + 1
            if total > state.best:
                state.best = total
                self._save()
            state.epoch += 1
            self._checkpoint(state, optimizer)
        (self.folder / CHECKPOINT).unlink(missing_ok=True)
        report = {"epochs": state.epoch, "best": state.best, "history": state.history}
        (self.folder / "history.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        return report

    def _examples(self, epoch: int) -> list[Example]:
        drawn = self.sampler.epoch(epoch)
        if not drawn:
            raise ConfigError("none of the rows teaches this: are the sources of the configuration there?")
        random = np.random.default_rng((self.config.seed, 1, epoch))
        config = self.config
        return [example(row, source, config.tasks, self.encoder, config.weak, random) for row, source in drawn]

    def _prepared(self, examples: Sequence[Example]) -> list[tuple[Example, Tensor | None]]:
        """With the states that enter the adapter's own layers, where what lies below never changes."""
        if self.config.depth == 0:
            return [(each, None) for each in examples]
        found: list[tuple[Example, Tensor | None]] = []
        self.net.eval()
        for batch in self.progress.track(list(_batches(examples, 64)), "below the adapter"):
            ids, _, mask = _padded(batch, self.device)
            with torch.inference_mode():
                states = self.net.layers(self.net.embed(ids), mask, 0, self.config.depth).to(torch.float16).cpu()
            found += [(each, states[i, : len(each.ids)].clone()) for i, each in enumerate(batch)]
        return found

    def _epoch(self, prepared: Sequence[tuple[Example, Tensor | None]], optimizer: Any, number: int) -> float:
        self.net.train()
        states = {id(each): state for each, state in prepared}
        random = np.random.default_rng((self.config.seed, 2, number))
        batches = list(_batches([each for each, _ in prepared], self.config.batch, random))
        total, seen = 0.0, 0
        for place, batch in enumerate(self.progress.track(batches, f"epoch {number + 1}")):
            for group in optimizer.param_groups:
                group["lr"] = self.config.rate * self._pace(number + place / len(batches))
            loss = self._loss(batch, states)
            if loss is None:
                continue
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
            total, seen = total + loss.item(), seen + 1
        return total / max(seen, 1)

    def _pace(self, epochs: float) -> float:
        """The share of the highest rate: up in a straight line, down along a cosine."""
        done = epochs / self.config.epochs
        if done < self.config.warmup:
            return done / self.config.warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (done - self.config.warmup) / (1 - self.config.warmup)))

    def _loss(self, batch: Sequence[Example], states: Mapping[int, Tensor | None]) -> Tensor | None:
        losses = []
        tagged = [each for each in batch if each.tags is not None]
        judged = [each for each in batch if each.targets]
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            if judged:
                losses.append(self._judged(judged, states) * (len(judged) / len(batch)))
            if tagged:
                losses.append(self._tagged(tagged, states) * (len(tagged) / len(batch)))
        return torch.stack(losses).sum() if losses else None

    def _judged(self, batch: Sequence[Example], states: Mapping[int, Tensor | None]) -> Tensor:
        entering, _, mask, start = self._entering(batch, states)
        first = self.net.first(entering, mask, start)
        weight = torch.tensor([each.weight for each in batch], device=self.device)
        losses = []
        for task in {task for each in batch for task in each.targets}:
            blank = np.full(len(LABELS[task]), np.nan, np.float32)
            target = torch.from_numpy(np.stack([each.targets.get(task, blank) for each in batch])).to(self.device)
            known = ~target.isnan()
            soft = target.nan_to_num() * (1 - 2 * SMOOTHING) + SMOOTHING
            cost = binary_cross_entropy_with_logits(self.net.heads[task](first), soft, reduction="none") * known
            cost[:, 1:] *= PART
            losses.append((cost.sum(1) * weight).sum() / len(batch))
        return torch.stack(losses).sum()

    def _tagged(self, batch: Sequence[Example], states: Mapping[int, Tensor | None]) -> Tensor:
        depth = self.net.depths["pii"]
        entering, shapes, mask, start = self._entering(batch, states)
        if start < depth:
            entering = self.net.layers(entering, mask, start, depth)
        logits = self.net.tag(entering, shapes, mask)
        tags = torch.full(shapes.shape, IGNORE, device=self.device)
        for i, each in enumerate(batch):
            tags[i, : len(each.ids)] = torch.from_numpy(each.tags).to(self.device)
        weight = torch.tensor([each.weight for each in batch], device=self.device)[:, None]
        cost = cross_entropy(logits.flatten(0, 1), tags.flatten(), ignore_index=IGNORE, reduction="none").view_as(tags)
        return (cost * weight).sum() / (tags != IGNORE).sum().clamp(min=1) * 4

    def _entering(
        self, batch: Sequence[Example], states: Mapping[int, Tensor | None]
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """States, shapes, mask, and the layer that the states enter: kept ones, or from the text itself."""
        ids, shapes, mask = _padded(batch, self.device)
        if states[id(batch[0])] is None:
            return self.net.embed(ids), shapes, mask, 0
        kept = torch.zeros(*ids.shape, self.net.bert.config.hidden_size, device=self.device)
        for i, each in enumerate(batch):
            state = states[id(each)]
            if state is not None:
                kept[i, : len(each.ids)] = state.to(self.device, torch.float32)
        return kept, shapes, mask, self.config.depth

    # -- what is kept -------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        config = self.config
        self.peft.save_pretrained(str(self.folder))
        (self.folder / "README.md").unlink(missing_ok=True)
        settings = json.loads((self.folder / "adapter_config.json").read_text("utf-8"))
        settings["base_model_name_or_path"] = self.base.name
        (self.folder / "adapter_config.json").write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n", "utf-8")
        for task in config.tasks:
            name = f"head_{task}.safetensors" if config.check == SHARED else "head.safetensors"
            save_head(self.net.heads[task], self.folder / name)
        configs.dump(config, self.folder / "train.yaml")
        if config.check != SHARED:
            cards.dump(self._card(), self.folder / "card.yaml")

    def _card(self) -> cards.Card:
        config = self.config
        shared = self.work / SHARED / "adapter_model.safetensors"
        kind = cards.SEQUENCE if isinstance(self.net.heads[config.check], SequenceHead) else cards.TOKENS
        return cards.Card(
            check=config.check,
            version=config.version,
            kind=kind,
            labels=LABELS[config.check],
            base=self.base.sha256,
            shared=self.base.hash_of(shared) if shared.exists() else "",
            depth=config.depth,
            max_tokens=config.max_tokens,
            overlap=config.overlap,
            roles=ROLES,
            languages=config.languages,
            about={**config.about, "sources": [source.name for source in config.sources]},
        )

    def _checkpoint(self, state: _State, optimizer: Any) -> None:
        trained = {name: p for name, p in self.net.state_dict().items() if "lora_" in name or name.startswith("heads.")}
        content = {
            "config": repr(self.config),
            "state": [state.epoch, state.best, state.stale, state.history],
            "weights": trained,
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
        }
        unfinished = self.folder / (CHECKPOINT + ".part")
        torch.save(content, unfinished)
        shutil.move(unfinished, self.folder / CHECKPOINT)

    def _resume(self, optimizer: Any) -> _State:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return _State()
        content = torch.load(path, map_location=self.device, weights_only=False)
        if content["config"] != repr(self.config):
            self.progress.say("the configuration has changed since the last run: starting anew")
            return _State()
        self.net.load_state_dict(content["weights"], strict=False)
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["torch"].cpu())
        state = _State(*content["state"])
        self.progress.say(f"going on after epoch {state.epoch}")
        return state


def _batches(examples: Sequence[Example], size: int, random: Any = None) -> Iterator[list[Example]]:
    """Batches of like lengths, and of like tasks; in random order, if `random` is given."""
    order = np.arange(len(examples)) if random is None else random.permutation(len(examples))
    batches = []
    for start in range(0, len(order), size * 64):
        some = [examples[i] for i in order[start : start + size * 64]]
        some.sort(key=lambda each: (each.tags is None, len(each.ids)))
        batches += [some[i : i + size] for i in range(0, len(some), size)]
    if random is not None:
        random.shuffle(batches)
    return iter(batches)


def _padded(batch: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """ids and shapes [batch, tokens], and the mask of what is text [batch, 1, 1, tokens]."""
    longest = max(len(each.ids) for each in batch)
    ids = np.zeros((len(batch), longest), np.int64)
    shapes = np.zeros_like(ids)
    for i, each in enumerate(batch):
        ids[i, : len(each.ids)] = each.ids
        shapes[i, : len(each.ids)] = each.shapes
    tokens = torch.from_numpy(ids).to(device)
    return tokens, torch.from_numpy(shapes).to(device), (tokens != 0)[:, None, None, :]
