"""Models: each short, built from public layers only, and meant to be copied."""

from .language_model import LanguageModel as LanguageModel

__all__ = ["LanguageModel"]
