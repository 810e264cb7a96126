"""Turn a GRPO configuration into its parts, on one worker."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ffr_core.prompts import Prompts
from jobs.grpo.config import GrpoConfig
from jobs.grpo.data import Sample
from jobs.training.distributed import gather_objects
from jobs.training.run import Session

if TYPE_CHECKING:
    from ffr_core.engine.inputs import PromptEncoder
    from jobs.grpo.rolling import Roller
    from jobs.grpo.update import Updater

Images = Callable[[str], Any]


def build_updater(
    config: GrpoConfig, session: Session, images: Images, num_steps: int
) -> tuple[PromptEncoder, Updater]:
    """The prompt encoder, and the policy with its optimizer for at most `num_steps` steps."""
    from ffr_core.engine.inputs import PromptEncoder, banned_token_ids
    from ffr_core.engine.loading import load_model, load_processor
    from jobs.grpo.policy import PolicyModel
    from jobs.grpo.update import Updater
    from jobs.training.optimization import adamw

    encoder = PromptEncoder(
        load_processor(config.model.path), images, config.model.max_pixels, config.model.max_images
    )
    tokenizer = encoder.tokenizer
    policy = PolicyModel(
        load_model(config.model.path, config.model.dtype, str(session.device)),
        cold_start=config.model.cold_start,
        lora=config.lora,
        banned_token_ids=banned_token_ids(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        sampling_temperature=config.rollout.sampling_temperature,
        top_p=config.rollout.top_p,
        gradient_checkpointing=config.policy.gradient_checkpointing,
    )
    return encoder, Updater(
        policy=policy,
        optimizer=adamw(policy.parameters, config.optimizer),
        config=config.policy,
        course=config.optimizer,
        num_steps=num_steps,
        pad_token_id=tokenizer.pad_token_id,
        rank=session.rank,
        world_size=session.world_size,
    )


def build_roller(
    config: GrpoConfig,
    session: Session,
    files: Sequence[str],
    samples: Mapping[str, Sample],
    prompts: Prompts,
    images: Images,
) -> Roller:
    """Engines and rewards."""
    from ffr_core.embedding.clip import ClipEmbedder
    from ffr_core.engine.vllm import adapter_rank
    from jobs.grpo.engines import open_sampler
    from jobs.grpo.rolling import Roller

    device = str(session.device)
    name = config.rewards.clip if config.rewards.order_weight else None
    start = config.model.cold_start
    return Roller(
        open_sampler(
            config.model,
            config.engine,
            files,
            # A name of this start: the actors of a start that died may still be ending.
            pool=gather_objects(f"{config.launch.name}-{uuid.uuid4().hex[:8]}")[0],
            max_lora_rank=config.lora.rank if start is None else adapter_rank(start),
            rank=session.rank,
            device=device,
            barrier=lambda: gather_objects(None),
        ),
        samples,
        prompts,
        config.rollout,
        config.rewards.settings(),
        None if name is None else ClipEmbedder.open(name, images, device=device),
        seed=config.seed,
        rank=session.rank,
        world_size=session.world_size,
    )
