"""The invented language: its documents, its people, and questions about them."""

from minquant.almanac.language import (
    CONTEXT,
    DIRECTORY,
    KINDS,
    SPLITS,
    Document,
    documents,
    fact,
    fingerprint,
    split_of,
    vocabulary,
)

__all__ = ["CONTEXT", "DIRECTORY", "KINDS", "SPLITS", "Document", "documents"]
__all__ += ["fact", "fingerprint", "split_of", "vocabulary"]
