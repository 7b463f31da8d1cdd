"""Generation of token ids with a language model, one decode step for each token of all rows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.generation.config import GenerationConfig, config_of
from numpy_xlstm.generation.sampling import draw
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.numerics import Array, check_batch, check_callable, generator_or_new
from numpy_xlstm.numerics.memory import keep_freed_memory
from numpy_xlstm.trees import join_states

TokenModel = Callable[..., tuple[Array, Any]]
"""Interface of a model for generation: a function from tokens (B, T) and a state, or None, to
logits (B, T, V) and the next state."""

Ids = npt.NDArray[np.int64]


def generate(
    model: TokenModel,
    ids: IndexArray | None = None,
    *,
    rng: np.random.Generator | int | None = None,
    **options: Any,
) -> Ids:
    """Continue rows of ids.

    The model reads the prompt in one call, and each new token in a decode step of
    :meth:`LanguageModel.prepared`, which equals a call up to rounding. Generation ends when every
    row has an end token, or after ``max_new_tokens``.

    Parameters
    ----------
    model : TokenModel
        Model that maps tokens (B, T) and a state to logits (B, T, V) and a state. A model without
        ``prepared`` is called for each token. Its ``special_tokens``, which :func:`from_pretrained`
        reads from the checkpoint, are the defaults of ``bos_token_id``, ``eos_token_id`` and
        ``pad_token_id``. With ``eos_token_id=[]`` no token ends a row.
    ids : np.ndarray, optional
        Integers (B, T), from 0 to V − 1, with rows of equal length; ``[[bos_token_id]]`` if
        omitted. No BOS is inserted before them.
    rng : np.random.Generator or int, optional
        Generator from which one number per row and token is drawn, or its seed; a new, unseeded one
        if omitted. It is the only source of randomness.
    **options
        Attributes of :class:`GenerationConfig`: ``max_new_tokens``, ``do_sample``, ``temperature``,
        ``top_k``, ``top_p``, ``repetition_penalty``, ``suppress_tokens``, ``bos_token_id``,
        ``eos_token_id``, ``pad_token_id``.

    Returns
    -------
    np.ndarray
        The prompt and the new ids, int64 (B, T + N). A row that ends before others is padded with
        ``pad_token_id``.

    Examples
    --------
    >>> from numpy_xlstm import LSTM, LanguageModel, generate
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(10, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> generate(model, np.array([[1, 2, 3], [4, 5, 6]]), max_new_tokens=4).shape
    (2, 7)
    >>> ids = generate(model, np.array([[1]]), do_sample=True, eos_token_id=[2, 3], rng=rng)
    >>> bool(ids[0, -1] in (2, 3))
    True
    """
    config = config_of(model, options)
    rows = [start(model, ids, config)]
    rows.extend(tokens[:, None] for tokens in new_tokens(model, rows[:1], config, rng))
    return np.concatenate(rows, axis=1)


def start(model: Any, ids: IndexArray | None, config: GenerationConfig) -> Ids:
    """Return the ids (B, T) to continue: the given ones, or the BOS of the options."""
    check_callable("model", model)
    size = getattr(model, "vocab_size", 2**63 - 1)  # otherwise the first logits show it
    config.check_size(size)
    if ids is None:
        if config.bos_token_id is None:
            raise OptionError("ids: expected an array, or a bos_token_id; got None")
        return np.array([[config.bos_token_id]], np.int64)
    check_indices("ids", ids, size)
    if ids.ndim != 2 or not ids.shape[1]:
        raise ShapeError(f"ids: expected shape (B, T), T at least 1; got {ids.shape}")
    check_batch("ids", ids)
    return ids.astype(np.int64)


def new_tokens(
    model: Any,
    prompts: Sequence[IndexArray],
    config: GenerationConfig,
    rng: np.random.Generator | int | None = None,
    size: int | None = None,
) -> Iterator[Ids]:
    """Return an iterator of the next ids of all rows, shape (B,): the loop of generation.

    Each array of ids (b, T) in ``prompts`` is read in a separate call, so T may differ; B is the
    sum of all b. Only the first ``size`` ids can be generated, all if omitted. A row that has ended
    gets ``pad_token_id``. The iterator ends when all rows have ended, or after ``max_new_tokens``.
    """
    rng, end, padding = generator_or_new(rng), config.ends, config.padding
    banned = list(config.ids("suppress_tokens"))

    def steps() -> Iterator[Ids]:
        keep_freed_memory()
        outputs = [model(ids, None) for ids in prompts]
        logits = np.concatenate([logits[:, -1] for logits, _ in outputs])
        state = join_states([state for _, state in outputs])
        check_width(logits.shape[-1], size)
        config.check_size(logits.shape[-1])
        rows = [row for ids in prompts for row in ids]
        seen = np.zeros(logits.shape, bool)
        for row, ids in enumerate(rows):
            seen[row, ids] = True
        prepared = model.prepared() if hasattr(model, "prepared") else None
        ended = np.zeros(len(rows), bool)
        for left in reversed(range(config.max_new_tokens)):
            allowed = np.array(logits)
            allowed[:, banned] = -np.inf
            drawn = np.where(ended, padding, draw(allowed[:, :size], seen[:, :size], config, rng))
            yield drawn
            ended |= np.isin(drawn, end)
            if ended.all() or not left:
                return
            seen[np.arange(len(rows)), drawn] = True
            if prepared is not None:
                logits, state = prepared.compute(drawn, state)
            else:
                logits, state = model(drawn[:, None], state)
                logits = logits[:, -1]

    return steps() if config.max_new_tokens and prompts else iter(())


def check_width(width: int, size: int | None) -> None:
    """Raise :class:`ShapeError` if there are fewer logits than ids in the tokenizer."""
    if size is not None and width < size:
        expected = f"a logit for each of the {size} ids of the tokenizer"
        raise ShapeError(f"model: expected {expected}; got {width}")
