"""From a bare Python to one that can run Inferenz: standard library only, nothing is imported that may be missing.

requirements.py   what pyproject.toml asks for, what the locks pin, whether an environment has it
machine.py        every question to, and every act on, this computer in one value that tests replace
torch_build.py    which build of torch fits the machine
installer.py      the project's own environment, and pip or uv in it
start.py          the decisions, in order
checks.py         `python webui.py test`
"""
