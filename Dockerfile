# Spark, Keras, elephas_fast and Jupyter, with the examples:
#   docker build -t elephas_fast .
#   docker run --rm -p 127.0.0.1:8888:8888 elephas_fast      the notebooks, at the address it prints
#   docker run --rm elephas_fast python examples/basic.py    a script
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++
COPY . /source
RUN pip wheel --no-deps --wheel-dir /wheels /source

FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless dataset-fashion-mnist \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[plot]" scikit-learn notebook
RUN useradd --create-home elephas
USER elephas
WORKDIR /home/elephas
COPY --chown=elephas examples examples
ENV TF_CPP_MIN_LOG_LEVEL=3
EXPOSE 8888
CMD ["jupyter", "notebook", "--ip=0.0.0.0", "--no-browser"]
