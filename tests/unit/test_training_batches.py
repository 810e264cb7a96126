"""Steps, microbatches, packed and padded sequences, weighted gradients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.training.batches import plan_epoch, split_step
from jobs.training.config import BatchConfig, OptimizerConfig
from jobs.training.optimization import rate_share

BATCHES = st.one_of(
    st.integers(1, 7).map(lambda n: BatchConfig(examples_per_step=n, bucket_steps=3)),
    st.integers(1, 400).map(lambda n: BatchConfig(tokens_per_step=n, bucket_steps=3)),
)
LENGTHS = st.lists(st.integers(1, 120), max_size=60)


@given(lengths=LENGTHS, batch=BATCHES, seed=st.integers(0, 5), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_example_once_and_is_deterministic(lengths, batch, seed, epoch):
    steps = plan_epoch(lengths, batch, seed, epoch)
    assert sorted(i for step in steps for i in step) == list(range(len(lengths)))
    assert steps == plan_epoch(lengths, batch, seed, epoch)
    for step in steps:
        if batch.examples_per_step:
            assert len(step) <= batch.examples_per_step
        else:
            assert len(step) == 1 or sum(lengths[i] for i in step) <= batch.tokens_per_step


def test_epochs_differ_and_steps_hold_similar_lengths():
    lengths = [1 + (i * 37) % 100 for i in range(100)]
    batch = BatchConfig(examples_per_step=5, bucket_steps=20)
    first, second = (plan_epoch(lengths, batch, 0, epoch) for epoch in (0, 1))
    assert first != second
    # All 100 examples are one block, so a step holds five neighbors of the sorted lengths.
    assert all(max(lengths[i] for i in s) - min(lengths[i] for i in s) == 4 for s in first)


def test_the_curriculum_takes_the_shortest():
    steps = plan_epoch([9, 1, 8, 2, 7, 3], BatchConfig(examples_per_step=2), 0, 0, 0.5)
    assert sorted(i for step in steps for i in step) == [1, 3, 5]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    workers=st.integers(1, 5),
    limit=st.integers(1, 120),
)
def test_workers_share_a_step(lengths, workers, limit):
    shares = split_step(range(len(lengths)), lengths, workers, limit)
    assert len(shares) == workers
    assert sorted(i for share in shares for micro in share for i in micro) == list(
        range(len(lengths))
    )
    for micro in (micro for share in shares for micro in share):
        assert len(micro) == 1 or len(micro) * max(lengths[i] for i in micro) <= limit
    loads = [sum(lengths[i] for micro in share for i in micro) for share in shares]
    assert max(loads) - min(loads) <= max(lengths)


def test_exactly_one_step_size():
    for values in ({}, {"examples_per_step": 1, "tokens_per_step": 1}):
        with pytest.raises(ValueError, match="either"):
            BatchConfig(**values)


def test_learning_rate_course():
    linear = OptimizerConfig(warmup_share=0.2, schedule="linear", final_share=0.1)
    course = [rate_share(step, 10, linear) for step in range(11)]
    assert course[:3] == [0.5, 1.0, 1.0]
    assert course[6] == pytest.approx(0.55)
    assert course[10] == pytest.approx(0.1)
    # Where a run may end early, the share of it that lies behind drives the decay.
    course = [rate_share(step, 10, linear, done) for step, done in ((1, 0.9), (2, 0.2), (3, 0.6))]
    assert course == pytest.approx([1.0, 1.0, 0.55])
    assert [rate_share(4, 10, linear, done) for done in (0.1, 1.0)] == pytest.approx([1.0, 0.1])
    cosine = OptimizerConfig(warmup_share=0.0)
    assert [rate_share(step, 4, cosine) for step in (0, 2, 4)] == pytest.approx([1, 0.5, 0])


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A tiny random model in training, and two dialogues with a picture and three queries."""
    import torch
    from PIL import Image as Pictures

    from ffr_core.adapters import LoraSettings
    from ffr_core.engine.inputs import PromptEncoder
    from ffr_core.engine.loading import load_processor
    from ffr_core.images import ImageLimits, ImageReader
    from ffr_core.types import Dialogue, Image, Query, Selection, Turn
    from jobs.tiny.architecture import write_random_model
    from jobs.training.examples import _localize
    from jobs.training.sft_model import build

    folder = tmp_path_factory.mktemp("sft")
    write_random_model(folder / "model", seed=0)
    Pictures.new("RGB", (40, 60), "red").save(folder / "red.png")
    picture = Image(image_id=0, uri=str(folder / "red.png"))
    examples = []
    for name, size in (("a", 4), ("b", 7)):
        turns = [
            Turn(turn_id=i, speaker="Ana", text=f"meet at {i}", images=(picture,) * (i == 1))
            for i in range(size)
        ]
        queries = [
            Query(query=f"red {i}", relevance=Selection(utterance_ids=frozenset(range(i))))
            for i in range(3)
        ]
        dialogue = Dialogue(dialogue_id=name, turns=tuple(turns), queries=tuple(queries))
        examples += _localize(dialogue, ["dialogue"], 0, 0, {})
    torch.manual_seed(0)
    model = build(
        folder / "model",
        lora=LoraSettings(rank=4),
        init_adapter=None,
        dtype="float32",
        attention="sdpa",
        gradient_checkpointing=False,
        head="bilinear",
        head_layer=1,
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for parameter in model.parameters:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    reader = ImageReader(limits=ImageLimits(roots=(str(folder),)))
    return model, PromptEncoder(load_processor(folder / "model"), reader.open), examples


def source_of(parts, prompts="compact", **options):
    from ffr_core.prompts import Prompts
    from jobs.training.sft_data import SequenceSource

    model, encoder, examples = parts
    values = {"max_length": 1000, "with_pairs": True, **options}
    source = SequenceSource(examples, Prompts.load(prompts), encoder, model, **values)
    assert not source.measure()
    return source


def loss_of(parts, rows):
    """Loss sums and gradients of microbatches, each a list of sequences."""
    import torch

    from jobs.training.sequences import collate_sequences

    model = parts[0]
    answer = auxiliary = 0.0
    for parameter in model.parameters:
        parameter.grad = None
    for row in rows:
        sums = model.losses(collate_sequences(row, 0))
        (sums.answer + 3 * sums.auxiliary).backward()
        answer, auxiliary = answer + sums.answer.item(), auxiliary + sums.auxiliary.item()
    return answer, auxiliary, torch.cat([p.grad.flatten() for p in model.parameters])


def test_packed_padded_and_separate_sequences_have_the_same_loss(parts):
    separate = source_of(parts)
    packed = source_of(parts, queries_per_sequence=3, cached=False)
    pairs = source_of(parts, queries_per_sequence=2)
    assert (len(separate), len(packed), len(pairs)) == (6, 2, 4)
    assert sum(packed.lengths) < 0.6 * sum(separate.lengths)
    one = loss_of(parts, [[separate[i]] for i in range(6)])
    padded = loss_of(parts, [[separate[i] for i in range(6)]])
    together = loss_of(parts, [[packed[0], packed[1]]])
    mixed = loss_of(parts, [[pairs[i] for i in range(4)]])
    assert one[0] > 0 and one[1] > 0
    for other in (padded, together, mixed):
        assert other[:2] == pytest.approx(one[:2], rel=1e-5)
        assert (other[2] - one[2]).abs().max() < 1e-4 * one[2].abs().max()


def test_the_loss_is_that_of_the_answer_alone(parts):
    """Against transformers' own loss with -100 on the prompt."""
    from ffr_core.engine.inputs import collate
    from ffr_core.prompts import Prompts
    from jobs.training.sequences import collate_sequences

    model, encoder, examples = parts
    source = source_of(parts, with_pairs=False)
    prompt = encoder.encode(examples[4].messages(Prompts.load("compact")), examples[4].answer)
    batch = collate([prompt], 0)
    labels = batch["input_ids"].clone()
    labels[:, : prompt.num_prompt_tokens] = -100
    expected = model.base(**batch, labels=labels).loss.item()
    sums = model.losses(collate_sequences([source[4]], 0))
    assert sums.answer.item() / source.weights[4][0] == pytest.approx(expected, rel=1e-5)
    assert sums.auxiliary.item() == 0


def test_pairs_stand_at_the_ends_of_turns_images_and_query(parts):
    _, encoder, examples = parts
    decode = encoder.tokenizer.decode
    for prompts in ("compact", "compact-query-first"):
        sequence = source_of(parts, prompts)[2]
        ids, pairs = sequence.input_ids_L, sequence.pairs
        ends = [decode(ids[: end + 1])[-12:] for end in pairs.element_E.tolist()]
        assert [end.strip()[-9:] for end in ends[:4:2]] == ["meet at 0", "meet at 2"]
        assert ends[4].endswith("<|vision_end|>"[-12:])
        queries = pairs.query_E.tolist()
        assert {decode(ids[: q + 1])[-13:] for q in queries[:5]} == {"<|query_end|>"}
        assert pairs.gold_E.tolist()[:5] == [1, 1, 0, 0, 0]
        inside = [decode([int(ids[q])]).strip() for q in queries[5:]]
        if prompts == "compact":
            # Four turns at each token of "[0, 1", the only image at the "[" of an empty list.
            assert inside == [t for t in ("[", "0", ",", "1") for _ in range(4)] + ["["]
            assert pairs.gold_E.tolist()[5:] == [1, 1, 0, 0] * 4 + [0]
        else:
            assert not inside
    assert examples[2].answer.startswith("<|utt_ids_start|>[0, 1]")


def test_pairs_of_clusters_join_the_turns_of_one_topic(parts):
    from dataclasses import replace

    from ffr_core.prompts import Prompts
    from jobs.training.pairs import PairFinder

    _, encoder, examples = parts
    example = replace(examples[2], query=None, clusters=((0, 2), (1, 3)))
    encoded = encoder.encode(example.messages(Prompts.load("compact")), example.answer)
    pairs = PairFinder(encoder.tokenizer).find(encoded, example)
    gold = pairs.gold_E.tolist()
    # Turn 1 with 0; 2 with 0, 1; 3 with 0, 1, 2.
    assert gold[:6] == [0, 1, 0, 0, 1, 0]
    assert pairs.query_E[1] == pairs.query_E[2] == pairs.element_E[5]
    inside = [encoder.tokenizer.decode([encoded.input_ids[q]]) for q in pairs.query_E[6:]]
    assert inside == [t for t in "[0,2[1,3" for _ in range(4)]
    assert gold[6:] == [1, 0, 1, 0] * 4 + [0, 1, 0, 1] * 4


def test_query_first_prompts_cannot_share_a_dialogue(parts):
    import torch

    from ffr_core.errors import ConfigError
    from ffr_core.prompts import Prompts
    from jobs.training.sequences import make_sequence

    _, encoder, examples = parts
    prompts = Prompts.load("compact-query-first")
    encoded = [encoder.encode(e.messages(prompts), e.answer) for e in examples[:2]]
    places = [torch.zeros(3, len(p.input_ids), dtype=torch.long) for p in encoded]
    with pytest.raises(ConfigError, match="after it"):
        make_sequence(encoded, places)
    # Not counted as bad pictures.
    with pytest.raises(ConfigError, match="after it"):
        source_of(parts, "compact-query-first", queries_per_sequence=3, with_pairs=False)


def test_what_is_left_out_is_counted_with_an_example(parts):
    from dataclasses import replace

    from ffr_core.prompts import Prompts
    from jobs.training.sft_data import SequenceSource

    model, encoder, examples = parts
    turns = list(examples[0].dialogue.turns)
    turns[1] = replace(turns[1], images=(replace(turns[1].images[0], uri="/gone.png"),))
    gone = replace(examples[0], dialogue=replace(examples[0].dialogue, turns=tuple(turns)))
    source = SequenceSource(
        [gone, *examples], Prompts.load("compact"), encoder, model, max_length=1000
    )
    assert source.measure() == {"bad_image": 1} and len(source) == len(examples)
    assert "/gone.png" in source.example_of["bad_image"]
    short = SequenceSource(examples, Prompts.load("compact"), encoder, model, max_length=5)
    assert short.measure() == {"too_long": len(examples)}
    assert short.example_of["too_long"].startswith("example 'a/0' has ")


def test_paths_are_those_of_the_command(tmp_path, monkeypatch):
    """Workers have a folder of their own."""
    from jobs.training.sft_config import SftConfig, resolve_paths

    monkeypatch.chdir(tmp_path)
    for name in ("data.jsonl", "prompts.toml"):
        (tmp_path / name).touch()
    config = SftConfig(
        task="localize",
        model="m",
        prompts="prompts.toml",
        train=("data.jsonl",),
        batch=BatchConfig(examples_per_step=1),
        launch={"name": "x"},
    )
    resolved = resolve_paths(config)
    assert resolved.prompts == str(tmp_path / "prompts.toml")
    assert resolve_paths(config.model_copy(update={"prompts": "paper"})).prompts == "paper"


def test_two_workers_equal_one(parts, monkeypatch):
    """Shares of a step, added over workers, give the gradient of the whole step."""
    import torch

    from jobs.training import distributed
    from jobs.training.sequences import collate_sequences

    model = parts[0]
    source = source_of(parts)

    def gradients(world_size):
        shares = split_step(range(6), source.lengths, world_size, 200)
        collected = []
        for share in shares:
            for parameter in model.parameters:
                parameter.grad = None
            for micro in share:
                batch = collate_sequences([source[i] for i in micro], 0)
                (model.losses(batch).answer / 10).backward()
            distributed.all_reduce_gradients(model.parameters)
            collected.append(torch.cat([p.grad.flatten() for p in model.parameters]))
        return sum(collected)

    one, two, nine = (gradients(n) for n in (1, 2, 9))
    assert one.abs().max() > 0
    for other in (two, nine):
        assert (other - one).abs().max() < 1e-5 * one.abs().max()


def _reduce(rank, folder, results):
    import torch
    import torch.distributed as dist

    from jobs.training.distributed import all_reduce_sum, all_reduce_weighted, gather_objects

    dist.init_process_group("gloo", init_method=f"file://{folder}/r", rank=rank, world_size=2)
    weight = torch.nn.Parameter(torch.zeros(2))
    unused = torch.nn.Parameter(torch.zeros(1))
    # Worker 0 has 3 tokens, worker 1 one; the sum of losses is w . sum(x).
    tokens = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]] if rank == 0 else [[7.0, 2.0]])
    (tokens @ weight).sum().backward()
    total = all_reduce_weighted([weight, unused], len(tokens))
    results[rank] = (
        total,
        weight.grad.tolist(),
        unused.grad.tolist(),
        all_reduce_sum([0.1, rank]),
        gather_objects(f"worker {rank}"),
    )
    dist.destroy_process_group()


