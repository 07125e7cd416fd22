"""The audit trail: who did what, when, from where, to how many; and whether the chain of hashes holds."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from control.permissions import PERMISSIONS
from dashboard.pages.rendering import page
from dashboard.security import allow
from dashboard.services import Opened
from ledger.audit import Entry

router = APIRouter()

_PAGE: Final = 100
_RESULTS: Final = ("done", "refused", "failed")

Text = Annotated[str, Query(max_length=200)]


@router.get("/audit", dependencies=[Depends(allow("list_audit"))])
def audit(
    request: Request,
    opened: Opened,
    name: Text = "",
    operation: Text = "",
    result: Text = "",
    before: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    rows = opened.audit.entries(
        name=name or None, operation=operation or None, result=result or None, before=before, limit=_PAGE
    )
    return page(
        request,
        "audit.html",
        title="Audit",
        topics="" if before else "audit",
        rows=[(row, _target(row), _pretty(row.change)) for row in rows],
        given={"name": name, "operation": operation, "result": result},
        operations=sorted(PERMISSIONS),
        results=_RESULTS,
        before=before,
        more=rows[-1].seq if len(rows) == _PAGE else "",
    )


@router.get("/audit/verify", dependencies=[Depends(allow("verify_audit"))])
def verify(request: Request, opened: Opened) -> Response:
    """Look at every hash again."""
    return page(request, "audit_verify.html", title="Audit", found=opened.audit.verify())


def _target(row: Entry) -> list[tuple[str, list[str]]]:
    """What it was done to, as names and values."""
    value = _read(row.target)
    return [(name, _listed(one)) for name, one in value.items()] if isinstance(value, dict) else []


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _pretty(text: str) -> str:
    value = _read(text)
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
