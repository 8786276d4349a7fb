"""What `python webui.py` does, one file per command; modules/cli.py picks."""
