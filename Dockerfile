# A server for bundles, without torch:
#
#     docker build -t echoic .
#     docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/run/bundle:/models/reviews:ro" -v "$PWD/token:/run/token:ro" \
#         echoic reviews=/models/reviews
#
# Within a container the server listens on every address, so it wants a token: a file of at least 16 characters,
# which nobody else may read (chmod 600) and which user 10001 owns. Browsers ask for it as a password.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python -m venv /opt/echoic && PIP_CONSTRAINT=/source/constraints.txt ECHOIC_REQUIRE_NATIVE=1 \
    /opt/echoic/bin/pip install --no-cache-dir "/source[serve]"

FROM python:3.11-slim
COPY --from=build /opt/echoic /opt/echoic
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["/opt/echoic/bin/python", "-c", "import urllib.request as r; r.urlopen('http://localhost:8000/healthz', timeout=3)"]
ENTRYPOINT ["/opt/echoic/bin/echoic", "serve", "--host", "0.0.0.0", "--token-file", "/run/token"]
