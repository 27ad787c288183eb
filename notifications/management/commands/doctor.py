"""What is wrong with this installation, and what to do about it. For people, and for monitors by its exit code."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand

from notifications import doctor
from notifications.doctor import Finding, Severity

#: What a monitor takes for fine, warning and critical.
EXIT_CODES = {Severity.OK: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class Command(BaseCommand):
    help = (
        "Looks at the database and the rights in it, migrations, workers, beat, broker, providers (over a real "
        "connection; nothing is sent), clocks, disk, what waits, and the ledger's invariants. Exit code: 0 all is "
        "well, 1 warnings, 2 errors."
    )
    # It runs them itself, and goes on whatever they say.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = doctor.examine()
        found = self._as_json(findings) if options["json"] else self._as_table(findings)
        sys.exit(EXIT_CODES[doctor.worst(found)])

    def _as_json(self, findings: Iterable[Finding]) -> list[Finding]:
        found = list(findings)
        document = {
            "status": doctor.worst(found),
            "findings": [finding.as_json() for finding in found],
        }
        self.stdout.write(json.dumps(document, indent=2))
        return found

    def _as_table(self, findings: Iterable[Finding]) -> list[Finding]:
        """Line by line, as they come: a provider that does not answer takes its time."""
        found = []
        for finding in findings:
            self._line(finding)
            found.append(finding)
        warnings, errors = (
            sum(finding.severity is severity for finding in found)
            for severity in (Severity.WARNING, Severity.ERROR)
        )
        self.stdout.write(f"\n{errors} error(s), {warnings} warning(s).")
        return found

    def _line(self, finding: Finding) -> None:
        styles = {
            Severity.OK: self.style.SUCCESS,
            Severity.WARNING: self.style.WARNING,
            Severity.ERROR: self.style.ERROR,
        }
        severity = styles[finding.severity](f"{finding.severity:<8}")
        code = "" if finding.severity is Severity.OK else f"  [{finding.code}]"
        self.stdout.write(f"{severity}{finding.component:<18}{finding.sentence}{code}")
        for line in (finding.detail, finding.advice and f"-> {finding.advice}"):
            if line:
                self.stdout.write(f"{'':<26}{line}")
