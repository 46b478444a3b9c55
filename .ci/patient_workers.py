"""A plugin of pytest for measure_coverage.py: pytest-xdist would kill workers that need ten seconds to write counts."""

from xdist.workermanage import NodeManager

NodeManager.EXIT_TIMEOUT = 600
