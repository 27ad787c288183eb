"""A heartbeat says which code its process runs, and how far its clock is from the database's.

With defaults of the database: an older worker that does not know the columns goes on.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("notifications", "0003_circuit")]

    operations = [
        migrations.AddField(
            "heartbeat", "version", models.CharField(max_length=20, blank=True, db_default="")
        ),
        migrations.AddField("heartbeat", "clock_ahead", models.FloatField(db_default=0.0)),
    ]
