"""Batches, and rates for flows and providers. New tables, and columns that cost no rewrite.

The release before this one makes a project's flow with ON CONFLICT (lane, project_id), which no longer names a unique
index: until its web processes are restarted, the first notification of a project in a lane new to it is answered with an
error and not stored.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
import django.db.models.functions.text
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("notifications", "0007_receipts_and_suppressions"),
        ("users", "0004_project_mandatory_categories"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Batch",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=255)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("loading", "Loading: its rows are being stored; nothing goes out"),
                            ("ready", "Ready: waits for its time, or for somebody to start it"),
                            ("running", "Running"),
                            ("paused", "Paused"),
                            ("completed", "Completed: nothing of it moves by itself any more"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="loading",
                        max_length=9,
                    ),
                ),
                ("reason", models.TextField(blank=True)),
                (
                    "channel",
                    models.CharField(
                        choices=[("email", "E-mail"), ("sms", "SMS"), ("in_app", "In-app")],
                        max_length=6,
                    ),
                ),
                (
                    "priority",
                    models.CharField(
                        choices=[("high", "High"), ("normal", "Normal"), ("low", "Low")],
                        default="low",
                        max_length=6,
                    ),
                ),
                ("live", models.BooleanField(help_text="Else everything goes to the sandbox.")),
                ("title", models.TextField(blank=True)),
                ("message", models.TextField()),
                ("html", models.TextField(blank=True)),
                ("url", models.TextField(blank=True)),
                ("category", models.CharField(blank=True, max_length=100)),
                (
                    "source",
                    models.CharField(
                        choices=[
                            ("file", "A file"),
                            ("recipients", "All recipients of the project"),
                        ],
                        default="file",
                        max_length=10,
                    ),
                ),
                ("file_name", models.CharField(blank=True, max_length=255)),
                ("digest", models.BinaryField(max_length=32)),
                ("last_recipient_id", models.BigIntegerField(blank=True, null=True)),
                ("encoding", models.CharField(blank=True, max_length=40)),
                ("skip_invalid", models.BooleanField(default=False)),
                ("once_per_address", models.BooleanField(default=True)),
                ("cursor", models.BigIntegerField(default=0)),
                ("loaded", models.BigIntegerField(default=0)),
                ("rejected", models.BigIntegerField(default=0)),
                ("report", models.JSONField(blank=True, default=dict)),
                ("leased_until", models.DateTimeField(blank=True, null=True)),
                ("starts_by_itself", models.BooleanField(default=True)),
                ("scheduled_for", models.DateTimeField(blank=True, null=True)),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("failure_limit", models.FloatField(default=0.2)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("loaded_at", models.DateTimeField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("resumed_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name_plural": "batches",
                "ordering": ("-id",),
                "permissions": (
                    ("send_batch", "Can send a batch, pause, resume and cancel it"),
                    ("download_batch", "Can download who got a batch, with their addresses"),
                ),
            },
        ),
        migrations.CreateModel(
            name="Pace",
            fields=[
                ("provider", models.CharField(max_length=50, primary_key=True, serialize=False)),
                (
                    "next_slot_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
                ),
                ("lowered_to", models.FloatField(blank=True, null=True)),
                ("lowered_at", models.DateTimeField(blank=True, null=True)),
            ],
        ),
        migrations.CreateModel(
            name="StagedPart",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                ("content", models.BinaryField()),
            ],
        ),
        migrations.RemoveConstraint(
            model_name="flow",
            name="flow_of_lane",
        ),
        migrations.AddField(
            model_name="flow",
            name="next_slot_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(), editable=False
            ),
        ),
        migrations.AddField(
            model_name="flow",
            name="rate",
            field=models.FloatField(
                blank=True,
                help_text="At most so many a second, over all workers. Empty: as fast as it goes.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="notification",
            name="once_per_address",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.AddField(
            model_name="notification",
            name="row_number",
            field=models.BigIntegerField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="batch",
            name="api_key",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="users.apikey",
                verbose_name="API key",
            ),
        ),
        migrations.AddField(
            model_name="batch",
            name="created_by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="batch",
            name="project",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="batches",
                to="users.project",
            ),
        ),
        migrations.AddField(
            model_name="flow",
            name="batch",
            field=models.OneToOneField(
                blank=True,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="flow",
                to="notifications.batch",
            ),
        ),
        migrations.AddConstraint(
            model_name="flow",
            constraint=models.UniqueConstraint(
                condition=models.Q(("batch", None)),
                fields=("lane", "project"),
                name="flow_of_project",
            ),
        ),
        migrations.AddConstraint(
            model_name="flow",
            constraint=models.CheckConstraint(
                condition=models.Q(("rate", None), ("rate__gt", 0), _connector="OR"),
                name="flow_rate_positive",
            ),
        ),
        migrations.AddIndex(
            model_name="flow",
            index=models.Index(
                condition=models.Q(("paused", False)), fields=["lane"], name="flow_moving"
            ),
        ),
        migrations.AddField(
            model_name="stagedpart",
            name="batch",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="parts",
                to="notifications.batch",
            ),
        ),
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(fields=["project", "id"], name="batch_project"),
        ),
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(
                condition=models.Q(("finished_at", None)),
                fields=["status"],
                name="batch_unfinished",
            ),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.UniqueConstraint(fields=("project", "name"), name="batch_name"),
        ),
        migrations.AddConstraint(
            model_name="batch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "status__in",
                        ("loading", "ready", "running", "paused", "completed", "cancelled"),
                    )
                ),
                name="batch_status_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="stagedpart",
            constraint=models.UniqueConstraint(
                fields=("batch", "number"), name="staged_part_number"
            ),
        ),
    ]
