"""A web application with two dependencies: Flask, and Gunicorn that serves it."""

import pathlib

from flask import Flask, Response

app = Flask(__name__)
VERSION = pathlib.Path(__file__).with_name("VERSION").read_text().strip()


@app.get("/")
def hello():
    return Response(f"Hello from Berth (python) version {VERSION}\n", mimetype="text/plain")


@app.get("/healthz")
def healthz():
    return Response("ok\n", mimetype="text/plain")
