"""ProtoCLIP: CLIP, and each picture must also name the cluster that its caption is in, and the other way round.

Telling pairs apart groups what is alike only as a side effect. Here training goes in short episodes: before each, the
rows of the episode are embedded and clustered; then the loss asks, beside CLIP's question, which prototype a row is
near to, where the prototypes are the other side's clusters translated back into the own space (`prototypes.py`), or
those of an external teacher of captions.
The price is one more forward pass for every row and a clustering (both counted in the FLOPs), and prototypes that grow
old within an episode.

The first episode has CLIP's loss alone: prototypes of an untrained model are noise. So have the last ones, in which the
image tower stands still and the text tower catches up with it. How many episodes a budget holds is not known before it
is used; the last ones begin where the rest of the budget is nearest to so many episodes like the one just over. Unlike
in the paper the image tower's learning rate has no cosine of its own that ends there.

An episode's rows are those that the mix gives (each once before any comes again), not drawn with replacement; they are
changed at random when they are embedded, as in the official code. k-means is scikit-learn's.

Source: D. Chen et al., "Prototypical Contrastive Language Image Pretraining" (arXiv 2206.10996), and its official code.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from warmstart.errors import DataError, ModelError, UserError
from warmstart.models.evaluating import evaluating
from warmstart.models.two_towers import embed, frozen_image_tower, unwrapped, width
from warmstart.named_models import ModelName
from warmstart.objectives import Batch, Loss, Outlook, Row
from warmstart.objectives.caption_teachers import teacher_vectors
from warmstart.objectives.clip import clip_loss
from warmstart.objectives.episode import CLOSING, NOBODY, PHASES, PROTOTYPES, WARM_UP, Episode
from warmstart.objectives.in_batch import gathered
from warmstart.objectives.pairs import ImageText, keep_in_bounds
from warmstart.objectives.prototypes import k_means, prototype_loss, soft_targets, translated_back


class ProtoClip(ImageText):
    """CLIP with prototypes: pictures and captions also name each other's clusters.

    Example:
        In one's own loop, with a `CLIPModel` of `transformers`, a tokenizer, and rows with `text`, `image` (the path of
        a file) and `number` (their place in the list)::

            objective = ProtoClip(prototypes=2, episode=8, closing=0, hidden=8, outputs=4).for_model(model)
            extra = objective.start(model, tokenizer, rows)
            optimizer = torch.optim.AdamW([*model.parameters(), *extra.parameters()], lr=1e-3)
            generator = np.random.default_rng(0)

            def batch_of(some, purpose):
                return objective.collate(some, tokenizer, generator)

            for episode in range(2):
                ahead = generator.permutation(8).tolist()
                objective.refresh(Outlook(model, extra, rows, ahead, 4, episode, 0.5 * episode, batch_of))
                for start in (0, 4):
                    batch = batch_of([rows[number] for number in ahead[start : start + 4]], ())
                    loss = objective.loss(model, batch, extra)
                    loss.total.backward()
                    optimizer.step()
                    optimizer.zero_grad()
    """

    type: Literal["protoclip"] = "protoclip"
    augment: Literal["none", "crop", "strong"] = Field("strong", description="Random changes of the pictures.")
    prototypes: Annotated[int, Field(ge=2)] = Field(200, description="Clusters of each side (paper: 20,000).")
    episode: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Rows of an episode at most, in whole steps; default: 10 per prototype, at least 2,000."
    )
    warm_up: Annotated[int, Field(ge=0)] = Field(1, description="Episodes at the beginning with CLIP's loss alone.")
    closing: Annotated[int, Field(ge=0)] = Field(
        2, description="Episodes at the end with CLIP's loss alone and the image tower standing still."
    )
    back_translation: bool = Field(
        True, description="Prototypes are means of the own side's embeddings; false: the other side's centroids."
    )
    temperature: Annotated[float, Field(gt=0)] | None = Field(
        0.01, description="Of the targets, which prototypes alike share; null: the own prototype alone."
    )
    prototype_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the prototypes' loss.")
    teacher: ModelName | None = Field(
        None, description="Clusters of captions too: tf-idf, a .npy file with a row per training row, or a text model."
    )
    teacher_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="Weight of the teacher's prototypes' loss.")
    hidden: Annotated[int, Field(ge=1)] = Field(2048, description="Width of the projection heads, inside.")
    outputs: Annotated[int, Field(ge=1)] = Field(128, description="Dimensions in which rows are clustered.")

    @model_validator(mode="after")
    def _consistent(self) -> ProtoClip:
        if self.prototypes > self.rows_of_episode:
            raise ValueError(
                f"prototypes: {self.prototypes} need as many rows to cluster; an episode has {self.rows_of_episode}"
            )
        if self.teacher is not None and not self.back_translation:
            raise ValueError("teacher: an external teacher has a space of its own: it needs back_translation: true")
        return self

    @property
    def rows_of_episode(self) -> int:
        return self.episode if self.episode is not None else max(10 * self.prototypes, 2000)

    def refresh_every(self, batch_size: int) -> int:
        """Whole steps of an episode.

        Raises:
            UserError: an episode has fewer rows than a step.
        """
        if batch_size > self.rows_of_episode:
            raise UserError(
                f"objective {self.name}: an episode of {self.rows_of_episode} rows is less than a step of {batch_size}"
            )
        return self.rows_of_episode // batch_size

    def phase(self, extra: nn.Module | None) -> str:
        return PHASES[extra.phase] if isinstance(extra, Episode) else ""

    def start(self, model: nn.Module, tokenizer: Any = None, rows: Sequence[Row] = ()) -> Episode:
        """The heads, and nothing clustered yet; the teacher's vectors of all captions.

        Raises:
            DataError: fewer rows than prototypes; the teacher's vectors do not fit the rows.
            ModelError: the model has no two towers, or there is no such teacher.
        """
        super().start(model, tokenizer, rows)
        if len(rows) < self.prototypes:
            raise DataError(
                f"objective {self.name}: {self.prototypes} prototypes, but only {len(rows)} training rows to cluster"
            )
        made = Episode(width(model), self.hidden, self.outputs, self.rows_of_episode, self.prototypes)
        if self.teacher is not None:
            texts = [rows[number]["text"] for number in range(len(rows))]
            made.teacher, made.teacher_flops = teacher_vectors(self.teacher, texts)
        return made.to(unwrapped(model).logit_scale.device)

    @torch.no_grad()
    def refresh(self, outlook: Outlook) -> float:
        """A new episode: which phase it is in, and where there are prototypes, its rows' clusters.

        Returns:
            FLOPs of the clusterings, and with the first of them of the teacher.

        Raises:
            DataError: the episode has fewer different rows than prototypes.
        """
        episode = _episode(outlook.extra, self.name)
        before = float(episode.began)
        left, each = 1 - outlook.progress, outlook.progress - before
        number = int(episode.number)
        last = number > 0 and self.closing > 0 and left <= (self.closing + 0.5) * each
        episode.number += 1
        episode.began.fill_(outlook.progress)
        if episode.phase == CLOSING or last or number < self.warm_up:
            episode.kind.fill_(CLOSING if episode.phase == CLOSING or last else WARM_UP)
            return 0.0
        first = episode.phase != PROTOTYPES
        episode.kind.fill_(PROTOTYPES)
        numbers = np.unique(np.asarray(outlook.ahead, dtype=np.int64))
        image, text = self._projected(outlook, episode, numbers)
        return self._cluster(episode, numbers, image, text, outlook.seed) + (episode.teacher_flops if first else 0.0)

    def _projected(self, outlook: Outlook, episode: Episode, numbers: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows' projected embeddings in evaluation mode, `(rows, outputs)` each; 0 for what is not a number."""
        images, texts = [], []
        with evaluating(outlook.model), evaluating(episode):
            for start in range(0, len(numbers), outlook.batch_size):
                some = [outlook.rows[int(number)] for number in numbers[start : start + outlook.batch_size]]
                batch = outlook.batch_of(some, ("episode", int(episode.number), start))
                found = embed(outlook.model, batch["input_ids"], batch["pixel_values"], batch["attention_mask"])
                image, text = episode.projected(found.image, found.text)
                images.append(image.nan_to_num())
                texts.append(text.nan_to_num())
        return torch.cat(images), torch.cat(texts)

    def _cluster(
        self, episode: Episode, numbers: np.ndarray, image: torch.Tensor, text: torch.Tensor, seed: int
    ) -> float:
        """Clusters each side and writes down labels, centroids and prototypes; the FLOPs of that."""
        device, total = image.device, 0.0
        episode.members.fill_(NOBODY)
        episode.members[: len(numbers)] = torch.from_numpy(numbers).to(device)
        sides: dict[str, np.ndarray] = {"image": image.cpu().numpy(), "text": text.cpu().numpy()}
        if episode.teacher is not None:
            sides["teacher"] = episode.teacher[numbers]
        labels: dict[str, torch.Tensor] = {}
        for side, vectors in sides.items():
            try:
                found, centroids, flops = k_means(vectors, self.prototypes, seed)
            except DataError as error:
                raise DataError(f"objective {self.name}: {error} different ones in this episode") from error
            labels[side] = torch.from_numpy(found).to(device)
            episode.get_buffer(f"{side}_labels")[: len(numbers)] = labels[side]
            if side != "teacher":
                episode.get_buffer(f"{side}_centroids").copy_(torch.from_numpy(centroids))
            total += flops
        students = {"image": image, "text": text}
        for student, members in students.items():
            for teacher in labels:
                if teacher == student:
                    continue
                prototypes = episode.get_buffer(f"{student}_of_{teacher}")
                if self.back_translation:
                    prototypes.copy_(translated_back(members, labels[teacher], self.prototypes))
                else:
                    prototypes.copy_(episode.get_buffer(f"{teacher}_centroids"))
        return total

    def loss(self, model: nn.Module, batch: Batch, extra: nn.Module | None = None) -> Loss:
        """CLIP's loss, and in an episode with prototypes, in training, the mean of both sides' loss by prototypes.

        Raises:
            ModelError: `extra` is not what `start` made.
            DataError: a row is none of the episode's.
            UserError: the loss is not a number.
        """
        episode = _episode(extra, self.name)
        keep_in_bounds(episode.log_scale)
        log_scale = keep_in_bounds(unwrapped(model).logit_scale)
        given = (batch["input_ids"], batch["pixel_values"], batch["attention_mask"])
        still = model.training and episode.phase == CLOSING
        with frozen_image_tower(model) if still else nullcontext():
            found = embed(model, *given)
        loss = clip_loss(gathered(found.image), gathered(found.text), log_scale)
        if model.training and episode.phase == PROTOTYPES and "numbers" in batch:
            image, text = episode.projected(found.image, found.text)
            named = self._by_prototypes(episode, image, text, episode.places(batch["numbers"]))
            loss.parts |= {"clip/loss": loss.total.detach()} | {name: value.detach() for name, value in named.items()}
            for name, value in named.items():
                weight = self.teacher_weight if name.startswith("teacher") else self.prototype_weight
                if weight:
                    loss.total = loss.total + weight * value
        if model.training and not torch.isfinite(loss.total):
            raise UserError(
                f"objective {self.name}: the loss is {loss.total.item()} in episode {int(episode.number)}; "
                "lower train.learning_rate"
            )
        return loss

    def _by_prototypes(
        self, episode: Episode, image: torch.Tensor, text: torch.Tensor, places: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The losses by the other side's prototypes and by the teacher's, nats per row, each the mean of both sides."""
        students = {"image": gathered(image), "text": gathered(text)}
        places = gathered(places)
        losses: dict[str, torch.Tensor] = {}
        for student, teacher in (("image", "text"), ("text", "image")):
            labels, centroids = episode.get_buffer(f"{teacher}_labels"), episode.get_buffer(f"{teacher}_centroids")
            targets = soft_targets(centroids, labels[places], self.temperature)
            own = episode.get_buffer(f"{student}_of_{teacher}")
            value = prototype_loss(students[student], own, episode.log_scale, targets) / 2
            losses["prototypes/loss"] = losses.get("prototypes/loss", 0) + value
            if episode.teacher is not None:
                own = episode.get_buffer(f"{student}_of_teacher")
                hard = soft_targets(own, episode.teacher_labels[places], None)
                value = prototype_loss(students[student], own, episode.log_scale, hard) / 2
                losses["teacher/loss"] = losses.get("teacher/loss", 0) + value
        return losses


def _episode(extra: nn.Module | None, name: str) -> Episode:
    if not isinstance(extra, Episode):
        raise ModelError(f"objective {name}: its loss needs what start(model, tokenizer, rows) returned")
    return extra
