"""Pictures, metrics and the self-contained page of a result. Pages need the extra ``report``."""
