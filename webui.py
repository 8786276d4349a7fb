"""Inferenz, started: `python webui.py`, `python webui.py generate "a red apple"`, `python webui.py test`.

Kept to syntax that any Python reads, so that an old one can be told in a sentence what to do. Worker processes import
this file again; they find nothing to run in it.
"""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - pip's check of requires-python does not run here
        sys.exit(
            "Inferenz needs Python 3.11 or newer; this is %d.%d. "  # noqa: UP031 - older Pythons have no f-strings
            "Install one (python.org, or your system's packages) and run it with: %s webui.py"
            % (sys.version_info[0], sys.version_info[1], "py" if sys.platform == "win32" else "python3.11")
        )

    from modules.bootstrap.start import bootstrap

    status = bootstrap(sys.argv[1:])
    if status is None:
        from modules.cli import main

        status = main(sys.argv[1:])
    sys.exit(status)