def test_gradients_are_weighted_by_tokens_over_a_process_group(tmp_path):
    """The mean over 4 tokens is ([1,2] + [3,4] + [5,0] + [7,2]) / 4 = [4, 2] on both workers."""
    import torch.multiprocessing as mp

    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_reduce, args=(str(tmp_path), results), nprocs=2)
        for rank in (0, 1):
            total, gradient, unused, sums, gathered = results[rank]
            assert (total, gradient, unused) == (4.0, [4.0, 2.0], [0.0])
            assert sums == pytest.approx([0.2, 1.0])
            assert gathered == ["worker 0", "worker 1"]


def test_views_and_gold_by_hand(tmp_path):
    """Fragments (0, 2) and (1, 3, 4); pictures at turns 2 and 3; gold is turns 3, 4, image 1."""
    import json

    from jobs.training.examples import group_by_view, read_examples

    turns = [
        {"turn_id": i, "speaker": "A", "text": f"t{i}", "images": []} | images
        for i, images in enumerate(
            [{}, {}, {"images": [{"image_id": 0}]}, {"images": [{"image_id": 1}]}, {}]
        )
    ]
    query = {"query": "q", "utt_ids": [3, 4], "img_ids": [1], "kind": "multi-modal"}
    nothing = {"query": "n", "utt_ids": [], "img_ids": [], "kind": "negative"}
    records = [
        {
            "dialogue_id": "a",
            "turns": turns,
            "queries": [query, nothing],
            "fragments": [[0, 2], [1, 3, 4]],
        },
        {"dialogue_id": "b", "turns": turns, "fragments": [[0, 2], [1, 4]]},
    ]
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    both = read_examples([path], "localize", ("dialogue", "fragment"), negatives=1)
    assert both.counts == {"no_queries": 1} and len(both.records) == 2
    answers = [
        (e.view_id, e.answer.replace("<|utt_ids_", "").replace("<|img_ids_", ""))
        for e in both.examples
    ]
    assert answers[:3] == [
        ("a", "start|>[3, 4]end|>;start|>[1]end|>"),
        ("a#1", "start|>[1, 2]end|>;start|>[0]end|>"),
        ("a#0", "start|>[]end|>;start|>[]end|>"),
    ]
    assert [e.view_id for e in both.examples].count("a") == 2
    assert [len(e.dialogue.turns) for e in both.examples[:3]] == [5, 3, 2]
    groups = group_by_view(both.examples, 8)
    assert [both.examples[i].view_id for i in groups[0]] == ["a", "a"]
    assert sorted(i for group in groups for i in group) == list(range(len(both.examples)))
    segments = read_examples([path], "segment")
    assert [e.answer for e in segments.examples] == ["[[0,2],[1,3,4]]", "[[0,2,3],[1,4]]"]
    assert segments.counts == {"gold_fragments_repaired": 1}


