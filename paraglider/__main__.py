"""`python -m paraglider`: the same as the `paraglider` command."""

from paraglider.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
