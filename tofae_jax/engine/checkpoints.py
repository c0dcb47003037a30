"""Checkpoints with Orbax: written in the background, newest and best kept, checked when read.

A checkpoint holds arrays and plain JSON, no code: the model's name and settings rebuild it. Items: `model`
(parameters and batch statistics, enough to evaluate and denoise), `train` (all the rest of the state), `meta`. It is
numbered by the training batches delivered, which is the position in the Grain stream too.
Orbax does not notice a flipped bit in array data, and casts dtypes silently when reading: `meta` holds a checksum per
leaf, with its dtype and shape, and a checkpoint that differs is passed over for the one before it.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from tofae_jax.core.precision import POLICIES
from tofae_jax.core.text import one_line
from tofae_jax.data.storage.interrupts import deferred_interrupts
from tofae_jax.engine.checkpoint_format import (
    WORST,
    CheckpointError,
    CheckpointMeta,
    DamagedError,
    UnwantedError,
    decoded_meta,
    encoded_meta,
    score_of,
)
from tofae_jax.engine.checksums import checksums, misfit_of, structure_of
from tofae_jax.engine.orbax_failures import forget_unfinished, quiet_failures
from tofae_jax.runs.messages import warn
from tofae_jax.steps.state import TrainState, scale_of

NUMBER_DIGITS = 9
"""digits of the number in the name of a checkpoint's folder"""
UNFINISHED = "*.orbax-checkpoint-tmp*"  # folders of saves under way
CLEAN_LOOKS, MOST_LOOKS, LOOK_S = 5, 40, 0.05  # in a row without such a folder, after a failed save


class SaveError(OSError):
    """A checkpoint could not be written, e.g. as the disk is full; the message names the folder."""

    def __init__(self, folder: Path, reason: str) -> None:
        """Say which folder, and what is wrong."""
        super().__init__(errno.EIO, reason, str(folder))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


class _BestScores(checkpoint_managers.PreservationPolicy):
    """Preserve the checkpoints of the highest scores. Orbax's own policy keeps scores in a file without a checksum."""

    def __init__(self, n: int, scores: Callable[[], dict[int, float]], others: set[int]) -> None:
        """Preserve `n` checkpoints by `scores`, by number, and those that are not ours to delete."""
        self._n, self._scores, self._others = n, scores, others

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        """Say which of the checkpoints to preserve."""
        del context
        scores = self._scores()
        known = [info.step for info in checkpoints if info.step in scores]
        best = sorted(known, key=lambda number: (scores[number], number))[len(known) - min(self._n, len(known)) :]
        return [info.step in best or info.step in self._others for info in checkpoints]


def _items(state: TrainState) -> dict[str, Any]:
    """Divide the fields of a state, and those that a subclass adds, among the items of a checkpoint."""
    fields = {
        field.name: getattr(state, field.name)
        for field in dataclasses.fields(state)
        if field.metadata.get("pytree_node", True)  # static ones are the template's
    }
    model = {name: fields.pop(name) for name in ("params", "batch_stats")}
    return {"model": model, "train": fields}


