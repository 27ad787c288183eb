"""An older release, which does not know the column, goes on inserting projects: they have the default."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("users", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="project",
            name="unknown_policy",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "By priority: high and normal are sent once more, low is held"),
                    ("resend", "Send once more: nobody goes without, somebody may get it twice"),
                    ("hold", "Hold for an operator: nobody gets it twice, somebody may go without"),
                ],
                db_default="",
                default="",
                help_text="The connection broke, or a worker died, while a provider had the message. A change holds for all that are not yet decided; what is held already stays held.",
                max_length=6,
                verbose_name="when it is unknown whether it was sent",
            ),
        ),
    ]
