"""``python -m somvae_ext`` is the command ``somvae``."""

import sys

from somvae_ext.cli import main

sys.exit(main())
