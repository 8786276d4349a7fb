"""Gradio is imported in processes of their own: this one may have it already."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LOOK = """
import pathlib, sys
written = []
def listen(event, args):
    if event == "open" and str(args[0]).endswith(".pyi"):
        written.append(args)
sys.addaudithook(listen)
from modules.ui.gradio_import import WithoutStubs
finders = list(sys.meta_path)
with WithoutStubs():
    import gradio as gr
assert sys.meta_path == finders
assert not written, written
with gr.Blocks() as page:
    box = gr.Textbox("a", label="b")
    box.change(lambda value: value, box, box)
assert [f.fn(1) for f in page.fns.values()] == [1]
assert "gradio.component_meta" in sys.modules
class Mine(gr.HTML):  # a class that is made later needs the function, too
    pass
assert not written, written
print("fine")
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gradio_is_whole_and_no_stub_is_touched() -> None:
    assert "fine" in run(LOOK)


def test_a_gradio_that_is_there_already_is_left_alone() -> None:
    code = """
import gradio
before = gradio.component_meta.create_or_modify_pyi
from modules.ui.gradio_import import WithoutStubs
with WithoutStubs():
    import gradio
assert gradio.component_meta.create_or_modify_pyi is before
print("fine")
"""
    assert "fine" in run(code)


def test_what_serves_the_page_answers_without_gradio() -> None:
    assert "fine" in run(
        "import sys, modules.ui.web, modules.ui.server; assert 'gradio' not in sys.modules; print('fine')"
    )
