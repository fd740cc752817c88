"""The command line, in a process that knows the tests' own parts: `python -m faults.command run RECIPE ...`."""

from faults import poison  # noqa: F401

from warmstart.cli import main

if __name__ == "__main__":
    main()
