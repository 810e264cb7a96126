"""The GRPO train function: runs on every worker, resumes from the latest checkpoint."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffr_core.adapters import adapter_hash
from ffr_core.engine.loading import model_fingerprint
from ffr_core.prompts import Prompts
from ffr_core.rollout import Filled, Group, fill_batch
from jobs.grpo.building import build_roller, build_updater
from jobs.grpo.carrying import from_json, to_json
from jobs.grpo.config import FREE_KEYS, GrpoConfig
from jobs.grpo.data import Sample, data_records, image_reader, load_samples, make_sampler
from jobs.grpo.reporting import opening_line, step_line, step_values
from jobs.training.checkpoints import (
    Cursor,
    Provenance,
    data_hash,
    load_state,
    provenance,
    random_state,
    save_state,
    seed_everything,
)
from jobs.training.config import check_same_run
from jobs.training.distributed import gather_objects
from jobs.training.logs import RunLog
from jobs.training.run import Deadline, Session

if TYPE_CHECKING:
    from jobs.grpo.policy import PolicyModel


def train(values: dict[str, Any], session: Session) -> dict[str, Any]:
    """Train as a `GrpoConfig` says; returns `step`, `finished` and the last `evaluation`."""
    run = GrpoRun(GrpoConfig.parse(values, "grpo"), session)
    try:
        return run.train()
    finally:
        run.close()


class GrpoRun:
    """State of one worker."""

    def __init__(self, config: GrpoConfig, session: Session) -> None:
        """Load data, models and engines, and the checkpoint if there is one."""
        seed_everything(config.seed)
        self.config, self.session = config, session
        files = (*config.data.train, *config.data.validation)
        self.samples = load_samples(config.data.train, config.data.sft_share)
        self.validation: dict[str, Sample] = (
            load_samples(config.data.validation, limit=config.data.max_validation)
            if config.data.validation
            else {}
        )
        self.prompts = Prompts.load(config.model.prompts)
        self.order, self.left_out = make_sampler(
            self.samples, config.curriculum, config.seed, config.epochs
        )
        # Before anything large is loaded: a cold start that is not there is named here.
        self.provenance = self._provenance()
        planned = math.ceil(len(self.order) / config.rollout.groups_per_step)
        self.num_steps = min(planned, config.max_steps or planned)
        images = image_reader(config.model, files).open
        self.encoder, self.updater = build_updater(config, session, images, self.num_steps)
        self.carried: tuple[Group, ...] = ()
        self.step = 0
        self.last_eval: dict[str, float] = {}
        resumed = self._resume()
        self.roller = build_roller(config, session, files, self.samples, self.prompts, images)
        self.folder = Path(tempfile.mkdtemp(prefix="ffrs-policy-"))
        place = self.step if resumed else -1
        self.log = RunLog(session.folder, place) if session.rank == 0 else None
        self._loaded: int | None = None

    @property
    def policy(self) -> PolicyModel:
        """The model in training."""
        return self.updater.policy

    def train(self) -> dict[str, Any]:
        """Run to the end of the samples, `max_steps` or the deadline."""
        config, deadline = self.config, Deadline(self.config.launch.stop_after_minutes)
        self._say(
            opening_line(len(self.order), len(self.samples), self.left_out)
            + f"; step {self.step} of at most {self.num_steps}, {len(self.carried)} groups carried"
        )
        if self.step == 0 and self.validation:
            self._evaluate()
        saved, last = self.step, self.step == self.num_steps
        while self.step < self.num_steps:
            started, done = time.monotonic(), self._done()
            filled = self._fill()
            if not filled.batch and filled.exhausted:
                last = True
                break
            rolled = time.monotonic()
            numbers = self._update(filled, done)
            self.step += 1
            self._report(filled, numbers, rolled - started, time.monotonic() - rolled)
            last = self.step == self.num_steps or (filled.exhausted and not self.carried)
            ended = deadline.passed()
            evaluated = self.validation and (last or self.step % config.eval_every == 0)
            if evaluated:
                self._evaluate()
            if evaluated or last or ended or self.step % config.checkpoint_every == 0:
                self._save(bool(evaluated))
                saved = self.step
            if last or ended:
                break
        if saved < self.step:
            # The samples ended with a step that gave no batch.
            final = bool(last and self.validation)
            if final:
                self._evaluate()
            self._save(final)
        self._close_log(last)
        return {"step": self.step, "finished": last, "evaluation": self.last_eval}

    def close(self) -> None:
        """Release engines and temporary files."""
        self.roller.sampler.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _provenance(self) -> Provenance:
        records, scores = list(data_records(self.samples)), self.config.curriculum.difficulty
        if scores:
            records.append(Path(scores).read_text("utf-8"))
        model, cold_start = self.config.model, self.config.model.cold_start
        base = model_fingerprint(model.path)
        return provenance(
            self.config.model_dump(mode="json"),
            data_hash(records),
            base if cold_start is None else f"{adapter_hash(cold_start)}:{base}",
            self.prompts.fingerprint,
        )

    def _resume(self) -> bool:
        """Go on from the latest checkpoint; False when there is none."""
        with self.session.checkpoint() as folder:
            if folder is None:
                return False
            check_same_run(self.config.model_dump(mode="json"), folder, FREE_KEYS)
            cursor = load_state(
                folder,
                modules={"policy": self.policy.model},
                optimizer=self.updater.optimizer,
                scheduler=None,
                rank=self.session.rank,
                data_hash=self.provenance.data_hash,
                model=self.provenance.model,
                prompts=self.provenance.prompts,
            )
        self.step = cursor.step
        self.order.cursor = cursor.extra["samples"]
        self.carried = from_json(cursor.extra["carried"])
        self.last_eval = dict(cursor.extra["evaluation"])
        return True

    def _save(self, evaluated: bool) -> None:
        """Checkpoint: adapter, optimizer, random states, place in the data, carried groups."""
        states = gather_objects(random_state())

        def write(folder: Path) -> None:
            save_state(
                folder,
                modules={"policy": self.policy.model},
                optimizer=self.updater.optimizer,
                scheduler=None,
                cursor=Cursor(
                    step=self.step,
                    extra={
                        "samples": self.order.cursor,
                        "carried": to_json(self.carried),
                        "evaluation": self.last_eval,
                    },
                ),
                random_states=states,
                provenance=self.provenance,
            )
            self.policy.save(folder / "adapter")

        self.session.report(self.step, self.last_eval if evaluated else {}, write)

    def _sync(self) -> None:
        """Give the engines the policy of this step."""
        if self._loaded == self.step:
            return
        version = f"policy-v{self.step}"
        self.roller.sampler.load(self.policy.save(self.folder / version), version)
        shutil.rmtree(self.folder / f"policy-v{self._loaded}", ignore_errors=True)
        self._loaded = self.step

    def _fill(self) -> Filled:
        self._sync()
        config, order = self.config.rollout, self.order
        # The stage of the prompts drawn last; a draw never mixes stages.
        stage = [order.stage]

        def draw(count: int) -> list[str]:
            stage[0] = order.stage
            return order.draw(count)

        filled = fill_batch(
            draw,
            lambda ids: self.roller.roll(ids, str(stage[0]), self.step),
            num_groups=config.groups_per_step,
            carried=self.carried,
            max_rounds=config.max_rounds,
            oversample=config.oversample,
            min_spread=config.min_spread,
        )
        self.carried = filled.carried
        return filled

    def _done(self) -> float:
        """Share of the run that lies behind: of the prompts or of `max_steps`, the larger one.

        Dropped groups use up prompts as well, so the prompts may end long before `num_steps`.
        Carried groups are still to be trained on.
        """
        prompts = (self.order.cursor - len(self.carried)) / len(self.order)
        return max(prompts, self.step / (self.config.max_steps or math.inf))

    def _update(self, filled: Filled, done: float) -> dict[str, float]:
        from jobs.grpo.rows import rows_of

        groups = []
        for group in filled.batch:
            sample = self.samples[group.sample_id]
            messages = self.prompts.localize(sample.dialogue, sample.query.query)
            prompt, policy = self.encoder.encode(messages), self.config.policy
            rows = rows_of(group, prompt, policy.share_prompts, policy.scale_rewards)
            groups.append(rows)
        return self.updater.step(groups, self.step, done) if groups else {}

    def _evaluate(self) -> None:
        from jobs.grpo.evaluation import evaluate

        self._sync()
        started = time.monotonic()
        self.last_eval = evaluate(
            self.roller.sampler,
            self.validation,
            self.prompts,
            self.config.rollout.max_new_tokens,
            rank=self.session.rank,
            world_size=self.session.world_size,
        )
        if self.log:
            self.log.write(self.step, {f"eval/{k}": v for k, v in self.last_eval.items()})
        self._say(
            f"step {self.step}: validation F1 {self.last_eval['f1']:.4f}"
            f" MCC {self.last_eval['mcc']:.4f} ({time.monotonic() - started:.1f} s)"
        )

    def _report(
        self, filled: Filled, numbers: dict[str, float], roll_seconds: float, seconds: float
    ) -> None:
        if self.log is None:
            return
        values = step_values(filled, numbers, self.step - 1, roll_seconds, seconds)
        self.log.write(self.step, values)
        place = f"step {self.step}/{self.num_steps} [{self.order.stage or 'end'}]"
        self._say(f"{place} {step_line(values)}")

    def _close_log(self, finished: bool) -> None:
        if self.log is None:
            return
        for reason, number in sorted(self.roller.failures.items()):
            self._say(f"no answer to {number} prompts: {reason}")
        if self.roller.clip is not None and self.roller.clip.unreadable:
            self._say(f"{len(self.roller.clip.unreadable)} images have no CLIP vector")
        (self.session.folder / "result.json").write_text(
            json.dumps(
                {"step": self.step, "finished": finished, "evaluation": self.last_eval}, indent=2
            )
            + "\n"
        )
        self.log.close()

    def _say(self, line: str) -> None:
        if self.log:
            self.log.say(line)
