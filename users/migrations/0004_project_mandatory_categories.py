"""Which categories go out also to who has complained. An older release, which does not know it, inserts none."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0003_forgetting"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="mandatory_categories",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=100),
                blank=True,
                db_default=[],
                default=list,
                help_text="Separated by commas, for example: receipts, security. These go out also to who has complained or unsubscribed; a hard bounce or an SMS STOP stops them too.",
                size=None,
            ),
        ),
    ]
