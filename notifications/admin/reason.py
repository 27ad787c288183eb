"""The reason that an act wants, in one line."""

from __future__ import annotations

from django import forms
from unfold import widgets

from notifications.acts import LONGEST_REASON


def reason_field(help_text: str) -> forms.CharField:
    """`help_text` says who is told it."""
    return forms.CharField(
        max_length=LONGEST_REASON,
        widget=widgets.UnfoldAdminTextInputWidget,
        help_text=help_text,
    )
