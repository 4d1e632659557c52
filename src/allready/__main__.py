"""`python -m allready`: the same as the command `allready`."""

from allready.cli.main import main

if __name__ == "__main__":
    main()