def test_a_dialogue_id_that_occurs_twice_is_refused(tmp_path):
    """Pictures are kept by dialogue, so the second one would be trained on those of the first."""
    import json

    from ffr_core.errors import InputError
    from jobs.training.examples import read_examples

    turns = [{"turn_id": 0, "speaker": "A", "text": "t", "images": []}]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path, ids in ((first, "ab"), (second, "cb")):
        records = [{"dialogue_id": i, "turns": turns, "fragments": [[0]]} for i in ids]
        path.write_text("\n".join(map(json.dumps, records)))
    with pytest.raises(
        InputError, match=r"'b' occurs twice, in .*first\.jsonl and .*second\.jsonl"
    ):
        read_examples([first, second], "segment")
    with pytest.raises(InputError, match="'a' occurs twice"):
        read_examples([first, first], "localize")
    assert len(read_examples([first, second], "segment", max_dialogues=3).examples) == 3


@pytest.mark.parametrize("native", [True, False])
def test_autocast_follows_the_processor_only_where_that_is_asked(monkeypatch, native):
    from jobs.training import sft_loop

    monkeypatch.setattr(sft_loop, "native_bfloat16", lambda: native)
    found = [sft_loop.uses_autocast(setting, "cpu") for setting in ("auto", True, False)]
    assert found == [native, True, False]
    assert sft_loop.uses_autocast("auto", "cuda")
