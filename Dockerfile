# The production image: no embedded databases, no root, collected static files.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
COPY requirements/base.txt /tmp/
RUN /venv/bin/pip install --require-hashes --only-binary :all: -r /tmp/base.txt
COPY . /app
WORKDIR /app
# The settings require secrets, hosts and a database, which collectstatic does not use. Each build generates new
# secrets; no layer contains them.
RUN SECRET_KEY=$(head -c 48 /dev/urandom | base64 -w0) DEBUG=0 ALLOWED_HOSTS=build \
    PRIVACY_KEYS=build:$(head -c 32 /dev/urandom | base64 -w0) \
    DATABASE_URL=postgres://build/build /venv/bin/python manage.py collectstatic --noinput

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /app backoffice && install -d -o backoffice /data
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER backoffice
# One proxy (docker-compose.yml: Caddy) is in front, and only it reaches the port. /data is no VOLUME: Docker would give
# each container one of its own, and the only copy of an archived part of the log would be in one of them.
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DEBUG=0 DATA_DIR=/data TRUSTED_PROXIES=1 \
    SHUTDOWN_DELAY=5
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "realtime.server", "--host", "0.0.0.0", "--port", "8000"]
