"""``python -m nbconv.cli``: the command where its script is not on the path."""

import sys

from nbconv.cli import main

sys.exit(main())
