"""The web service."""

from __future__ import annotations

from fastapi import FastAPI, HTTPException

from stamp import __version__
from stamp.signer import Signer

app = FastAPI(title="stamp", version=__version__)
signer = Signer()


@app.get("/health")
def health() -> dict[str, str]:
    """Whether the service is up, and which version it is."""
    return {"status": "ok", "version": __version__}


@app.get("/key")
def key() -> dict[str, str]:
    """The key that stamps are verified with."""
    return {"key": signer.public_key}


@app.post("/stamp/{digest}")
def stamp(digest: str) -> dict[str, str]:
    """Sign a digest with the present time."""
    try:
        return signer.stamp(digest)
    except ValueError as error:
        raise HTTPException(422, str(error)) from None
