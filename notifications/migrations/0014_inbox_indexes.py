"""The indexes of the inbox. Concurrently: the table may be large, and sending goes on."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("notifications", "0013_inbox"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(("inbox_position__isnull", False)),
                fields=["recipient", "live", "inbox_position"],
                name="notification_inbox",
            ),
        ),
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(
                    ("archived_at", None), ("inbox_position__isnull", False), ("read_at", None)
                ),
                fields=["recipient", "live", "inbox_position"],
                name="notification_unread",
            ),
        ),
        AddIndexConcurrently(
            model_name="notification",
            index=models.Index(
                condition=models.Q(
                    ("channel", "in_app"),
                    ("inbox_position", None),
                    ("recipient__isnull", False),
                    ("status", "delivered"),
                ),
                fields=["id"],
                name="notification_not_in_inbox",
            ),
        ),
    ]
