"""The `ffrs` command. Each command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs.cli_common import (
    AsJson,
    Home,
    ProfileName,
    Tenant,
    check_writable,
    clear_errors,
    open_existing,
    read_time,
)
from jobs.cli_operations import add_operations

app = typer.Typer(
    help="Find the part of a long, image-filled conversation that answers a query.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("import")
@clear_errors
def import_command(
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="whatsapp telegram slack discord wechat jsonl")
    ],
    path: Annotated[Path, typer.Argument(help="Export file, folder or .zip, as you have it.")],
    out: Annotated[Path, typer.Option(help="Folder for dialogues.jsonl and images.")],
    timezone: Annotated[
        str | None, typer.Option(help="Zone of times without one.", show_default="UTC")
    ] = None,
    date_order: Annotated[str, typer.Option(help="auto, dmy, mdy or ymd.")] = "auto",
) -> None:
    """Turn a chat export into dialogues that `ffrs index` reads."""
    from ffr_core.importers import import_export

    report = import_export(
        format_name, path, out, timezone=timezone or "UTC", date_order=date_order
    )
    print(report.as_text())
    if timezone is None and format_name in ("whatsapp", "wechat"):
        print(
            "  note: times without a zone were read as those of UTC; where the phone was elsewhere,"
            " import again with --timezone, such as --timezone Europe/Berlin"
        )
    print(f"written to {out}; `ffrs index {shlex.quote(str(out))}` makes it searchable")


@app.command("index")
@clear_errors
def index_command(
    inputs: Annotated[list[str], typer.Argument(help="JSONL/Parquet files, folders, s3:// URIs.")],
    profile: ProfileName = "laptop",
    home: Home = None,
    tenant: Tenant = "default",
    dry_run: Annotated[
        bool, typer.Option(help="Count and estimate, index nothing; report in runs/dry-run.")
    ] = False,
    restore: Annotated[bool, typer.Option(help="Index deleted dialogues again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Index dialogues; again only for what is new or changed."""
    from jobs.index_corpus import IndexJobConfig, run
    from jobs.index_report import describe, exceeds

    config = IndexJobConfig(
        input=tuple(inputs),
        profile=profile,
        home=None if home is None else str(home),
        tenant=tenant,
        restore=restore,
    )
    summary = run(config, dry_run)
    print(json.dumps(summary) if as_json else describe(summary))
    if exceeds(summary, config.max_dead_share):
        print("error: more records were left out than max_dead_share allows", file=sys.stderr)
        raise typer.Exit(3)


@app.command("search")
@clear_errors
def search_command(
    query: Annotated[str, typer.Argument(help="What you are looking for.")],
    profile: ProfileName = "laptop",
    home: Home = None,
    tenant: Tenant = "default",
    participant: Annotated[list[str] | None, typer.Option(help="Only with this speaker.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            help="Not before this time: 2025-03-02, 2025-03-02T18:04; of this machine's zone"
            " unless it ends in an offset such as +01:00 or Z.",
            parser=read_time,
            metavar="<time>",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(help="Before this time.", parser=read_time, metavar="<time>"),
    ] = None,
    has_image: Annotated[bool | None, typer.Option(help="With or without images.")] = None,
    dialogue: Annotated[list[str] | None, typer.Option(help="Only this dialogue.")] = None,
    limit: Annotated[int, typer.Option(help="Dialogues shown.", min=1)] = 5,
    as_json: AsJson = False,
) -> None:
    """Ask the index; prints dialogues with the matching turns, times in this machine's zone."""
    from ffr_core.answers import answer_record, describe_answer
    from ffr_core.types import Filters

    filters = Filters(
        participants=tuple(participant or ()),
        since=since,
        until=until,
        has_image=has_image,
        dialogue_ids=tuple(dialogue or ()),
    )
    with open_existing(profile, home) as system:
        shown = system.find(query, tenant=tenant, filters=filters)[:limit]
    if as_json:
        print(json.dumps([answer_record(a, d) for a, d in shown], ensure_ascii=False, indent=2))
    elif not shown:
        print("nothing found")
    else:
        print("\n\n".join(describe_answer(answer, found) for answer, found in shown))


@app.command("serve")
@clear_errors
def serve_command(
    profile: ProfileName = "laptop",
    home: Home = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65_535)
    ] = 8000,
    keys: Annotated[Path | None, typer.Option(help="TOML file of hashed API keys.")] = None,
) -> None:
    """Start the HTTP service and the web page; Ctrl-C stops it."""
    from serve.app import serve

    serve(profile, home=home, host=host, port=port, keys=keys)


