"""django-post-office sends as many mails as asked, from its own queue: `python -m bench.post_office MAILS PROCESSES`.

Prints the seconds that `send_queued_mail_until_done` took: what its management command calls. The mails are the same as
ours, both parts and the headers.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "bench.post_office_settings"


def main(mails: int, processes: int) -> None:
    django.setup()
    from django.core.management import call_command
    from post_office.mail import send_queued_mail_until_done
    from post_office.models import STATUS, Email

    call_command("migrate", verbosity=0)
    Email.objects.all().delete()
    content = json.load(sys.stdin)
    Email.objects.bulk_create([_mail(Email, content, number) for number in range(mails)])
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        send_queued_mail_until_done(str(Path(folder) / "lock"), processes)
        took = time.monotonic() - started
    assert Email.objects.filter(status=STATUS.sent).count() == mails
    print(took)


def _mail(model, content: dict[str, str], number: int):  # type: ignore[no-untyped-def]
    from post_office.models import PRIORITY, STATUS

    return model(
        from_email=content["from_email"],
        to=[content["to"]],
        subject=content["subject"],
        message=content["text"],
        html_message=content["html"],
        status=STATUS.queued,
        priority=PRIORITY.medium,
        headers={"X-Notification-Id": f"00000000-0000-7000-8000-{number:012}"},
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
