"""Description of the package on an index: README without pictures and links into the repository."""

import re
from pathlib import Path

from setuptools import setup

text = Path(__file__).with_name("README.md").read_text("utf-8")
text = re.sub(r"<p>.*?</p>\n+|!\[[^]]*\]\([^)]*\)\n+", "", text, flags=re.DOTALL)
text = re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
setup(long_description=text, long_description_content_type="text/markdown")