class Checkpoints:
    """A folder of checkpoints of train states, written in the background with Orbax and verified when read.

    A context manager: a save that still runs when the program ends would be lost.

    Args:
        folder: made if missing, unless `read_only`.
        keep: newest checkpoints kept.
        keep_best: best checkpoints (highest score) kept beside them.
        read_only: only read; nothing is cleaned up.

    Raises:
        CheckpointError: `read_only`, and there is no folder.
        SaveError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, *, keep: int = 1, keep_best: int = 1, read_only: bool = False) -> None:
        """Open the folder."""
        folder = Path(folder)
        if keep < 1 or keep_best < 0:
            raise ValueError(f"keep must be at least 1 and keep_best at least 0, got {keep} and {keep_best}")
        if read_only and not folder.is_dir():
            raise CheckpointError(f"{folder}: no checkpoints here")
        policies = checkpoint_managers
        self._prefix, self._scores = _prefix(folder), {}
        self._unwanted: set[int] = set()
        best = _BestScores(keep_best, self.scores, self._unwanted)
        options = ocp.CheckpointManagerOptions(
            save_decision_policy=policies.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            step_prefix=self._prefix,
            step_format_fixed_length=NUMBER_DIGITS,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            read_only=read_only,
        )
        self.folder, self._read_only = folder, read_only
        self._stack = ExitStack()
        try:
            with deferred_interrupts():
                self._manager = ocp.CheckpointManager(folder.resolve(), options=options)
        except OSError as error:
            raise SaveError(folder, f"cannot keep checkpoints here: {error.strerror or error}") from None

    def __enter__(self) -> Checkpoints:
        self._stack.enter_context(quiet_failures())
        self._stack.push(self._close)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _close(self, kind: object, *_: object) -> None:
        """Wait until all is on disk; of a save that failed, nothing is left."""
        try:
            with deferred_interrupts():
                self._manager.close()
        except Exception as error:
            failure = self._not_written(error)
            if kind is None:  # else there is a first failure to tell of
                raise failure from None
        finally:
            if not self._read_only:
                self._remove_unfinished()

    def _remove_unfinished(self) -> None:
        """Remove what a failed save left; writes that are still under way may make it again for a moment."""
        n_clean = 0 if any(self.folder.glob(UNFINISHED)) else CLEAN_LOOKS
        for _ in range(MOST_LOOKS):
            if n_clean == CLEAN_LOOKS:
                return
            found = list(self.folder.glob(UNFINISHED))
            for folder in found:
                shutil.rmtree(folder, ignore_errors=True)
            n_clean = 0 if found else n_clean + 1
            time.sleep(LOOK_S)

    def save(
        self, state: TrainState, meta: CheckpointMeta | Mapping[str, Any] | None = None, *, score: float | None = None
    ) -> Path:
        """Save a state in the background; returns the checkpoint's folder.

        Args:
            state: a `TrainState`, a subclass with further fields, or an ensemble of them.
            meta: notes to be kept with it: names and JSON values, which `restore` returns as `meta.notes`. The
                checkpoint is then numbered by the steps of the state. Or a run's `CheckpointMeta`.
            score: higher is better, not finite is worst; None: not to be compared.

        Raises:
            ValueError: a note is no JSON value.
            SaveError: this save, or the one before in the background, failed; there is a checkpoint of as many steps.
        """
        if self._read_only:
            raise SaveError(self.folder, "opened to read only")
        if not isinstance(meta, CheckpointMeta):
            meta = _meta_of_notes(state, meta or {})
        if meta.batches_delivered in self.numbers():
            raise SaveError(self.folder, f"there is a checkpoint {meta.batches_delivered} already")
        items = _items(state)
        score = None if score is None else float(score) if np.isfinite(score) else WORST
        meta = msgspec.structs.replace(meta, checksums=checksums(items), structure=structure_of(items), score=score)
        items = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args = ocp.args.Composite(**items, meta=ocp.args.JsonSave(encoded_meta(meta)))
        self._scores[meta.batches_delivered] = score
        try:
            with deferred_interrupts():
                is_saved = self._manager.save(meta.batches_delivered, args=args)
        except Exception as error:
            raise self._not_written(error) from None
        if not is_saved:  # Orbax refuses numbers below the newest without a word
            newest = max(self.numbers(), default=None)
            raise SaveError(self.folder, f"checkpoint {meta.batches_delivered} is not saved: there is a later {newest}")
        return self._folder_of(meta.batches_delivered)

    def wait(self) -> None:
        """Until all is on disk; SaveError if it is not."""
        try:
            with deferred_interrupts():
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from None

    def _not_written(self, error: Exception) -> SaveError:
        forget_unfinished(error)
        return SaveError(self.folder, f"a checkpoint could not be written: {_reason(error)}")

    def numbers(self) -> list[int]:
        """Of all checkpoints, rising."""
        return sorted(self._manager.all_steps())

    def scores(self) -> dict[int, float]:
        """Return the scores of the checkpoints that have one and can be read, by number."""
        for number in self.numbers():
            if number not in self._scores:
                try:
                    self._scores[number] = score_of(self.read_meta(number), self._folder_of(number))
                except CheckpointError:
                    self._scores[number] = None
        wanted = [number for number in self.numbers() if number not in self._unwanted]
        return {number: score for number in wanted if (score := self._scores.get(number)) is not None}

    def best(self) -> int | None:
        """Return the number of the best checkpoint, the newest of several; None where none has a score."""
        scores = self.scores()
        return max(scores, key=lambda number: (scores[number], number), default=None)

    def _folder_of(self, number: int) -> Path:
        return self.folder / f"{self._prefix}_{number:0{NUMBER_DIGITS}d}"

    def _where(self, number: int) -> str:
        return f"{self.folder}: checkpoint {number}"

    def read_meta(self, number: int) -> CheckpointMeta:
        """What a checkpoint says of itself; CheckpointError names what is missing or too new."""
        try:
            with deferred_interrupts():
                tree = self._manager.restore(number, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]
        except Exception as error:  # Orbax raises many kinds, bare Exception among them
            raise DamagedError(f"{self._where(number)}: {_shown(error)}") from None
        return decoded_meta(tree, self._where(number))

    def restore(
        self,
        template: TrainState | Callable[[CheckpointMeta], TrainState],
        *,
        best: bool = False,
        objection: Callable[[CheckpointMeta], str | None] = lambda _: None,
        warn: Callable[[str], None] = warn,
    ) -> tuple[TrainState, CheckpointMeta]:
        """Restore the newest (or best) good checkpoint.

        A damaged one is passed over, with a warning, for the newest of the others. Unless opened to read only, the
        damaged ones are then deleted, as a run will save them again. One that is not to be used, as of another run, is
        passed over likewise, but stays.

        Args:
            template: a state of the same shapes, dtypes and placement, e.g. of `create_train_state`, or what makes one
                for a checkpoint's `meta`.
            best: the one of the highest score; False: the newest.
            objection: says why a checkpoint, which is whole, is not to be used; None: it is.
            warn: is given the messages.

        Returns:
            The state and what the checkpoint says of itself.

        Raises:
            CheckpointError: none is whole, or one that is whole does not fit or is newer than this package.
        """
        template_of = (lambda _: template) if isinstance(template, TrainState) else template
        if not callable(template_of):
            raise ValueError(
                f"template must be a TrainState, e.g. of create_train_state, got {type(template).__name__}"
            )
        problems: dict[int, CheckpointError] = {}
        numbers = self.numbers()[::-1]
        if best:
            numbers = self._best_first(numbers, objection, problems)
        for number in numbers:
            try:
                restored = self._restore(number, template_of, objection)
            except (DamagedError, UnwantedError) as error:
                problems[number] = error
                continue
            for passed, problem in problems.items():
                warn(f"{problem}; using checkpoint {number} (epoch {restored[1].epoch}) instead")
                if not self._read_only and isinstance(problem, DamagedError):
                    self._manager.delete(passed)
            return restored
        raise CheckpointError("; ".join(map(str, problems.values())) or f"{self.folder}: holds no finished checkpoint")

    def _best_first(
        self,
        numbers: list[int],
        objection: Callable[[CheckpointMeta], str | None],
        problems: dict[int, CheckpointError],
    ) -> list[int]:
        """Put the best checkpoint that may be used first; damaged ones, whose scores are not known, are problems."""
        scores: dict[int, float] = {}
        for number in numbers:
            try:
                meta = self._wanted_meta(number, objection)
            except (DamagedError, UnwantedError) as error:
                problems[number] = error
            except CheckpointError:  # newer than this package: told when its turn comes
                pass
            else:
                if (score := score_of(meta, self._folder_of(number))) is not None:
                    scores[number] = score
        chosen = max(scores, key=lambda number: (scores[number], number), default=None)
        whole = [number for number in numbers if number not in problems]
        return sorted(whole, key=lambda number: number != chosen)

    def _wanted_meta(self, number: int, objection: Callable[[CheckpointMeta], str | None]) -> CheckpointMeta:
        meta = self.read_meta(number)
        if (reason := objection(meta)) is not None:
            self._unwanted.add(number)
            raise UnwantedError(f"{self._where(number)}: {reason}")
        return meta

    def _restore(
        self,
        number: int,
        template_of: Callable[[CheckpointMeta], TrainState],
        objection: Callable[[CheckpointMeta], str | None],
    ) -> tuple[TrainState, CheckpointMeta]:
        meta = self._wanted_meta(number, objection)
        if meta.precision and meta.precision not in POLICIES:
            raise CheckpointError(f"{self._where(number)}: its precision {meta.precision!r} is not known")
        template = template_of(meta)
        wanted = _items(template)
        if meta.schema_version < 2:  # it knew neither loss scale nor residual: those of a fresh state do
            wanted["train"] = {name: wanted["train"][name] for name in ("step", "opt_state", "key")}
        if (misfit := misfit_of(meta.checksums, wanted)) is not None:
            raise CheckpointError(f"{self._where(number)}: {misfit}")
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), wanted
        )
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(item) for name, item in abstract.items()})
        try:
            with deferred_interrupts():
                items = self._manager.restore(number, args=args)
        except Exception as error:
            is_same = meta.structure == structure_of(wanted)
            if "structures do not match" in str(error) and not is_same:  # whole, but of another optimiser, for example
                raise CheckpointError(
                    f"{self._where(number)}: its tree has another structure than the template; another optimiser?"
                ) from None
            raise DamagedError(f"{self._where(number)}: {_shown(error)}") from None
        found = checksums({name: items[name] for name in wanted})
        different = [name for name, checksum in found.items() if meta.checksums.get(name) != checksum]
        if different:
            raise DamagedError(f"{self._where(number)}: damaged: checksum mismatch in {different[0]}")
        state = template.replace(**items["model"], **items["train"])
        return state.replace(scale=scale_of(state, template)), meta


def _meta_of_notes(state: TrainState, notes: Mapping[str, Any]) -> CheckpointMeta:
    """Describe a checkpoint of no run; ValueError where a note is no JSON value."""
    try:
        plain = msgspec.json.decode(msgspec.json.encode(dict(notes)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"notes must be JSON values: {error}") from None
    if plain != dict(notes):
        raise ValueError(f"notes must be JSON values that stay as they are, got {dict(notes)}, which becomes {plain}")
    step = int(np.max(jax.device_get(state.step)))
    return CheckpointMeta(step=step, batches_delivered=step, notes=plain)


def _reason(error: Exception) -> str:
    """Say why a write failed; of the long errors of TensorStore, what the system said."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(code[1])) if code else _shown(error)


def _shown(error: Exception) -> str:
    return one_line(error, limit=300, tail=170)  # errors of Orbax name their cause at the end


def _prefix(folder: Path) -> str:
    """Of the names of checkpoints; before schema version 2 they were numbered by epoch."""
    return "epoch" if any(folder.glob("epoch_*")) else "step"
