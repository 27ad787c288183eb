"""What the inbox needs to know of projects, people and keys. A key that could do everything can do this too."""

import django.contrib.postgres.fields
from django.db import migrations, models

import users.models

# A key with chosen scopes keeps to them.
WITH_EVERY_SCOPE = """
UPDATE users_apikey SET scopes = array_append(scopes, 'inbox')
WHERE scopes @> ARRAY['send', 'read', 'manage']::varchar[] AND NOT scopes @> ARRAY['inbox']::varchar[]
"""
WITHOUT_IT = "UPDATE users_apikey SET scopes = array_remove(scopes, 'inbox')"


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0005_console"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="inbox_origins",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    max_length=255, validators=[users.models.validate_origin]
                ),
                blank=True,
                db_default=[],
                default=list,
                help_text="Separated by commas, for example: https://app.example.com. Pages of these origins, and no others, may show a person's in-app messages, with a token that your backend has made.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="recipient",
            name="inbox_epoch",
            field=models.IntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AlterField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(
                    choices=[
                        ("send", "Send notifications, cancel them, mark them read"),
                        ("read", "Read notifications and users"),
                        ("manage", "Create, change and forget users"),
                        ("inbox", "Make the tokens with which users read their in-app messages"),
                    ],
                    max_length=10,
                ),
                default=users.models.every_scope,
                size=None,
            ),
        ),
        migrations.RunSQL(WITH_EVERY_SCOPE, WITHOUT_IT),
    ]
