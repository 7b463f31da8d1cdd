"""Every public call with valid arguments, for tests with wrong arguments and with threads."""

import json
from pathlib import Path
from typing import Any

import numpy as np

import numpy_xlstm as nx
from numpy_xlstm import checkpoints, generation, layers, models, training
from numpy_xlstm.conformance import suite
from tests.models.build import large_config, make
from tests.reliability.builders import RNG, builders
from tests.reliability.calls import Call, Fresh, Make, made, methods, rng

TEXT = "the quick brown fox jumps over the lazy dog. " * 8
IDS = np.arange(60) % 7
BATCH = training.Batch(IDS[None, :-1], IDS[None, 1:])
OPTIONS: dict[str, Any] = {
    **{"max_new_tokens": 3, "do_sample": True, "temperature": 0.7, "top_k": 3, "top_p": 0.9},
    **{"repetition_penalty": 1.1, "suppress_tokens": [1], "bos_token_id": 4},
    **{"eos_token_id": [2, 3], "pad_token_id": 5},
}


WORDS = {"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}


def entry(function: Any, /, **arguments: Any) -> dict[str, Make]:
    """Return a call with these arguments under the name of the function."""
    return {function.__qualname__: made(function, **arguments)}


def model() -> Any:
    return models.LanguageModel(256, 4, layers.LSTM(4, 8, rng=rng()), rng=rng())


def state() -> Any:
    built = model()
    return training.TrainingState(built, training.AdamW(built.params), rng())


def large() -> Any:
    return make(large_config())


def generators() -> dict[str, Make]:
    """Return the calls of generation."""
    tokenizer, config = nx.ByteTokenizer(), generation.GenerationConfig(**OPTIONS)
    logits = np.cos(np.arange(14.0)).reshape(2, 7)
    known: Any = {"model": Fresh(model), "rng": RNG}
    characters = nx.CharacterTokenizer.of(TEXT)
    calls: dict[str, Make] = {
        **entry(nx.generate, **known, ids=np.array([[1, 2]]), **OPTIONS),
        **entry(
            nx.generate_text, **known, tokenizer=tokenizer, prompts=["ab"], stop=["x"], **OPTIONS
        ),
        **entry(nx.stream, **known, tokenizer=tokenizer, prompt="ab", stop=["x"], **OPTIONS),
        **entry(generation.GenerationConfig, **OPTIONS),
        **entry(generation.draw, logits=logits, seen=logits > 0, config=config, rng=RNG),
        **entry(generation.probabilities, logits=logits, seen=logits > 0, config=config),
        **entry(generation.StreamDecoder, tokenizer=tokenizer, stop=["a"]),
        **entry(generation.check_prompt, prompt="ab", tokenizer=tokenizer),
        **entry(generation.join_states, states=[(logits, None), (logits, None)]),
        **entry(generation.TokenizerDescription, kind="byte"),
        **entry(nx.CharacterTokenizer, symbols="abc"),
        **entry(nx.CharacterTokenizer.of, text="abc"),
    }
    for made_from in (tokenizer, characters):
        calls |= entry(made_from.encode, text="ab") | entry(made_from.decode, ids=np.array([1, 2]))
    return calls


def updates() -> dict[str, Make]:
    """Return the calls of a training step and of the optimiser."""
    grads = {"a": np.ones(3), "b": np.ones((2, 2))}

    def stepped(dtype: Any) -> Call:
        built = model()
        given: dict[str, Any] = {"lr": 0.1, "max_norm": 1.0, "state": None, "accumulate": 1}
        given["rng"] = rng()
        optimizer = training.AdamW(built.params)
        given = {"model": built, "optimizer": optimizer, "batch": BATCH} | given
        return Call(training.train_step, given)

    def updated(dtype: Any) -> Call:
        params = {n: np.array(a, dtype) for n, a in grads.items()}
        gradients = {n: np.cos(a) for n, a in params.items()}
        return Call(training.AdamW(params).step, {"grads": gradients, "lr": 0.1})

    return {
        **entry(
            training.AdamW,
            params=Fresh(lambda: {n: a.copy() for n, a in grads.items()}),
            lr=1e-3,
            betas=(0.9, 0.99),
            eps=1e-8,
            weight_decay=0.1,
            decays=training.is_matrix,
        ),
        "AdamW.step": updated,
        **entry(training.clip_grad_norm, grads=grads, max_norm=1.0),
        **entry(training.global_norm, grads=grads),
        "train_step": stepped,
    }


def trainers() -> dict[str, Make]:
    """Return the calls of a training of several steps, except those with files."""
    budget, split = training.Budget(steps=1), training.split_text(TEXT, 3, nx.ByteTokenizer())
    learning: Any = {"batch_size": 2, "window": 3, "carry": True, "validate_every": 1}
    learning |= {"max_norm": 1.0, "accumulate": 1}
    return {
        **entry(training.train, state=Fresh(state), batches=[BATCH], budget=budget, carry=True),
        **entry(training.learn, state=Fresh(state), split=split, budget=budget, **learning),
        **entry(
            training.validation_bits, model=Fresh(model), ids=IDS, characters=60, rows=2, window=5
        ),
        **entry(
            training.TrainingState,
            model=Fresh(model),
            optimizer=Fresh(lambda: training.AdamW(model().params)),
            rng=RNG,
        ),
        **entry(training.Budget, steps=3, seconds=1.0),
        **entry(training.warmup_cosine, warmup=0.1, final=0.2),
    }


def texts() -> dict[str, Make]:
    """Return the calls that divide and measure a text."""
    return {
        **entry(training.split_text, text=TEXT, window=3, tokenizer=None),
        **entry(training.random_windows, ids=IDS, batch_size=2, window=3, rng=RNG),
        **entry(training.consecutive_windows, ids=IDS, batch_size=2, window=3, start=1),
        **entry(training.unigram_entropy, text="abca"),
        **entry(training.bigram_entropy, text="abca"),
    }


def others() -> dict[str, Make]:
    """Return the functions of cells and states, and gradcheck."""
    xs = np.cos(np.arange(24.0)).reshape(2, 4, 3)

    checked = {"target": Fresh(lambda: layers.Linear(3, 2, rng=rng())), "rng": 0}
    checked |= {"rtol": 1e-6, "max_entries": 2, "directions": 1}
    return {
        "gradcheck": made(
            lambda **given: nx.gradcheck(given.pop("target"), xs, **given), **checked
        ),
        **entry(nx.gate_rows, array=np.ones((8, 3)), gate="f"),
        **entry(nx.with_weight_mode, model=Fresh(large), weight_mode="fused"),
    }


def files(folder: Path) -> dict[str, Make]:
    """Return the calls that read and write files in a folder."""
    own, whole = folder / "own.safetensors", folder / "large"
    nx.save_pretrained(model(), own, tokenizer=nx.ByteTokenizer())
    nx.save_pretrained(large(), whole, format="transformers")
    (folder / "text.txt").write_text(TEXT, "utf-8")
    arrays = {"a": np.ones(3)}
    new = folder / "new.safetensors"
    loading: Any = {"dtype": np.float32, "layout": None, "mapped": False, "progress": None}
    loaded = {n: v for n, v in loading.items() if n != "layout"}
    saving: Any = {"format": None, "dtype": None, "layout": "vanilla", "tokenizer": None}
    saving |= {"training": {"step": 1}, "arrays": arrays}
    run = folder / "run"
    training.Run.begin(run, state())
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps(WORDS), "utf-8")
    return {
        **entry(nx.save_pretrained, model=Fresh(model), path=new, **saving),
        **entry(nx.from_pretrained, path=whole, **loading),
        **entry(nx.open_pretrained, path=whole, layout=None),
        **entry(checkpoints.read_arrays, path=own),
        **entry(checkpoints.write_arrays, path=new, arrays=arrays, metadata={"a": 1}),
        **entry(checkpoints.open_pretrained(whole).load, **loaded),
        **entry(training.read_text, path=folder / "text.txt"),
        **entry(training.read_log, path=run / "log.jsonl"),
        **entry(training.TrainingState.load, path=run / "checkpoint.safetensors"),
        **entry(training.Run.resume, directory=run),
        **entry(nx.HuggingFaceTokenizer, json=json.dumps(WORDS)),
        **entry(nx.HuggingFaceTokenizer.from_file, path=tokenizer),
    }


def calls() -> dict[str, Make]:
    """Return all calls except those with files."""
    found: dict[str, Make] = {}
    for name, case in suite.cases().items():
        found |= methods(name, case)
    return found | builders() | generators() | updates() | trainers() | texts() | others()
