"""FEM on a tiny Qwen2-VL with pictures: two workers, one killed, against one process."""

import numpy as np
import pytest

from jobs.training.logs import series


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A random model and a synthetic corpus with pictures."""
    from ffr_core.dataset.synthetic.config import SynthConfig
    from ffr_core.dataset.synthetic.write import write
    from jobs.tiny.architecture import write_random_model

    folder = tmp_path_factory.mktemp("fem")
    write_random_model(folder / "model", seed=0)
    write(SynthConfig(dialogues=6, seed=5, turns=(6, 10), topics=(2, 2)), folder / "data")
    return folder


def configure(corpus, name, **launch):
    from jobs.fem.config import FemConfig

    return FemConfig.parse(
        {
            "model": {
                "kind": "qwen2vl",
                "path": str(corpus / "model"),
                "dtype": "float32",
                "max_tokens": 200,
            },
            "lora": {"rank": 4, "alpha": 8},
            "data": [{"path": str(corpus / "data" / "dialogues.jsonl"), "validation": 0.34}],
            "step": {
                "queries": 4,
                "views": ["fragment"],
                "others": 0,
                "pairs": 4,
                "positive_depth": 1,
            },
            "optimizer": {"learning_rate": 1e-3},
            "num_steps": 8,
            "evaluate_every": 2,
            "launch": {"name": name, "storage_path": str(corpus / "runs"), **launch},
        },
        "test",
    )


@pytest.fixture(scope="module")
def alone(corpus):
    from jobs.train_fem import run

    (result,) = run(configure(corpus, "alone", num_workers=0))
    return result


@pytest.mark.slow
def test_a_killed_worker_changes_neither_steps_nor_losses(corpus, alone, ray_cluster):
    from jobs.fem.config import resolve_paths
    from jobs.fem.loop import METRIC
    from jobs.train_fem import train
    from jobs.training.run import launch

    flag = corpus / "killed"

    def train_and_die(values, session):
        """Rank 1 gets SIGKILL at some instant after step 5, once."""
        import os
        import signal
        import threading
        import time

        def watch():
            while not flag.exists():
                if len(series(session.folder / "metrics.csv", "train/loss")) >= 5:
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.02)

        if session.rank == 1:
            threading.Thread(target=watch, daemon=True).start()
        return train(values, session)

    config = resolve_paths(configure(corpus, "killed-run", num_workers=2, cpus_per_worker=0.5))
    killed = launch(train_and_die, config.model_dump(mode="json"), config.launch, METRIC)
    assert flag.exists()
    assert killed.value == alone.value
    ours, theirs = (
        dict(series(result.folder / "metrics.csv", "train/loss")) for result in (killed, alone)
    )
    assert ours.keys() == theirs.keys() == set(range(1, 9))
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=1e-4)
    assert killed.metrics == pytest.approx(alone.metrics)


@pytest.mark.slow
def test_a_worker_that_dies_before_the_first_evaluation_damages_nothing(corpus, ray_cluster):
    from jobs.fem.config import resolve_paths
    from jobs.fem.loop import METRIC
    from jobs.train_fem import train
    from jobs.training.run import launch

    flag = corpus / "died-early"

    def train_and_die(values, session):
        """SIGKILL in step 2, once."""
        import os
        import signal

        from jobs.fem.loop import Loop

        step = Loop._step

        def dies(self, number):
            if number == 1 and not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            step(self, number)

        Loop._step = dies
        return train(values, session)

    config = resolve_paths(configure(corpus, "early", num_workers=1, cpus_per_worker=0.5))
    config = config.model_copy(update={"num_steps": 4, "evaluate_every": 4})
    values = config.model_dump(mode="json")
    died = launch(train_and_die, values, config.launch, METRIC)
    assert flag.exists() and died.value["step"] == 4
    steps = [step for step, _ in series(died.folder / "metrics.csv", METRIC)]
    assert steps == [0, 4]
    assert {p.name for p in died.folder.glob("step-*")} == {"step-00000000", "step-00000004"}
    # The same command once more finds its checkpoints and has nothing to do.
    assert launch(train, values, config.launch, METRIC).value == died.value


@pytest.fixture(scope="module")
def toy(corpus):
    """All fragments and queries of the corpus."""
    from ffr_core.records import read_jsonl
    from jobs.fem.pairs import build_corpus

    return build_corpus("toy", list(read_jsonl(corpus / "data" / "dialogues.jsonl")))


@pytest.fixture(scope="module")
def encoders(corpus, alone):
    """The model without and with what was trained."""
    from ffr_core.parts import build_encoder
    from ffr_core.profile import EncoderConfig

    def encoder(**settings):
        return build_encoder(
            EncoderConfig(
                kind="fem",
                path=str(corpus / "model"),
                max_tokens=200,
                image_roots=(str(corpus / "data"),),
                **settings,
            )
        )

    return encoder(), encoder(adapter=str(alone.latest / "adapter"))


def test_the_profile_takes_the_result_by_name(toy, encoders):
    plain, adapted = encoders
    assert plain.fingerprint != adapted.fingerprint
    passages = [toy.passage(i, f.turn_ids) for i, f in enumerate(toy.fragments)][:5]
    together = adapted.encode_passages(passages)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.abs(together - plain.encode_passages(passages)).max() > 1e-3
    # A vector does not depend on its neighbors in the batch.
    single = np.concatenate([adapted.encode_passages([passage]) for passage in passages])
    assert np.allclose(single, together, atol=1e-4)
    shown = next(p for p in passages if p.images)
    from dataclasses import replace

    blind = adapted.encode_passages([shown, replace(shown, images=())])
    assert np.abs(blind[0] - blind[1]).max() > 1e-4
    assert adapted.encode_queries([]).shape == (0, adapted.dim)
    long = adapted.encode_queries(["red bicycle " * 500])
    assert long.shape == (1, adapted.dim) and np.isfinite(long).all()


def test_training_both_sides_lowers_the_loss(toy, encoders):
    """Of the same queries against all fragments, before and after."""
    passages = [toy.passage(i, f.turn_ids) for i, f in enumerate(toy.fragments)]
    gold = [query.fragment for query in toy.queries]
    losses, hits = [], []
    for encoder in encoders:
        queries = encoder.encode_queries([query.text for query in toy.queries])
        scores = queries @ encoder.encode_passages(passages).T / 0.03
        normalized = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        losses.append(-normalized[np.arange(len(gold)), gold].mean())
        hits.append((scores.argmax(axis=1) == gold).mean())
    assert losses[1] < losses[0] - 0.2
    assert hits[1] > hits[0] + 0.1