@app.command("delete")
@clear_errors
def delete_command(
    dialogue_id: Annotated[str, typer.Argument(help="Which dialogue.")],
    profile: ProfileName = "laptop",
    home: Home = None,
    tenant: Tenant = "default",
) -> None:
    """Remove a dialogue from index and storage; indexing respects that until --restore."""
    from ffr_core.errors import NotFoundError

    with open_existing(profile, home) as system:
        if not system.delete(dialogue_id, tenant):
            raise NotFoundError(f"there is no dialogue {dialogue_id!r}; `ffrs stats` lists the ids")
    print(f"deleted {dialogue_id}")


@app.command("reindex")
@clear_errors
def reindex_command(
    profile: ProfileName,
    home: Home = None,
    tenant: Annotated[
        list[str] | None, typer.Option(help="Owner of dialogues; repeat for each.")
    ] = None,
    keys: Annotated[Path | None, typer.Option(help="Keys file whose tenants are meant.")] = None,
    job: Annotated[
        Path | None, typer.Option(help="TOML of an index job whose worker pools are used.")
    ] = None,
) -> None:
    """Build the index again with a new profile's models beside the old one, then switch."""
    from jobs.reindex import read_job, reindex

    done = reindex(profile, home, tenant or (), keys, read_job(job))
    if done.unreadable:
        print(f"images that cannot be read (dialogue kept): {done.unreadable}")
    print(
        f"{done.dialogues} dialogues in {done.seconds:.0f} s; collections {done.prefix!r} are"
        f" searched now, {done.before!r} stay for the old profile"
    )


