"""The web service."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException

from stamp import __version__
from stamp.signer import Signer

app = FastAPI(title="stamp", version=__version__)
signer = Signer()


@app.get("/health")
def health() -> dict[str, str]:
    """The status and version of the service."""
    return {"status": "ok", "version": __version__}


@app.get("/key")
def key() -> dict[str, str]:
    """The public key for verifying stamps."""
    return {"key": signer.public_key}


@app.post("/stamp/{digest}")
def stamp(digest: str) -> dict[str, str]:
    """Sign a digest with the current time."""
    try:
        return signer.stamp(digest)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
