"""A pytest plugin for measure_coverage.py: pytest-xdist would kill workers that take ten seconds to write counts."""

from xdist.workermanage import NodeManager

if not hasattr(NodeManager, "EXIT_TIMEOUT"):
    raise AttributeError("xdist.workermanage.NodeManager has no EXIT_TIMEOUT any more: find what stands for it")
NodeManager.EXIT_TIMEOUT = 600
