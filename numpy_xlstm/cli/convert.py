"""``numpy-xlstm convert``: write a checkpoint in the format of another package."""

import argparse
from pathlib import Path

from numpy_xlstm.checkpoints import FORMATS, open_pretrained, save_pretrained
from numpy_xlstm.checkpoints.description import Saving
from numpy_xlstm.checkpoints.pretrained import checked_format, formats_of
from numpy_xlstm.checkpoints.safetensors import FLOATS
from numpy_xlstm.cli.arguments import FROM_LAYOUT, Option, add_options
from numpy_xlstm.cli.display import bar_of
from numpy_xlstm.conformance.bounds import SIXTEEN_BITS
from numpy_xlstm.errors import OptionError
from numpy_xlstm.models.state_dict import LAYOUTS
from numpy_xlstm.numerics.memory import keep_freed_memory

FILES = [name for name, form in FORMATS.items() if form.suffix]
DESCRIPTION = f"""\
Write the model of a checkpoint in the format of another package, as a file for {", ".join(FILES)}
and as a folder for the others. The tokenizer is also written, as a tokenizer.json in a folder, and
the special tokens if the format has them; the state of a training is not. Numbers are unchanged,
bit for bit, unless --dtype rounds them."""

EPILOG = """\
IN is the directory of a run, a folder or file of this package, of transformers or of xlstm, or the
state dict of a torch.nn.LSTM, GRU or RNN; the format is detected from the content. OUT must be a
new path or an empty folder. No code in a file is run, and nothing is written before all of IN is
read and checked."""

OPTIONS: dict[str, Option] = {
    "to": (FORMATS, None, "the format to write (default: by the suffix of OUT)"),
    "dtype": (FLOATS, None, "(default: that of IN)"),
    "layout": (LAYOUTS, "vanilla", "layout of sLSTM in the format xlstm"),
    "from_layout": FROM_LAYOUT,
    "step": (bool, False, "for onnx: a graph of one step, without loops"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("source", metavar="IN", type=Path, help="the checkpoint to read")
    parser.add_argument("path", metavar="OUT", type=Path, help="the folder or file to write")
    add_options(parser, OPTIONS)


def run(args: argparse.Namespace) -> int:
    """Convert a checkpoint and return 0."""
    keep_freed_memory()
    pretrained = open_pretrained(args.source, layout=args.from_layout)
    fitting = formats_of(pretrained.model)
    if args.to is not None and args.to not in fitting:
        trained = {"xlstm": "xlstm"} | dict.fromkeys(("xlstm-large", "transformers"), "xlstm-large")
        model = f", or a model of train --model {trained[args.to]}" if args.to in trained else ""
        raise OptionError(f"--to: expected {' or '.join(fitting)} for IN{model}; got {args.to}")
    saving = Saving(args.dtype, args.layout, step=args.step)
    form = checked_format(pretrained.model, args.path, args.to, saving)
    if args.path.is_file():
        raise OptionError(f"OUT: expected a new path; {args.path} exists")
    tokenizer = pretrained.load_tokenizer() if "tokenizer" in form.options else None
    with bar_of("bytes") as progress:
        weights = "stored" if pretrained.dtype == "float32" else "widened"
        model = pretrained.load(progress=progress, weights=weights)
    dtypes = {stored.dtype for stored in pretrained.stored.values()}
    dtype = args.dtype or (dtypes.pop() if len(dtypes) == 1 else pretrained.dtype)
    save_pretrained(
        model,
        args.path,
        format=form.name,
        dtype=dtype,
        layout=args.layout,
        tokenizer=tokenizer,
        step=args.step,
    )
    if form.name == "transformers" and dtype in SIXTEEN_BITS:
        option = f"from_pretrained(…, inference_state_dtype={dtype!r})"
        print(f"in transformers, training and use_cache=False need {option}")
    return 0
