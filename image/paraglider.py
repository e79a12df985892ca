#!/usr/bin/python3 -P
"""The `paraglider` command of the image."""

from paraglider.cli.main import main

raise SystemExit(main())