@app.command("stats")
@clear_errors
def stats_command(
    profile: ProfileName = "laptop",
    home: Home = None,
    tenant: Tenant = "default",
    ids: Annotated[bool, typer.Option(help="List the dialogue ids.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count what is indexed."""
    from dataclasses import asdict

    with open_existing(profile, home) as system:
        counts = asdict(system.stats(tenant))
        if ids:
            counts["dialogue_ids"] = list(system.dialogue_ids(tenant))
    if as_json:
        print(json.dumps(counts, ensure_ascii=False))
        return
    for name, value in counts.items():
        print(f"{name}: " + ("\n  ".join(["", *value]) if name == "dialogue_ids" else str(value)))


@app.command("eval")
@clear_errors
def eval_command(
    data: Annotated[Path, typer.Option(help="A corpus file with gold labels.")],
    profile: ProfileName = "laptop",
    json_path: Annotated[Path | None, typer.Option("--json", help="Write results here.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps embeddings.")] = None,
    baseline: Annotated[bool, typer.Option(help="Compare with simple baselines.")] = False,
    hide_timestamps: Annotated[bool, typer.Option(help="Segment without times.")] = False,
    max_queries: Annotated[int | None, typer.Option(help="Evenly spaced subset.", min=1)] = None,
) -> None:
    """Measure a profile on a file with gold fragments and queries."""
    from jobs.eval_text import describe
    from jobs.evaluate import evaluate_file

    if json_path:
        check_writable(json_path)
    results = evaluate_file(
        data,
        profile,
        cache=cache,
        baseline=baseline,
        hide_timestamps=hide_timestamps,
        max_queries=max_queries,
    )
    print(describe(results))
    if json_path:
        json_path.write_text(json.dumps(results, indent=2) + "\n")


@app.command("synth")
@clear_errors
def synth_command(
    dialogues: Annotated[int, typer.Option(help="How many dialogues.", min=1)],
    out: Annotated[Path, typer.Option(help="Folder for the records and images/.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    language: Annotated[str, typer.Option(help="en, zh or mixed.")] = "en",
    turns: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="Turns of a dialogue.", show_default="12:40"),
    ] = None,
    topics: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="Topics of a dialogue.", show_default="2:4"),
    ] = None,
    split: Annotated[str, typer.Option(help="train or heldout; they share no combination.")] = (
        "train"
    ),
    form: Annotated[
        str,
        typer.Option(
            "--format", help="ffrs, or dialogcc: short dialogues (5:11 turns, 1:1 topics)."
        ),
    ] = "ffrs",
    no_images: Annotated[bool, typer.Option("--no-images", help="Text only.")] = False,
    picture_size: Annotated[int, typer.Option(help="Pixels on each side of a picture.")] = 512,
    captions: Annotated[bool, typer.Option("--captions", help="Reveal what images show.")] = False,
    defects: Annotated[float, typer.Option(help="Share of dialogues with a planted defect.")] = 0.0,
) -> None:
    """Generate dialogues with drawn images, gold fragments, queries and QA pairs."""
    from ffr_core.dataset.synthetic import SynthConfig, write
    from ffr_core.errors import ConfigError

    if form not in ("ffrs", "dialogcc"):
        raise ConfigError(f"--format {form!r} is unknown; use ffrs or dialogcc")
    short = form == "dialogcc"
    values = {
        "dialogues": dialogues,
        "seed": seed,
        "language": language,
        "turns": _range("--turns", turns or ("5:11" if short else "12:40")),
        "topics": _range("--topics", topics or ("1:1" if short else "2:4")),
        "split": split,
        "images": not no_images,
        "picture_size": picture_size,
        "captions": captions,
        "defects": defects,
    }
    print(write(SynthConfig.parse(values, "ffrs synth"), out, form=form).as_text())


def _range(option: str, text: str) -> tuple[int, int]:
    from ffr_core.errors import ConfigError

    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal()):
        raise ConfigError(f"{option} {text!r} must be two numbers MIN:MAX, such as 12:40")
    return int(low), int(high)


@app.command("report")
@clear_errors
def report_command(
    run: Annotated[Path, typer.Argument(help="Folder of a report, such as runs/laptop.")],
    open_page: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    readme: Annotated[bool, typer.Option("--readme", help="Print the README's table.")] = False,
) -> None:
    """Show a report that `python -m jobs.compare` made."""
    from jobs.report.show import open_report, report_text

    print(report_text(run, readme))
    if open_page:
        open_report(run)


@app.command("judge")
@clear_errors
def judge_command(
    run: Annotated[Path, typer.Argument(help="Folder of a report, such as runs/laptop.")],
    set_name: Annotated[
        str | None,
        typer.Option("--set", help="Write sheets of this set, or let --engine judge it."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="So many queries, evenly spaced.", min=1)
    ] = None,
    engine: Annotated[Path | None, typer.Option(help="TOML file of a model that judges.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="TOML file of the judge's prompts.")] = None,
    read: Annotated[list[Path] | None, typer.Option(help="A filled sheet; repeatable.")] = None,
) -> None:
    """Judge answers without gold: sheets for people, a model as judge, agreement."""
    from jobs.report.judge_job import check_run
    from jobs.report.show import judge

    check_run(run)
    print(judge(run, set_name, limit=limit, engine=engine, prompts=prompts, read=read or []))


@app.command("doctor")
@clear_errors
def doctor_command(
    profile: ProfileName = "laptop",
    home: Home = None,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired.")] = False,
) -> None:
    """Check this machine and say what a profile uses and what it weighs."""
    from jobs.doctor import examine

    if not examine(profile, home, fix):
        raise typer.Exit(1)


add_operations(app)

if __name__ == "__main__":
    app()
