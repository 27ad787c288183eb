"""Inboxes, and the numbers of their changes. New columns are empty, so nothing is rewritten; what arrived before is taken in
after, by a task on beat.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0012_export_permission"),
        ("users", "0006_inbox"),
    ]

    operations = [
        migrations.CreateModel(
            name="Inbox",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("live", models.BooleanField()),
                ("position", models.BigIntegerField(db_default=0, default=0)),
                ("unread", models.IntegerField(db_default=0, default=0)),
            ],
            options={
                "verbose_name_plural": "inboxes",
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="InboxEvent",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("created", "Arrived"),
                            ("updated", "Read, unread, archived or taken back"),
                            ("removed", "Gone: its time was over, or its person was forgotten"),
                            ("read_all", "All up to a position read"),
                        ],
                        max_length=8,
                    ),
                ),
                ("notification_id", models.UUIDField(null=True)),
                ("read_up_to", models.BigIntegerField(null=True)),
                ("unread", models.IntegerField()),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="notification",
            name="archived_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="notification",
            name="inbox_position",
            field=models.BigIntegerField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="inbox",
            name="recipient",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="inboxes",
                to="users.recipient",
            ),
        ),
        migrations.AddField(
            model_name="inboxevent",
            name="inbox",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="events",
                to="notifications.inbox",
            ),
        ),
        migrations.AddConstraint(
            model_name="inbox",
            constraint=models.UniqueConstraint(
                fields=("recipient", "live"), name="inbox_of_recipient"
            ),
        ),
        migrations.AddIndex(
            model_name="inboxevent",
            index=models.Index(fields=["at"], name="inbox_event_at"),
        ),
        migrations.AddConstraint(
            model_name="inboxevent",
            constraint=models.UniqueConstraint(
                fields=("inbox", "number"), name="inbox_event_number"
            ),
        ),
    ]
