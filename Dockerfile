# docker build --tag sasrec . && docker run --rm sasrec
FROM python:3.11-slim AS tools
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --shell /bin/bash reader

FROM tools
USER reader
WORKDIR /home/reader/sasrec
COPY --chown=reader . .
RUN make .venv/installed
CMD ["make", "repro"]
