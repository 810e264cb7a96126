"""The `[serve]` table of a profile: every number of the HTTP service."""

from __future__ import annotations

from pydantic import Field

from ffr_core.config import Config


class ServeConfig(Config):
    """`[serve]`: the HTTP service. Times in seconds, sizes in bytes."""

    ingress_replicas: int = Field(default=1, ge=1)
    """Processes that answer HTTP."""
    ingress_cpus: float = Field(default=0.1, ge=0)
    owner_replicas: int = Field(default=1, ge=1)
    """Processes that search and write the index; always 1 on a local index."""
    owner_cpus: float = Field(default=0.4, ge=0)
    owner_threads: int = Field(default=4, ge=2)
    """Searches that run beside each other, and beside one write."""
    owner_gpus: float = Field(default=0, ge=0)
    """GPU share of an owner whose encoder runs on one."""
    localizer_min: int = Field(default=1, ge=1)
    """Fewest localizer processes."""
    localizer_max: int = Field(default=2, ge=1)
    """Most localizer processes under load."""
    localizer_cpus: float = Field(default=0.4, ge=0)
    localizer_gpus: float = Field(default=0, ge=0)
    localizer_ongoing: int = Field(default=4, ge=1)
    """Groups of candidates that one localizer process works on at the same time."""
    localizer_target: float | None = Field(default=None, gt=0)
    """Groups a process, running and waiting, that another process is started for;
    `localizer_ongoing` when left out."""
    upscale_delay: float = Field(default=10.0, ge=0)
    """How long there must be too many before a process is started."""
    downscale_delay: float = Field(default=300.0, ge=0)
    """How long there must be too few before one is stopped."""
    segmenter_min: int = Field(default=1, ge=0)
    """Fewest processes of a boundary model that runs on an engine of its own; 0 starts one when a
    dialogue comes."""
    segmenter_max: int = Field(default=1, ge=1)
    """Most processes of such a boundary model."""
    segmenter_cpus: float = Field(default=0.4, ge=0)
    segmenter_gpus: float = Field(default=0, ge=0)
    group_size: int = Field(default=5, ge=1)
    """Candidates sent to a localizer in one call."""
    candidate_timeout: float = Field(default=5.0, gt=0)
    """A candidate that takes longer is tried once more, then left out: the answer is partial."""
    search_timeout: float = Field(default=30.0, gt=0)
    """A search that takes longer ends with what it has."""
    write_timeout: float = Field(default=120.0, gt=0)
    """Adding a dialogue that takes longer is answered with 504."""
    max_ongoing: int = Field(default=32, ge=1)
    """Requests that one ingress works on; more are answered with 429."""
    retry_after: int = Field(default=2, ge=1)
    """What a 429 asks the caller to wait."""
    max_query_bytes: int = Field(default=131_072, ge=1024)
    """Body of a search; more is answered with 413."""
    max_dialogue_bytes: int = Field(default=16_000_000, ge=1024)
    """Body of a dialogue; more is answered with 413."""
    max_turns: int = Field(default=50_000, ge=1)
    """Turns of a dialogue that is added over HTTP."""
    max_candidates: int = Field(default=100, ge=1, le=200)
    """Largest `num_candidates`."""
    max_dialogues: int = Field(default=50, ge=1)
    """Largest `limit` of a search."""
    max_page: int = Field(default=200, ge=1)
    """Largest `limit` when a dialogue is read."""
    image_url_lifetime: int = Field(default=3600, ge=60)
    """How long the address of an image works."""
    cache_dialogues: int = Field(default=256, ge=1)
    """Dialogues that each process keeps unpacked."""
    cache_lifetime: float = Field(default=60.0, ge=0)
    """How long it keeps them; also how long a deleted one can stay in memory."""
    drain_timeout: float = Field(default=40.0, gt=0)
    """How long running answers may take after a stop signal."""
    audit: str = ""
    """Where each call of the API leaves a line with ids and counts: `stdout` (on a cluster the log
    file that Ray keeps of the ingress), the path of a file, or nothing."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which the service may be called; empty: any with keys, else only this machine."""
    metrics_host: str = "127.0.0.1"
    """Address of the Prometheus metrics."""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    """Port of the Prometheus metrics; 0 takes a free one and prints it."""
