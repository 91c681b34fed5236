"""Uploads that a push began and did not end, because it was killed or failed: the next push to the registry ends them.

The specification has no request for that. Docker's registry and others take a DELETE of the upload's URL; the rest
remove such uploads after some time.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager

from hatch_docker.errors import HatchDockerError, RegistryError
from hatch_docker.oci.reference import Reference
from hatch_docker.oci.registry.session import Access, Request, Session
from hatch_docker.support.http import Sending


def noted(session: Session, target: Reference, url: str) -> AbstractContextManager[None]:
    """A block during which an upload to `url` goes on."""
    return session.unfinished.noted(json.dumps([str(target), url]))


def end_abandoned(session: Session, registry: str) -> None:
    """Ask a registry once to end each upload that earlier pushes left there, until it does not."""
    for note in session.unfinished.left():
        try:
            name, url = map(str, json.loads(note.text))
            target = Reference.parse(name)
            if target.registry == registry:
                note.remove()
                if not end(session, target, url):
                    return
        except (HatchDockerError, ValueError, TypeError):
            note.remove()


def end(session: Session, target: Reference, url: str) -> bool:
    """Ask a registry to end an upload; return whether it ends uploads."""
    # Other hosts that a registry sends uploads to have other ways to end them.
    if not session.is_of_registry(url, target):
        return True
    request = Request("DELETE", url, sending=Sending(retry=False))
    try:
        status = session.call(request, Access(reference=target, push=True, delete=True)).status
    except RegistryError:
        return False
    # 404: it has ended.
    return status < 300 or status == 404
