"""What providers tell us later, and the addresses that must not be written to because of it. New tables only.

Receipts come and change as often as attempts do, so they are vacuumed as these are (0002_autovacuum).
"""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.db import migrations, models

SETTINGS = (
    "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, "
    "autovacuum_analyze_scale_factor = 0.02"
)


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0006_held_index"),
        ("users", "0004_project_mandatory_categories"),
    ]

    operations = [
        migrations.CreateModel(
            name="Receipt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("provider", models.CharField(max_length=50)),
                ("event_id", models.CharField(max_length=255)),
                ("event", models.CharField(max_length=13)),
                ("reject_reason", models.CharField(blank=True, max_length=12)),
                ("code", models.CharField(blank=True, max_length=100)),
                ("detail", models.TextField(blank=True)),
                ("occurred_at", models.DateTimeField()),
                (
                    "received_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("named_id", models.UUIDField(blank=True, null=True)),
                ("provider_message_id", models.CharField(blank=True, max_length=255)),
                ("raw", models.TextField(blank=True)),
                ("applied_at", models.DateTimeField(blank=True, null=True)),
                (
                    "due_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                (
                    "notification",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="receipts",
                        to="notifications.notification",
                    ),
                ),
            ],
            options={
                "ordering": ("occurred_at", "id"),
            },
        ),
        migrations.CreateModel(
            name="SpentToken",
            fields=[
                ("token", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("digest", models.BinaryField(max_length=32)),
                (
                    "spent_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["spent_at"], name="spent_token_age")],
            },
        ),
        migrations.CreateModel(
            name="Suppression",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "channel",
                    models.CharField(choices=[("email", "E-mail"), ("sms", "SMS")], max_length=5),
                ),
                ("address", models.CharField(max_length=320)),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("hard_bounce", "Hard bounce: there is no such mailbox or phone"),
                            ("stop", "STOP: the person has answered an SMS so"),
                            ("complaint", "Complaint: the person has called it spam"),
                            ("unsubscribe", "Unsubscribed"),
                            ("manual", "By hand"),
                        ],
                        default="manual",
                        max_length=11,
                    ),
                ),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("receipt", "A receipt"),
                            ("refusal", "A provider's refusal"),
                            ("api", "The API"),
                            ("console", "The console"),
                            ("import", "An import"),
                        ],
                        editable=False,
                        max_length=7,
                    ),
                ),
                ("detail", models.TextField(blank=True, help_text="What you know of it.")),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "notification",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="notifications.notification",
                    ),
                ),
                (
                    "project",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="users.project",
                    ),
                ),
                (
                    "receipt",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="notifications.receipt",
                    ),
                ),
            ],
            options={
                "ordering": ("-id",),
            },
        ),
        migrations.AddIndex(
            model_name="receipt",
            index=models.Index(
                condition=models.Q(("applied_at__isnull", True)),
                fields=["due_at"],
                name="receipt_due",
            ),
        ),
        migrations.AddIndex(
            model_name="receipt",
            index=models.Index(
                condition=models.Q(("notification__isnull", False)),
                fields=["notification", "occurred_at"],
                name="receipt_notification",
            ),
        ),
        migrations.AddIndex(
            model_name="receipt",
            index=models.Index(
                condition=models.Q(("notification", None)),
                fields=["received_at"],
                name="receipt_unmatched",
            ),
        ),
        migrations.AddConstraint(
            model_name="receipt",
            constraint=models.UniqueConstraint(
                fields=("provider", "event_id"), name="receipt_event"
            ),
        ),
        migrations.AddIndex(
            model_name="suppression",
            index=models.Index(fields=["project", "id"], name="suppression_project"),
        ),
        migrations.AddConstraint(
            model_name="suppression",
            constraint=models.UniqueConstraint(
                fields=("address", "channel", "project"), name="suppression_address"
            ),
        ),
        migrations.AddConstraint(
            model_name="suppression",
            constraint=models.CheckConstraint(
                condition=models.Q(("address", django.db.models.functions.text.Lower("address"))),
                name="suppression_lower_case",
            ),
        ),
        migrations.RunSQL(
            f"ALTER TABLE notifications_receipt SET ({SETTINGS})", migrations.RunSQL.noop
        ),
    ]
