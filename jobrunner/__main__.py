"""`python -m jobrunner`: the same as the command `jobrunner`."""

from jobrunner.cli import main

if __name__ == "__main__":
    main()
