"""Names that users of other libraries try, and that this package takes in another form or lacks."""

import re
from collections.abc import Callable, Collection
from functools import wraps
from inspect import signature
from typing import Any, TypeVar, cast

from numpy_xlstm.numerics import did_you_mean

Function = TypeVar("Function", bound=Callable[..., Any])

ATTRIBUTES = {
    "write print(model), which shows all parts, or params, which has all their arrays": (
        "modules named_modules children named_children layers summary weights get_weights blocks "
        "trainable_variables trainable_weights count_params"
    ),
    "write model.num_parameters, without brackets": "num_parameters",
    "write model.params, a dict of arrays by name": (
        "parameters named_parameters weight_ih weight_hh bias_ih bias_hh weight bias kernel"
    ),
    "write copy.deepcopy(layer)": "copy clone",
}
"""Advice for attributes alone; an argument of the same name would mean something else."""

ADVICE = ATTRIBUTES | {
    # of a module, a model or an optimiser
    "leave it out: entries are dropped only if forward gets rng=…": (
        "train eval training deterministic"
    ),
    "leave it out: all arrays are NumPy arrays in the memory of the CPU": (
        "cpu cuda device device_map detach numpy from_numpy"
    ),
    "write astype(np.float32) for another dtype; there is no device but the CPU": "to type",
    "write astype(np.float32)": "float",
    "write astype(np.float64)": "double",
    "write astype(np.float32), the smallest supported dtype": "half bfloat16",
    "leave it out: each backward returns new gradients, and none are added up": "zero_grad",
    "write dx, dstate0, grads = layer.backward(dy, cache)": "grad value_and_grad",
    "leave it out: backward returns the gradients of all parameters": "requires_grad_",
    "leave it out: it has no effect on the CPU": "flatten_parameters",
    "make a new layer, with rng=…": "reset_parameters",
    "write layer.init_state(batch_size)": "init_hidden zero_state initialize_carry",
    "write layer(x), which returns the outputs and the state": (
        "predict last_hidden_state return_sequences return_state return_dict"
    ),
    "write layer(x), or a loop over params: it means one in Flax and the other in PyTorch": "apply",
    "write model.head": "lm_head",
    "write layer(x, state) with the state of the call before": (
        "hx past_key_values use_cache initial_state initial_carry"
    ),
    "write logits, state = model(ids)": "logits input_ids",
    "write loss, cache = softmax_cross_entropy(logits, targets)": (
        "loss labels cross_entropy CrossEntropyLoss"
    ),
    "write params[name] -= lr * grads[name] for each name in grads": "SGD",
    "write optimizer.lr = … for all; AdamW(params, decays=…) selects what decays": "param_groups",
    "write numpy_xlstm.training.learn or train_step": "fit compile Trainer TrainingArguments",
    # options
    "write rng=0, a seed, or rng=np.random.default_rng(0)": "seed generator key rngs random_state",
    "for sLSTM and mLSTM write stack_layers(sLSTM, 10, 20, num_layers=2, dropout=0.1)": (
        "num_layers dropout bidirectional"
    ),
    "write input_size and hidden_size; in a LanguageModel it is embedding_size": (
        "embedding_dim units features input_dim hidden_dim"
    ),
    "write num_heads": "heads n_heads nhead",
    "write embedding_dim and num_blocks, as xlstm": "num_hidden_layers",
    "write tied": "tie_weights",
    "write lr": "learning_rate",
    "leave it out: names and shapes must be those of params": "strict",
    "write load_state_dict(arrays), or params[name][...] = array": "set_weights load_weights",
    "write nonlinearity": "activation",
    "write max_new_tokens": "max_length",
    "write dtype": "torch_dtype",
    # of the package
    "write rng=0 in each constructor": "manual_seed",
    "leave it out: layer(x) keeps no residuals, and layer.forward(x) returns them": (
        "no_grad inference_mode"
    ),
    "write numpy_xlstm.LSTM: the layers are in the package itself": "nn",
    "write numpy_xlstm.softmax_cross_entropy: functions are in the package itself": "functional",
    "write numpy_xlstm.AdamW": "optim optimizers",
    "leave it out: x has a batch axis, and the extra fast compiles the kernels": "jit vmap",
    "write AdamW(model.params, weight_decay=0)": "Adam",
    "write np.array(…)": "tensor",
    "write np.ndarray": "Tensor",
    "write dy = 2 * (y - target) / y.size, which backward takes": "MSELoss",
    "write grads, norm = clip_grad_norm(grads, max_norm)": "clip_grad_norm_",
    "write save_pretrained(model, path)": "save save_pretrained push_to_hub",
    "write model = from_pretrained(path), or from_pretrained(path, xLSTMLarge)": (
        "load load_model from_pretrained AutoModel AutoModelForCausalLM xLSTMForCausalLM"
    ),
    "write open_pretrained(path).load_tokenizer()": "AutoTokenizer",
    "write generate_text(model, tokenizer, prompt)": "pipeline",
    "write numpy_xlstm.generate(model, ids)": "generate",
    "write xLSTMLMModel, or xLSTMLarge for the model of xLSTM 7B": "xLSTM xLSTMModel",
    "write layer.forward(x, lengths=…)": (
        "pack_padded_sequence pad_packed_sequence pad_sequence attention_mask mask seq_lengths"
    ),
    "call one layer after the other, or write stack_layers for recurrent layers": "Sequential",
    "write Linear": "Dense",
    "write CausalConv1d": "Conv1d",
}
"""Advice, and the names for which it appears in the errors about unknown attributes of modules,
optimisers and the package. The page "Coming from PyTorch" has the same table."""

SENTENCES = {name: advice for advice, names in ADVICE.items() for name in names.split()}
"""The advice for each name."""


def explained(message: object, name: str, known: Collection[str] = ()) -> str:
    """Return the message of an error about a name, with its sentence or a similar known name."""
    if name in SENTENCES:
        return f"{message}; {SENTENCES[name]}"
    return f"{message}{did_you_mean(name, known) if known else ''}"


def advising(function: Function) -> Function:
    """Decorate a function: its error about wrong arguments says which are right.

    Examples
    --------
    >>> @advising
    ... def scaled(x, *, dtype=None): ...
    >>> scaled([1.0], torch_dtype="float32")
    Traceback (most recent call last):
    TypeError: scaled() got an unexpected keyword argument 'torch_dtype'; write dtype
    """
    expected = signature(function)

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except TypeError as error:
            try:
                expected.bind(*args, **options)
            except TypeError:
                known = expected.parameters
                takes = [name + "=…" * (p.kind is p.KEYWORD_ONLY) for name, p in known.items()]
                advice = "it takes " + ", ".join(takes).removeprefix("self, ")
                unknown = next((name for name in options if name not in known), "")
                sentence = SENTENCES.get(unknown, advice)
                renamed = re.match(r"write (\w+)( and|;|$)", sentence)
                if sentence in ATTRIBUTES or (renamed and renamed[1] not in known):
                    sentence = advice  # the sentence is for attributes or for other functions
                message = str(error).partition(". Did you mean")[0]  # Python 3.13 guesses a name
                if function.__name__ == "__init__":  # perhaps of a base
                    message = message.replace(function.__qualname__, type(args[0]).__name__)
                raise TypeError(f"{message}; {sentence}") from None
            raise  # the error comes from within

    return cast(Function, call)
