"""Generate text with a run's model, a token at a time, with a cache of keys and values.

RUN is a run with a checkpoint, or a folder of weights in Hugging Face's names. Tokens are bytes, or
those of the tokenizer that the run was given, or that lies in the folder.

Example:  devkit train sample last "def main(" --tokens 200 --temperature 0.7
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from devkit.commands._cli.options import Env, Json


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN|DIR", help="A run's id, or last, or a folder of weights.")],
    text: Annotated[str, typer.Argument(help="What the model goes on from.")],
    tokens: Annotated[int, typer.Option(min=1, max=100_000, help="How many to add.")] = 120,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest each time.")] = 0.8,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="Draw among the likeliest K; 0: among all.")] = 0,
    tokenizer: Annotated[
        str, typer.Option(metavar="FILE", help="A tokenizer.json, or a folder with one; the model's own by default.")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="The seed of the draw.")] = 0,
    env: Env = "",
    as_json: Json = False,
) -> None:
    from devkit.envs.resolve import resolve
    from devkit.training.weights import model_at, sample, tokenizer_at

    app = ctx.obj
    source = model_at(app, run, "the model")
    message: dict[str, Any] = {"tokenizer": tokenizer_at(tokenizer) if tokenizer else None}
    message |= {"text": text, "tokens": tokens, "temperature": temperature, "top_k": top_k, "seed": seed}
    with app.console.progress("sampling"):
        sampled = sample(app, resolve(app.config, env), source, message)
    if as_json:
        app.console.json({"prompt": text, **{key: value for key, value in sampled.items() if key != "event"}})
        return
    for line in (text + sampled["text"]).split("\n"):
        app.console.answer(line)
    app.console.note(f"  {len(sampled['tokens'])} tokens, {sampled['tokens_per_s']:.0f} a second", "dim")
