"""`python -m heliodor` is the command line."""

from heliodor.cli import main

raise SystemExit(main())
