"""Generation compared with transformers: the same ids, stops and probabilities."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, generate, save_pretrained
from numpy_xlstm.generation import GenerationConfig, probabilities

REASON = "{} (the extra 'peers') is not installed"
torch = pytest.importorskip("torch", reason=REASON.format("PyTorch"))
transformers = pytest.importorskip("transformers", reason=REASON.format("transformers"))
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)  # the models are tiny

VOCAB, PROMPT = 64, np.array([[5, 9, 33, 2], [60, 0, 7, 7], [11, 12, 13, 14]])


def theirs(**options: Any) -> Any:
    """A tiny model of theirs whose likeliest token changes from step to step."""
    torch.manual_seed(0)
    config = transformers.xLSTMConfig(
        vocab_size=VOCAB,
        hidden_size=256,  # the cache that they make has heads of 64 or a multiple
        num_hidden_layers=2,
        num_heads=2,
        autocast_kernel_dtype="float32",
        **{"eos_token_id": None, "pad_token_id": None, "bos_token_id": 3} | options,
    )
    model = transformers.xLSTMForCausalLM(config).eval()
    for name, array in model.named_parameters():
        if array.ndim == 2:
            std = 1.0 if "embeddings" in name else 2 * array.shape[1] ** -0.5
            torch.nn.init.normal_(array, std=std)
        elif "bias" in name:
            torch.nn.init.normal_(array)
    return model


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Their model, and ours from its checkpoint."""
    model, folder = theirs(), tmp_path_factory.mktemp("theirs")
    model.save_pretrained(folder)
    return model, from_pretrained(folder)


def continued(model: Any, ids: Any, **options: Any) -> list[list[int]]:
    mask = torch.ones(ids.shape)
    rows: list[list[int]] = model.generate(
        torch.tensor(ids), attention_mask=mask, **options
    ).tolist()
    return rows


def test_greedy_ids(pair: tuple[Any, Any]) -> None:
    model, ours = pair
    expected = continued(model, PROMPT, max_new_tokens=60)
    assert generate(ours, PROMPT, max_new_tokens=60).tolist() == expected
    assert sum(len(set(row[4:])) for row in expected) > 30
    with pytest.warns(UserWarning, match="default `max_length`"):
        twenty = continued(model, PROMPT)
    assert generate(ours, PROMPT).tolist() == twenty
    assert len(twenty[0]) == 4 + 20


@pytest.mark.parametrize("penalty", [1.2, 3.0])
def test_the_repetition_penalty(penalty: float, pair: tuple[Any, Any]) -> None:
    model, ours = pair
    options: dict[str, Any] = {"max_new_tokens": 40, "repetition_penalty": penalty}
    expected = continued(model, PROMPT, **options)
    assert generate(ours, PROMPT, **options).tolist() == expected
    assert expected != continued(model, PROMPT, max_new_tokens=40)


def test_end_tokens_that_are_passed(pair: tuple[Any, Any]) -> None:
    model, ours = pair
    free = continued(model, PROMPT, max_new_tokens=30)
    ends = [free[0][4 + 6], free[1][4 + 11]]
    for end, pad in product((ends[0], ends), ({}, {"pad_token_id": 1})):
        options: dict[str, Any] = {"max_new_tokens": 30, "eos_token_id": end, **pad}
        expected = continued(model, PROMPT, **options)
        assert generate(ours, PROMPT, **options).tolist() == expected != free


def test_end_tokens_of_the_checkpoint(tmp_path: Path) -> None:
    free = continued(theirs(), PROMPT, max_new_tokens=30)
    first, second, third = (free[row][4 + 5 * row + 3] for row in range(3))
    model = theirs(eos_token_id=first, pad_token_id=1)
    model.save_pretrained(tmp_path / "one")
    expected = continued(model, PROMPT, max_new_tokens=30)
    ours = from_pretrained(tmp_path / "one")
    assert generate(ours, PROMPT, max_new_tokens=30).tolist() == expected != free
    again = transformers.xLSTMForCausalLM.from_pretrained(tmp_path / "one")
    again.generation_config.eos_token_id = [second, third]
    again.save_pretrained(tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert config["eos_token_id"] == first
    ours = from_pretrained(tmp_path / "two")
    expected = continued(again, PROMPT, max_new_tokens=30)
    assert generate(ours, PROMPT, max_new_tokens=30).tolist() == expected
    save_pretrained(ours, tmp_path / "three", format="transformers")
    back = transformers.xLSTMForCausalLM.from_pretrained(tmp_path / "three")
    assert continued(back, PROMPT, max_new_tokens=30) == expected


def test_without_a_prompt_there_is_the_bos(pair: tuple[Any, Any]) -> None:
    model, ours = pair
    expected = model.generate(max_new_tokens=9).tolist()
    assert generate(ours, max_new_tokens=9).tolist() == expected
    assert expected[0][0] == 3


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.6},
        {"temperature": 1.5, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.3},
    ],
)
def test_probabilities(options: dict[str, Any]) -> None:
    """With their processors, in the order of their ``generate``."""
    logits = torch.tensor(np.random.default_rng(0).standard_normal((3, VOCAB)) * 3)
    kinds = {
        "repetition_penalty": transformers.RepetitionPenaltyLogitsProcessor,
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
    }
    scores = logits
    for name, kind in kinds.items():
        if name in options:
            scores = kind(options[name])(torch.tensor(PROMPT), scores)
    expected = scores.softmax(dim=-1).numpy()
    config = GenerationConfig(do_sample=True, **options)
    seen = np.zeros(logits.shape, bool)
    np.put_along_axis(seen, PROMPT, True, axis=1)
    got = probabilities(logits.numpy(), seen, config)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=0)
