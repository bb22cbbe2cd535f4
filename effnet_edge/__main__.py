"""``python -m effnet_edge``: the ``effnet-edge`` command."""

import sys

from effnet_edge.cli import main

sys.exit(main())
