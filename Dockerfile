# Two stages: build the wheel and fetch OPA, then a slim image that runs as nobody.
FROM python:3.11-slim-bookworm AS build
COPY --from=openpolicyagent/opa:1.22.2-static /opa /opa
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator orchestrator
COPY adapters adapters
COPY gateway gateway
COPY rego rego
RUN pip install --no-cache-dir --prefix=/install '.[postgres,s3,mcp,redis]'

FROM python:3.11-slim-bookworm
COPY --from=build /opa /usr/local/bin/opa
COPY --from=build /install /usr/local
RUN useradd --system --uid 10001 --create-home regate && mkdir /data && chown regate /data
USER 10001
ENV REGATE_DATA_DIR=/data REGATE_LISTEN__HOST=0.0.0.0 PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["regate"]
CMD ["serve"]
